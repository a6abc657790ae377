// What the page does by itself, without asking the server: select a word or an epoch, play, copy, say what is going on.
() => {
  // The page's own texts in the first of the browser's languages that there are texts in.
  const OURS = OUR_TEXTS;
  const language = (navigator.languages ?? [navigator.language]).map(code => code.slice(0, 2).toLowerCase())
    .find(code => OURS[code]) ?? 'en';
  const say = key => OURS[language][key] ?? '';
  const translate = () => {
    if (language === 'en') return;
    for (const one of document.querySelectorAll('[data-t]')) {
      const text = say(one.dataset.t);
      if (!text || one.dataset.said === text) continue;
      one.dataset.said = one.textContent = text;
      one.lang = language;
    }
  };
  new MutationObserver(translate).observe(document.body, {childList: true, subtree: true});
  translate();
  const STATES = {busy: 'busy', again: 'busy', opening: 'opening', failed: 'failed'};
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
    walk.button.textContent = say('play');
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
    button.textContent = say('pause');
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
    button.textContent = say('copied');
    setTimeout(() => { button.textContent = say('copy'); }, 2000);
  };

  // The browser's own voice, in the caption's language; a second press ends it.
  const speak = button => {
    const voices = window.speechSynthesis;
    if (!voices) return;
    const isSpeaking = voices.speaking;
    voices.cancel();
    if (isSpeaking) return;
    const words = new SpeechSynthesisUtterance(button.dataset.speak);
    words.lang = button.dataset.lang;
    const voice = voices.getVoices().find(each => each.lang.toLowerCase().startsWith(words.lang.toLowerCase()));
    if (voice) words.voice = voice;
    words.onstart = () => { button.textContent = say('hush'); };
    words.onend = words.onerror = () => { button.textContent = say('aloud'); };
    voices.speak(words);
  };

  const closeMessages = () => all(document, '.toast-close').forEach(button => button.click());
  const turn = state => {
    document.querySelector('#desk').dataset.state = state;
    document.querySelector('#state p').textContent = STATES[state] ? say(STATES[state]) : '';
  };
  window.captioning = {
    begin: state => {
      stop();
      window.speechSynthesis?.cancel();
      closeMessages();
      turn(state);
      if (state === 'busy') requestAnimationFrame(() => document.querySelector('#state').scrollIntoView({block: 'nearest'}));
    },
    // How opaque the masks of segments are, in percent.
    cover: percent => document.body.style.setProperty('--mask', percent / 100),
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
    if (button?.matches('[data-speak]')) speak(button);
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
