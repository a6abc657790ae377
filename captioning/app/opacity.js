percent => { document.body.style.setProperty('--mask', percent / 100); }
