"""The page's own widgets, and how its events behave."""

import contextlib
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from captioning.errors import CaptioningError
from captioning.serving.session import CaptionSession, explained

# What cannot be refused is done at once; all else waits its turn in a queue of bounded length, or nobody would be told
# of the refusal.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
LIGHT: dict[str, Any] = QUIET | {"queue": False, "trigger_mode": "always_last"}
STORE: dict[str, Any] = QUIET | {"concurrency_id": "store"}
HEAVY: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "concurrency_id": "captioner"}

PRESS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-event]');
  if (button) trigger(button.dataset.event, {value: button.dataset.value});
});
element.addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key];
  const row = event.target.closest('[data-row]');
  if (!step || !row) return;
  const buttons = [...row.querySelectorAll('button')];
  buttons[buttons.indexOf(event.target) + step]?.focus();
  event.preventDefault();
});
"""
MARK = (
    PRESS
    + """
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
"""
)
TICK = """
const boxes = () => [...element.querySelectorAll('input[data-id]')];
element.addEventListener('click', event => {
  if (event.target.closest('[data-all]')) boxes().forEach(box => { box.checked = true; });
  const ticked = boxes().filter(box => box.checked).map(box => Number(box.dataset.id));
  if (event.target.closest('[data-delete]') && ticked.length
      && confirm(`Delete ${ticked.length} of the entries, and the pictures that only they need?`))
    trigger('delete', {value: ticked});
});
watch('value', () => boxes().forEach(box => { box.checked = false; }));
"""


def picture_input(**settings: Any) -> gr.Image:
    """A place for a picture that hands on the file as it came: what it is, read_image says, in its own words."""
    image = gr.Image(type="filepath", **settings)
    image.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return image


def piece(value: str = "", *, script: str | None = None, kind: str = "", **settings: Any) -> gr.HTML:
    """A piece of HTML of our own making, with what it does when it is pressed."""
    return gr.HTML(value, js_on_load=script, apply_default_css=False, elem_classes=["piece", kind], **settings)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What a person did wrong is told to them, and what they see stays as it is."""
    try:
        yield
    except CaptioningError as error:
        raise gr.Error(escape(explained(error)), print_exception=False) from None


def present(seen: CaptionSession | None) -> CaptionSession:
    """What a person looks at, refused where their session has been forgotten."""
    if seen is None:
        raise gr.Error("This page was left for too long: choose the picture again.", print_exception=False)
    return seen


def download(data: bytes | str, name: str) -> str:
    """The path of a file to hand out, where nothing else lies and whence it is removed after a while."""
    return save_bytes_to_cache(data.encode() if isinstance(data, str) else data, name, get_upload_folder())


def captioner_choice(names: list[str]) -> gr.Dropdown:
    """The choice of a bundle; it is not seen where there is none."""
    return gr.Dropdown(names, value=names[0], label="Captioner", visible=len(names) > 1, filterable=False)


class Player:
    """A slider over the steps of something, and a button that walks along them."""

    def __init__(self, label: str, *, seconds: float) -> None:
        with gr.Row(elem_classes="player"):
            self.button = gr.Button("Play", size="sm", scale=0, min_width=88)
            self.slider = gr.Slider(1, 2, 1, step=1, precision=0, label=label, buttons=[])
        self._count, self._is_playing = gr.State(1), gr.State(False)
        self._timer = gr.Timer(seconds, active=False)
        moved = [self.slider, self._is_playing, self._timer, self.button]
        self.button.click(self._press, [self.slider, self._count, self._is_playing], moved, **LIGHT)
        self._timer.tick(self._step, [self.slider, self._count], moved, **LIGHT)

    @property
    def parts(self) -> list[Any]:
        """What `at` gives new values to."""
        return [self.slider, self._count, self._is_playing, self._timer, self.button]

    def at(self, place: int, count: int) -> dict[Any, Any]:
        """Stopped at a place of so many."""
        slider = gr.Slider(value=place, maximum=max(count, 2))
        return {self.slider: slider, self._count: count} | self._playing(False)

    def _press(self, place: int, count: int, is_playing: bool) -> dict[Any, Any]:
        if is_playing:
            return self._playing(False)
        return {self.slider: 1 if place >= count else place + 1} | self._playing(True)

    def _step(self, place: int, count: int) -> dict[Any, Any]:
        if place >= count:
            return self._playing(False)
        return {self.slider: place + 1} | self._playing(place + 1 < count)

    def _playing(self, is_playing: bool) -> dict[Any, Any]:
        label = "Pause" if is_playing else "Play"
        return {self._is_playing: is_playing, self._timer: gr.Timer(active=is_playing), self.button: gr.Button(label)}
