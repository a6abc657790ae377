// The page: takes a photograph, shows its caption and the attention of every word. captioner.js computes them.

import {draw} from './attention.js';

const WORD = 900;  // milliseconds a word
const LIVE = 250;  // least milliseconds between two live captions
const SPOKEN = 4000;  // least milliseconds between two live captions for a screen reader
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

const TROUBLE = {
  old: 'This browser cannot run the captioner, which needs WebAssembly with SIMD. Use a current Firefox, Chrome, Edge or Safari.',
  download: 'The captioner could not be downloaded. Check the connection, then try again.',
  unreadable: 'This file is no picture that the browser can read. Choose a JPEG, PNG or WebP file.',
  shape: 'This picture is too small or too narrow. Choose one of at least 8 pixels a side that is at most 20 times as long as wide.',
  noPicture: 'There is no picture here. Copy or drop a photograph itself, not a link to it.',
  noCamera: 'No camera was found. Connect one, or choose a photograph instead.',
  refused: 'The browser may not use the camera. Allow it in the settings of this page, or choose a photograph instead.',
  insecure: 'Browsers open the camera on https pages only. Choose a photograph instead.',
  noVoice: 'This device has no voice of its own for reading aloud.',
  noClipboard: 'The browser did not allow copying. Select the caption and copy it.',
  other: 'The caption could not be computed. Load the page again.',
};

const ids = ['file', 'camera', 'shoot', 'paste', 'empty', 'ground', 'photo', 'video', 'heat', 'shown', 'status', 'failure',
  'retry', 'loading', 'spoken', 'result', 'words', 'sign', 'meaning', 'copy', 'speak', 'player', 'back', 'play', 'next',
  'place', 'offline'];
const at = Object.fromEntries(ids.map(id => [id, document.getElementById(id)]));
const megabytes = bytes => (bytes / 1e6).toFixed(1);
const percent = share => `${Math.round(100 * share)}%`;

let settings = null;  // of the captioner, once it is open
let current = null;  // the caption shown
let place = -1;  // the word whose attention is shown, -1 for none
let turn = 0;  // counts the pictures, so that the answer for an earlier one is dropped
let player = null;
let waiting = null;  // the photograph that has no caption yet

// The captioner. A worker from a blob inherits this page's security policy, one from a file would not.

let worker = null, asked = new Map();

function ask(message, transfer = []) {
  return new Promise((resolve, reject) => {
    const id = crypto.getRandomValues(new Uint32Array(1))[0];
    asked.set(id, {resolve, reject});
    worker.postMessage({...message, id}, transfer);
  });
}

function listen({data}) {
  if (data.kind === 'progress') return showProgress(data);
  if (data.kind === 'opening') return showProgress(null);
  const {resolve, reject} = asked.get(data.id);
  asked.delete(data.id);
  if (data.kind === 'done') resolve(data.result);
  else reject(Object.assign(new Error(data.message), {reason: data.reason}));
}

function open() {
  worker?.terminate();
  const script = new Blob([`import ${JSON.stringify(new URL('captioner.js', location).href)};`], {type: 'text/javascript'});
  worker = new Worker(URL.createObjectURL(script), {type: 'module'});
  worker.addEventListener('message', listen);
  worker.addEventListener('error', () => asked.forEach(({reject}) => reject({reason: 'download'})));
  asked = new Map();
  clearFailure();
  at.loading.hidden = false;
  say('Downloading the captioner. This happens once.');
  return ask({}).then(async found => {
    settings = found;
    at.loading.hidden = true;
    say('Ready. Choose a photograph.');
    await showOffline();
  });
}

function showProgress(progress) {
  const [bar, label] = at.loading.children;
  if (!progress) {
    bar.removeAttribute('value');
    label.textContent = 'Opening the captioner';
    return;
  }
  Object.assign(bar, {max: progress.total, value: progress.loaded});
  label.textContent = `${megabytes(progress.loaded)} of ${megabytes(progress.total)} MB`;
}

async function showOffline() {
  if (!navigator.serviceWorker?.controller) return;
  for (let wait = 0; wait < 20; wait++) {
    const kept = await Promise.all(settings.files.map(({name}) => caches.match(name)));
    if (kept.every(Boolean)) {
      at.offline.textContent = 'Saved on this device: the page works offline from now on.';
      return;
    }
    await new Promise(done => setTimeout(done, 250));
  }
}

async function keepForOffline() {
  const {serviceWorker} = navigator;
  if (!serviceWorker) return;
  const controlled = new Promise(done => serviceWorker.addEventListener('controllerchange', done, {once: true}));
  try {
    await serviceWorker.register('service-worker.js');
  } catch {  // the page works without one, if not offline
    return;
  }
  const tooLong = new Promise(done => setTimeout(done, 4000));
  if (!serviceWorker.controller) await Promise.race([controlled, tooLong]);
}

