// The grid of a folder's pictures: only the cells on show are in the page, rows and thumbnails are loaded as needed.
const frame = () => element.querySelector('.folder');
const part = name => element.querySelector(`[data-part=${name}]`);
const field = name => element.querySelector(`[name=${name}]`);
const grid = () => element.querySelector('.grid');
const room = () => element.querySelector('.room');

const TEXTS = JSON.parse(frame().dataset.texts);
const language = (navigator.languages ?? [navigator.language]).map(code => code.slice(0, 2).toLowerCase())
  .find(code => TEXTS[code]) ?? 'en';
const say = (key, values = {}) => Object.entries(values)
  .reduce((text, [name, value]) => text.replace(`{${name}}`, value), TEXTS[language][key] ?? TEXTS.en[key] ?? key);
const translate = () => {
  frame().lang = language;
  for (const one of element.querySelectorAll('[data-t]')) one.textContent = say(one.dataset.t);
  for (const one of element.querySelectorAll('[data-ta]')) one.setAttribute('aria-label', say(one.dataset.ta));
};
translate();

const PAGE = 200;  // rows of one answer
const HEIGHT = 262, LEAST = 168, GAP = 10, SPARE = 2;  // pixels of a cell, and rows kept above and below those on show
let key = '', total = 0, version = -1, chosen = 0, state = {}, timer = null, editor = null, asked = 0;
let pages = new Map();  // page number -> its rows, null while they are on their way

const tell = text => { part('told').textContent = text; };
const ask = async (path, body) => {
  const settings = body === undefined ? {} :
    {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(body)};
  const answer = await fetch(`folder/${path}`, settings);
  const found = await answer.json();
  if (!answer.ok) throw new Error(typeof found.detail === 'string' ? found.detail : say('folder_failed'));
  return found;
};
const trying = async work => {
  try { return await work(); } catch (error) {
    tell(error instanceof TypeError ? say('folder_failed') : error.message);
  }
};
const view = () => ({order: field('order').value, show: field('show').value, words: field('words').value});

// What is on show
const columns = () => Math.max(1, Math.floor((grid().clientWidth + GAP) / (LEAST + GAP)));
const rowAt = index => pages.get(Math.floor(index / PAGE))?.[index % PAGE];
const load = async number => {
  pages.set(number, null);
  const mine = asked;
  const found = await trying(() => ask(`${key}/rows?${new URLSearchParams({...view(), start: number * PAGE})}`));
  if (mine !== asked) return;
  if (!found) { pages.delete(number); return; }
  pages.set(number, found.rows);
  if (found.total !== total) { total = found.total; chosen = Math.max(0, Math.min(chosen, total - 1)); }
  draw();
};
const sign = (row, box) => {
  const kind = row.problem ? 'trouble' : row.correction ? 'corrected' : row.accepted ? 'accepted' : row.verdict;
  const shown = {trouble: 'unsure', corrected: '', accepted: '', sure: '', 'not sure': 'unsure', unfamiliar: 'unsure', 'not calibrated': 'unknown', unknown: 'unknown'};
  if (!(kind in shown)) return;
  const text = say(`verdict_${kind.replace(' ', '_')}`);
  const isNumber = row.confidence !== null && ['sure', 'not sure'].includes(kind);
  const mark = Object.assign(document.createElement('span'), {className: `sign ${shown[kind]}`});
  mark.textContent = isNumber ? `${text} ${Math.round(100 * row.confidence)} %` : text;
  if (row.problem) mark.title = row.problem;
  box.append(mark);
};
const fill = (cell, index) => {
  const row = rowAt(index);
  const made = row ? JSON.stringify(row) : '';
  if (cell.dataset.made === made && cell.childElementCount) return;
  cell.dataset.made = made;
  cell.replaceChildren();
  const name = Object.assign(document.createElement('small'), {className: 'name', textContent: row?.name ?? ''});
  const image = document.createElement('img');
  if (row) {
    image.alt = row.text || row.name;
    image.decoding = 'async';
    image.onerror = () => image.classList.add('lost');
    image.src = `folder/${key}/small/${row.id}?${row.time}`;
  }
  const text = Object.assign(document.createElement('p'), {className: 'text', textContent: row?.text || row?.problem || ''});
  if (row?.language && !row.correction) text.lang = row.language;
  const marks = Object.assign(document.createElement('div'), {className: 'signs'});
  if (row) sign(row, marks);
  cell.append(image, text, marks, name);
};
const draw = () => {
  if (!key || !grid().clientWidth) return;
  const across = columns(), lines = Math.ceil(total / across);
  room().style.height = `${lines * (HEIGHT + GAP)}px`;
  grid().setAttribute('aria-rowcount', lines);
  const top = Math.max(0, Math.floor(grid().scrollTop / (HEIGHT + GAP)) - SPARE);
  const bottom = Math.ceil((grid().scrollTop + grid().clientHeight) / (HEIGHT + GAP)) + SPARE;
  const first = top * across, last = Math.min(total, bottom * across);
  const cells = new Map([...room().children].map(cell => [Number(cell.dataset.index), cell]));
  for (const [index, cell] of cells) if ((index < first || index >= last) && cell !== editor?.cell) cell.remove();
  const width = (grid().clientWidth - (across - 1) * GAP) / across;
  for (let index = first; index < last; index += 1) {
    let cell = cells.get(index);
    if (!cell?.isConnected) {
      cell = Object.assign(document.createElement('div'), {className: 'cell', id: `cell-${index}`});
      cell.setAttribute('role', 'gridcell');
      cell.dataset.index = index;
      room().append(cell);
    }
    cell.style.transform = `translate(${(index % across) * (width + GAP)}px, ${Math.floor(index / across) * (HEIGHT + GAP)}px)`;
    cell.style.width = `${width}px`;
    cell.setAttribute('aria-selected', index === chosen);
    if (cell !== editor?.cell) fill(cell, index);
    const page = Math.floor(index / PAGE);
    if (!pages.has(page)) load(page);
  }
  grid().setAttribute('aria-activedescendant', `cell-${chosen}`);
  part('count').textContent = say('folder_count', {count: total.toLocaleString(language)});
};
const renew = () => {  // the rows are asked for again, while those known stay on show
  asked += 1;
  const shown = [...new Set([...room().children].map(cell => Math.floor(Number(cell.dataset.index) / PAGE)))];
  pages = new Map([...pages].filter(([number, rows]) => shown.includes(number) && rows));
  (shown.length ? shown : [0]).forEach(number => { const known = pages.get(number); load(number); if (known) pages.set(number, known); });
};
const restart = () => { asked += 1; pages = new Map(); chosen = 0; total = 0; grid().scrollTop = 0; room().replaceChildren(); load(0); };
let frameAsked = 0;
const later = () => { cancelAnimationFrame(frameAsked); frameAsked = requestAnimationFrame(draw); };

