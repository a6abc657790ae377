// What the page does by itself, without asking the server: select a word or an epoch, play, copy, say what is going on.
() => {
  const TEXTS = {
    busy: 'Captioning ...',
    again: 'Captioning ...',
    opening: 'Opening the captioner ...',
    failed: 'There is no caption: the request failed. Choose the picture again.',
  };
  const all = (root, what) => [...root.querySelectorAll(what)];

  // A walk shows the parts of `root` with data-place one after the other, in this page alone: a slow server cannot
  // make it jump or stop.
  let walk = null;
  const show = (root, place) => {
    for (const part of all(root, '[data-place]')) {
      const isHere = Number(part.dataset.place) === place;
      if (part.matches('button')) part.setAttribute('aria-pressed', isHere);
      else part.hidden = !isHere;
    }
    for (const seek of all(root, '[data-seek]')) seek.value = place;
  };
  const stop = () => {
    if (!walk) return;
    clearInterval(walk.timer);
    walk.button.textContent = 'Play';
    walk = null;
  };
  const play = button => {
    const root = document.querySelector(button.dataset.play);
    const line = root.querySelector('[data-start]');
    if (walk?.button === button) {
      line.dataset.resume = walk.place;
      return stop();
    }
    stop();
    const {start, last, resume} = line.dataset;
    delete line.dataset.resume;
    walk = {button, place: Number(resume ?? start)};
    show(root, walk.place);
    button.textContent = 'Pause';
    walk.timer = setInterval(() => {
      if (!line.isConnected) return stop();
      show(root, walk.place += 1);
      if (walk.place >= Number(last)) stop();
    }, 1000 * Number(button.dataset.seconds));
  };
  const select = (root, place) => {
    stop();
    delete root.querySelector('[data-start]').dataset.resume;
    show(root, place);
  };

  const copy = async button => {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page without https has no clipboard of this kind
      const field = document.body.appendChild(Object.assign(document.createElement('textarea'), {value: text}));
      field.select();
      document.execCommand('copy');
      field.remove();
    }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy caption'; }, 2000);
  };

  const closeMessages = () => all(document, '.toast-close').forEach(button => button.click());
  const turn = state => {
    document.querySelector('#desk').dataset.state = state;
    document.querySelector('#state p').textContent = TEXTS[state] ?? '';
  };
  window.captioning = {
    begin: state => {
      stop();
      closeMessages();
      turn(state);
      if (state === 'busy') requestAnimationFrame(() => document.querySelector('#state').scrollIntoView({block: 'nearest'}));
    },
    // The answer belongs to one picture and one captioner; while others are chosen, theirs is still to come.
    end: (picture, bundle, answered) => {
      if (answered === `${bundle} ${picture?.path ?? ''}`) turn('');
    },
    fail: (picture, bundle, answered) => {
      turn(answered === `${bundle} ${picture?.path ?? ''}` ? '' : 'failed');
    },
  };

  document.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (button?.matches('[data-play]')) play(button);
    if (button?.matches('[data-copy]')) copy(button);
    if (button?.matches('.word')) select(document.querySelector('#right'), Number(button.dataset.place));
    if (button?.matches('[role=tab]')) closeMessages();
  });
  document.addEventListener('input', event => {
    if (event.target.matches('[data-heat]')) document.body.style.setProperty('--heat', event.target.value / 100);
    if (event.target.matches('[data-seek]')) select(document.querySelector(event.target.dataset.seek), Number(event.target.value));
  });
  document.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key];
    const row = event.target.closest?.('[data-row]');
    if (!step || !row) return;
    const buttons = all(row, 'button');
    buttons[buttons.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  });
}
