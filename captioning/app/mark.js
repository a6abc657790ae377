// The stage: a part of the picture is marked as a box or painted in strokes.
let points = null, lines = [];  // of the box or stroke being drawn, and all strokes on this picture
const mark = () => element.querySelector('.mark');
const turn = mode => { element.dataset.mode = mode; };
const at = event => {
  const box = element.querySelector('.ground').getBoundingClientRect();
  const share = (value, low, size) => Math.round(1000 * Math.min(1, Math.max(0, (value - low) / size))) / 1000;
  return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
};
const along = (points, end) => {
  const {width, height} = mark().viewBox.baseVal;
  return 'M' + points.map(([x, y]) => `${x * width} ${y * height}`).join('L') + end;
};
const draw = (kind, path) => {
  mark().dataset.kind = kind;
  mark().querySelector('path').setAttribute('d', path);
};
const drawLines = () => draw('brush', [...lines, ...(points ? [points] : [])].map(line => along(line, 'h0')).join(''));
const paints = () => element.dataset.mode === 'brush';
element.addEventListener('click', event => {
  const mode = event.target.closest('button[data-mode]')?.dataset.mode;
  if (mode) turn(mode === element.dataset.mode ? '' : mode);
  else if (event.target.closest('button[data-event]')) turn('');
});
element.addEventListener('pointerdown', event => {
  const wanted = event.pointerType === 'mouse' || element.dataset.mode;
  if (!wanted || event.button || !event.isPrimary || !event.target.closest('.ground')) return;
  points = [at(event)];
  if (paints()) drawLines();
  element.setPointerCapture(event.pointerId);
});
element.addEventListener('pointermove', event => {
  if (!points || !event.isPrimary) return;
  const [x, y] = at(event), [fromX, fromY] = points.at(paints() ? -1 : 0);
  const [across, down] = [Math.abs(x - fromX), Math.abs(y - fromY)];
  if (paints()) {
    if (Math.hypot(across, down) > 0.01) points.push([x, y]);
    drawLines();
  } else if (Math.min(across, down) > 0.02) {
    points = [points[0], [x, y]];
    draw('box', along([points[0], [x, fromY], [x, y], [fromX, y]], 'Z'));
  }
});
const release = event => {
  if (!points || !event.isPrimary) return;
  const done = points;
  points = null;
  if (paints()) {
    lines.push(done);
    trigger('input', {value: {lines}});
  } else if (done.length > 1) {
    turn('');
    trigger('input', {value: {box: done.flat()}});
  }
};
element.addEventListener('pointerup', release);
element.addEventListener('pointercancel', release);
watch('value', () => {
  if (mark()?.dataset.kind === 'brush') drawLines();
  else lines = [];
});