// What is going on
const follow = found => {
  if (!found) return;
  state = found;
  const done = found.all - found.none;
  element.querySelector('progress').value = found.all ? done / found.all : 0;
  part('progress').textContent = `${done.toLocaleString(language)} / ${found.all.toLocaleString(language)}`
    + (found.trouble ? ` · ${say('folder_troubles', {count: found.trouble})}` : '');
  element.querySelector('[data-act=stop]').hidden = !found.task;
  element.querySelector('[data-act=caption]').hidden = Boolean(found.task);
  element.querySelector('[data-act=undo]').disabled = !found.steps;
  if (found.said) tell(found.said);
  if (version >= 0 && found.version !== version) renew();
  version = found.version;
};
const watchState = async () => {
  clearTimeout(timer);
  if (!element.isConnected) return;
  if (key && !document.hidden && grid().clientWidth) follow(await ask(`${key}/state`).catch(error => tell(error.message)));
  timer = setTimeout(watchState, state.task ? 1000 : 3000);
};
const act = async (action, body = {}) => {
  tell('');
  const found = await trying(() => ask(`${key}/${action}`, body));
  follow(found);
  if (!found) renew();
  return found;
};
const open = async () => {
  tell('');
  const button = element.querySelector('.open button');
  button.disabled = true;
  part('hint').textContent = say('folder_opening');
  try {
    const found = await ask('open', {folder: field('folder').value});
    key = found.key;
    version = -1;
    field('folder').value = found.folder;
    part('hint').textContent = '';
    part('opened').hidden = false;
    part('kept').textContent = say('folder_kept', {file: found.database});
    follow(found);
    restart();
    watchState();
    grid().focus({preventScroll: true});
  } catch (error) {
    part('hint').textContent = error instanceof TypeError ? say('folder_failed') : error.message;
  } finally { button.disabled = false; }
};