// What is said

function say(sentence) {
  at.status.textContent = sentence;
}

function fail(reason) {
  say('');
  at.loading.hidden = true;
  at.failure.hidden = false;
  at.retry.hidden = reason !== 'download';
  at.failure.firstElementChild.textContent = TROUBLE[reason] ?? TROUBLE.other;
}

function clearFailure() {
  at.failure.hidden = true;
}

// Pictures

function fit(width, height) {
  at.ground.style.setProperty('--ratio', width / height);
}

at.photo.addEventListener('load', () => fit(at.photo.naturalWidth, at.photo.naturalHeight));

async function caption(picture, isLive = false) {
  const transfer = picture instanceof ImageBitmap ? [picture] : [];
  await ready;
  return ask({picture, isLive}, transfer);
}

async function take(blob) {
  stopCamera();
  clearFailure();
  hideCaption();
  const mine = ++turn;
  waiting = blob;
  URL.revokeObjectURL(at.photo.src);
  at.photo.src = URL.createObjectURL(blob);
  at.photo.alt = 'The photograph';
  at.photo.hidden = false;
  at.empty.hidden = true;
  at.ground.hidden = false;
  say(settings ? 'Captioning.' : 'The photograph is captioned as soon as the captioner is here.');
  try {
    const found = await caption(blob);
    if (mine !== turn) return;
    waiting = null;
    at.photo.alt = `The photograph: ${found.text}`;
    show(found);
    say('');
    at.spoken.textContent = `Caption: ${found.text}. ${sureness(found)[0]}.`;
  } catch ({reason}) {
    if (mine !== turn) return;
    if (reason === 'unreadable' || reason === 'shape') {
      waiting = null;
      at.ground.hidden = true;
      at.empty.hidden = false;
    }
    fail(reason);
  }
}

function takeFirst(files) {
  const picture = [...files].find(file => file.type.startsWith('image/')) ?? files[0];
  if (picture) take(picture);
  else fail('noPicture');
}

at.file.addEventListener('change', () => {
  if (at.file.files.length) takeFirst(at.file.files);
  at.file.value = '';
});
document.addEventListener('dragover', event => {
  event.preventDefault();
  document.body.classList.add('over');
});
for (const kind of ['dragleave', 'drop']) {
  document.addEventListener(kind, () => document.body.classList.remove('over'));
}
document.addEventListener('drop', event => {
  event.preventDefault();
  takeFirst(event.dataTransfer.files);
});
document.addEventListener('paste', event => takeFirst(event.clipboardData.files));
at.paste.hidden = !navigator.clipboard?.read;
at.paste.addEventListener('click', async () => {
  const items = await navigator.clipboard.read().catch(() => []);
  const found = items.map(item => [item, item.types.find(type => type.startsWith('image/'))]).find(([, type]) => type);
  if (found) take(await found[0].getType(found[1]));
  else fail('noPicture');
});

// The camera

let stream = null;

async function startCamera() {
  clearFailure();
  if (!navigator.mediaDevices) return fail('insecure');
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  } catch (error) {
    return fail(error.name === 'NotAllowedError' ? 'refused' : 'noCamera');
  }
  at.video.srcObject = stream;
  await at.video.play();
  stream.getVideoTracks()[0].addEventListener('ended', stopCamera);
  hideCaption();
  turn++;
  fit(at.video.videoWidth, at.video.videoHeight);
  at.photo.hidden = at.empty.hidden = true;
  at.ground.hidden = at.video.hidden = at.shoot.hidden = false;
  at.camera.textContent = 'Stop the camera';
  say(settings ? 'The camera is captioned live.' : 'The camera is captioned as soon as the captioner is here.');
  captionLive(stream);
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = at.video.srcObject = null;
  hideCaption();
  at.video.hidden = at.shoot.hidden = at.ground.hidden = true;
  at.empty.hidden = false;
  at.camera.textContent = 'Use the camera';
  say(settings ? 'Ready. Choose a photograph.' : '');
}

async function captionLive(mine) {
  let spoken = 0;
  while (mine === stream) {
    const began = performance.now();
    if (!document.hidden) {
      try {
        const found = await caption(await createImageBitmap(at.video), true);
        if (mine !== stream) return;
        show(found);
        if (began - spoken > SPOKEN && at.spoken.textContent !== found.text) {
          at.spoken.textContent = found.text;
          spoken = began;
        }
      } catch ({reason}) {
        if (mine === stream) stopCamera();
        return fail(reason);
      }
    }
    await new Promise(done => setTimeout(done, Math.max(20, LIVE - (performance.now() - began))));
  }
}

async function shoot() {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [at.video.videoWidth, at.video.videoHeight];
  canvas.getContext('2d').drawImage(at.video, 0, 0);
  canvas.toBlob(take, 'image/png');
}