// Keys
const choose = index => {
  if (!total) return;
  chosen = Math.max(0, Math.min(total - 1, index));
  const top = Math.floor(chosen / columns()) * (HEIGHT + GAP), box = grid();
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + HEIGHT - box.clientHeight;
  draw();
};
const edit = (typed = null) => {
  const row = rowAt(chosen), cell = element.querySelector(`#cell-${chosen}`);
  if (!row || !cell || editor) return;
  const box = Object.assign(document.createElement('textarea'), {value: typed ?? row.text, maxLength: 500});
  box.setAttribute('aria-label', say('folder_correct', {name: row.name}));
  editor = {cell, row, box};
  cell.querySelector('.text').replaceWith(box);
  box.focus();
  box.addEventListener('keydown', event => {
    event.stopPropagation();
    if (event.isComposing) return;
    if (event.key === 'Enter') { event.preventDefault(); close(true); choose(chosen + 1); }
    if (event.key === 'Escape') { event.preventDefault(); close(false); }
  });
  box.addEventListener('blur', () => close(true));
};
const close = isKept => {
  if (!editor) return;
  const {cell, row, box} = editor, text = box.value;
  editor = null;
  cell.dataset.made = '-';
  grid().focus({preventScroll: true});
  if (isKept && text !== row.text) act('correct', {id: row.id, text, before: row.text});
  draw();
};
const accept = () => {
  const row = rowAt(chosen);
  if (!row) return;
  act('accept', {ids: [row.id], right: !row.accepted});
  if (!row.accepted && field('show').value === 'all') choose(chosen + 1);
};
const KEYS = {
  ArrowRight: () => choose(chosen + 1), ArrowLeft: () => choose(chosen - 1),
  ArrowDown: () => choose(chosen + columns()), ArrowUp: () => choose(chosen - columns()),
  PageDown: () => choose(chosen + columns() * Math.max(1, Math.floor(grid().clientHeight / (HEIGHT + GAP)))),
  PageUp: () => choose(chosen - columns() * Math.max(1, Math.floor(grid().clientHeight / (HEIGHT + GAP)))),
  Home: () => choose(0), End: () => choose(total - 1), Enter: () => edit(), F2: () => edit(), ' ': accept,
  '/': () => field('words').focus(),
};
element.addEventListener('keydown', event => {
  if (event.target !== grid() || event.isComposing) {
    if (event.key === 'Enter' && event.target.name === 'words') grid().focus();
    return;
  }
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === 'z') { event.preventDefault(); act('undo'); return; }
  if (isCommand || event.altKey) return;
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
  else if (event.key.length === 1) { event.preventDefault(); edit(event.key); }
});

// Pointer, fields and buttons
element.addEventListener('click', event => {
  const cell = event.target.closest('.cell'), button = event.target.closest('[data-act]');
  if (cell && !event.target.closest('textarea')) {
    const isAgain = Number(cell.dataset.index) === chosen && event.target.closest('.text');
    choose(Number(cell.dataset.index));
    grid().focus({preventScroll: true});
    if (isAgain) edit();
  }
  const doing = button?.dataset.act;
  if (doing === 'caption') act('caption', {bundle: field('bundle').value, language: field('language').value});
  else if (doing === 'accept') accept();
  else if (doing === 'write' && field('target').value === 'csv') location.href = `folder/${key}/captions.csv?${new URLSearchParams(view())}`;
  else if (doing === 'write' && confirm(say('folder_sure', {count: total})))
    act('write', {target: field('target').value, exists: field('exists').value, ...view()});
  else if (['stop', 'undo', 'take-back'].includes(doing)) act(doing);
});
element.addEventListener('dblclick', event => { if (event.target.closest('.cell') && !event.target.closest('textarea')) edit(); });
element.addEventListener('submit', async event => {
  event.preventDefault();
  if (event.target.matches('.open')) open();
  else {
    const found = await act('replace', {find: field('find').value, put: field('put').value, ...view()});
    if (found) tell(say('folder_replaced', {count: found.done}));
  }
});
let typing = null;
element.addEventListener('input', event => {
  clearTimeout(typing);
  if (event.target.name === 'words') typing = setTimeout(restart, 200);
  if (event.target.name === 'folder') typing = setTimeout(offer, 150);
});
element.addEventListener('change', event => { if (['order', 'show'].includes(event.target.name)) restart(); });
const offer = async () => {
  const found = await ask(`places?${new URLSearchParams({start: field('folder').value})}`).catch(() => []);
  element.querySelector('datalist').replaceChildren(...found.map(value => Object.assign(document.createElement('option'), {value})));
};
grid().addEventListener('scroll', later, {passive: true});
new ResizeObserver(later).observe(grid());
offer();