at.camera.addEventListener('click', () => stream ? stopCamera() : startCamera());
at.shoot.addEventListener('click', shoot);

// The caption and its attention

/** What is said of a caption, the class of its sign, and what that means. */
function sureness({confidence, familiar, isSure}) {
  if (familiar === false) {
    return ['Unfamiliar picture', 'unsure', 'Unlike the validation pictures, so its confidence is unknown. '];
  }
  if (confidence === null) return ['Confidence unknown', 'unknown', ''];
  const meaning = `Of captions like this, about ${Math.round(100 * confidence)} in 100 were good on validation pictures. `;
  return isSure ? [`Sure, ${percent(confidence)}`, 'sure', meaning]
    : [`Not sure, ${percent(confidence)}`, 'unsure', meaning];
}

function hideCaption() {
  pause();
  at.result.hidden = true;
  at.shown.textContent = '';
  draw(at.heat, null);
}

function show(found) {
  current = found;
  at.result.hidden = false;
  at.words.replaceChildren(...found.words.flatMap((word, number) => [button(word, number), ' ']));
  const [sign, kind, meaning] = sureness(found), {encoder, words} = found.milliseconds;
  at.sign.textContent = sign;
  at.sign.className = kind;
  at.meaning.textContent = `${meaning}Computed in ${((encoder + words) / 1000).toFixed(1)} s.`;
  at.player.hidden = Boolean(stream) || !found.words.length;
  at.place.max = found.words.length - 1;
  select(-1);
}

function button(word, number) {
  const made = Object.assign(document.createElement('button'), {type: 'button', textContent: word.text, className: 'word'});
  made.dataset.place = number;
  made.disabled = Boolean(stream);
  made.setAttribute('aria-label', `${word.text}, ${percent(word.probability)}`);
  made.style.setProperty('--likely', percent(0.45 * word.probability));
  return made;
}

/** Shows the attention of one word, or with -1 the photograph alone. */
function select(number) {
  place = Math.max(-1, Math.min(number, current.words.length - 1));
  const word = current.words[place];
  for (const one of at.words.children) one.setAttribute('aria-pressed', Number(one.dataset.place) === place);
  at.place.value = place;
  at.place.setAttribute('aria-valuetext', word ? `${place + 1} of ${current.words.length}: ${word.text}` : 'no word');
  at.back.disabled = place < 0;
  at.next.disabled = place === current.words.length - 1;
  at.shown.textContent = word ? `Attention of \u201c${word.text}\u201d, ${percent(word.probability)} likely` : '';
  draw(at.heat, word?.attention);
}

function pause() {
  clearInterval(player);
  player = null;
  at.play.textContent = 'Play';
}

function play() {
  if (player) return pause();
  if (place >= current.words.length - 1) select(-1);
  select(place + 1);
  at.play.textContent = 'Pause';
  player = setInterval(() => {
    if (place >= current.words.length - 1) pause();
    else select(place + 1);
  }, WORD);
}

function step(change) {
  pause();
  select(place + change);
}

at.play.addEventListener('click', play);
at.back.addEventListener('click', () => step(-1));
at.next.addEventListener('click', () => step(1));
at.place.addEventListener('input', () => step(Number(at.place.value) - place));
at.words.addEventListener('click', ({target}) => {
  if (target.dataset.place) step(target.getAttribute('aria-pressed') === 'true' ? -1 - place : Number(target.dataset.place) - place);
});
at.words.addEventListener('keydown', event => {
  const change = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key];
  const word = change && at.words.querySelector(`[data-place="${Number(event.target.dataset.place) + change}"]`);
  if (!word) return;
  event.preventDefault();
  step(Number(word.dataset.place) - place);
  word.focus();
});

at.copy.addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(current.text);
    say('Copied.');
  } catch {
    fail('noClipboard');
  }
});

// Only voices of the device: others send the text to a server.
at.speak.hidden = !window.speechSynthesis;
at.speak.addEventListener('click', () => {
  const voices = speechSynthesis.getVoices().filter(one => one.localService);
  const voice = voices.find(one => one.lang.startsWith('en')) ?? voices[0];
  if (!voice) return fail('noVoice');
  speechSynthesis.cancel();
  speechSynthesis.speak(Object.assign(new SpeechSynthesisUtterance(current.text), {voice, lang: 'en'}));
});

const canRun = () => [window.OffscreenCanvas, window.DecompressionStream, window.createImageBitmap].every(Boolean)
  && window.WebAssembly?.validate(new Uint8Array(SIMD));

let ready = null;

function begin() {
  ready = canRun() ? keepForOffline().then(open) : Promise.reject({reason: 'old'});
  ready.catch(({reason}) => fail(reason));
}

at.retry.addEventListener('click', () => {
  begin();
  if (waiting) take(waiting);
});
begin();
