"""The tab on which one picture is captioned, looked into and put right.

Only wires widgets to describing.py; what a person looks at is one Described in their own session.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from captioning.app import rendering
from captioning.app.downloads import Keepsakes
from captioning.app.search_controls import search_dials
from captioning.app.tabs.feedback import FeedbackForm
from captioning.app.widgets import (
    HEAVY,
    LIGHT,
    MARK,
    PRESS,
    Player,
    captioner_choice,
    download,
    picture_input,
    piece,
    present,
    refusing,
)
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError
from captioning.options import DecodeOptions
from captioning.serving import session
from captioning.serving.adjustments import AS_IT_IS, Adjustments, example_png
from captioning.serving.pool import CaptionerPool
from captioning.serving.regions import WHOLE, Box, Region, box_around, box_between, region_sent
from captioning.serving.session import CaptionSession, explained

TURNS = [("as it is", 0), ("90°", 1), ("180°", 2), ("270°", 3)]
EDGES = (("Left", 0), ("Top", 0), ("Right", 100), ("Bottom", 100))  # of the marked part, in percent
WALK = 0.9  # seconds a word

Updates = dict[Any, Any]


class Asked(NamedTuple):
    """What the widgets of the tab say."""

    path: str | None
    bundle: str
    adjustments: Adjustments
    region: Region | None
    edges: tuple[float, ...]
    options: DecodeOptions

    def marked(self) -> Box:
        """The part of the picture within the edges."""
        left, top, right, bottom = (edge / 100 for edge in self.edges)
        return box_between(left, top, right, bottom)


class CaptionTab:
    """One picture, its caption, and all that can be done about it."""

    def __init__(self, shelf: CaptionerPool, store: FeedbackStore) -> None:
        self._shelf, self._seen = shelf, gr.State(None)
        self._spoken = piece(rendering.spoken(""), kind="unseen")
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="left", min_width=300):
                self._build_picture()
                with gr.Column(elem_id="tools"):
                    self._build_adjustments()
                    self._build_search()
            with gr.Column(elem_id="right", min_width=300):
                self._build_result()
                with gr.Column(elem_id="more", visible=False) as self._more:
                    self._build_part()
                    self._keepsakes = Keepsakes(self._seen)
                    self._form = FeedbackForm(self._seen, store)
        self._wire()

    def _build_picture(self) -> None:
        sources: Any = ["upload", "webcam", "clipboard"]
        self._photo = picture_input(
            label="Picture", sources=sources, height=330, buttons=[], elem_id="photo", alt_text="the picture chosen"
        )
        self._examples = piece(self._strip(self._shelf.names[0]), script=PRESS)
        self._bundle = captioner_choice(self._shelf.names)

    def _build_adjustments(self) -> None:
        with gr.Accordion("Turn, brighten", open=False):
            self._turns = gr.Radio(TURNS, value=0, label="Turned clockwise by")
            self._light = gr.Slider(0.4, 2, 1, step=0.1, label="Brightness", buttons=[])

    def _build_search(self) -> None:
        with gr.Accordion("How the caption is sought", open=False, elem_id="dials"):
            piece('<p class="faint">What has not been asked for before takes a second or two the first time.</p>')
            self._dials = search_dials(self._shelf.search(self._shelf.names[0]))
            self._again = gr.Button("Caption again", variant="primary")

    def _build_result(self) -> None:
        self._empty = piece(rendering.WELCOME)
        with gr.Column(visible=False, elem_id="result") as self._result:
            self._reader = piece(script=PRESS, elem_id="reader")
            self._stage = piece(script=MARK, elem_id="stage")
            self._player = Player("Word", seconds=WALK)

    def _build_part(self) -> None:
        with gr.Accordion("Other captions it found", open=False):
            self._others = piece(script=PRESS)
        with gr.Accordion("A part of the picture", open=False):
            piece('<p class="faint">Mark or paint it on the picture above, or set its edges here, in percent.</p>')
            with gr.Row(elem_classes="edges"):
                self._edges = [
                    gr.Slider(0, 100, value, step=1, label=name, min_width=120, buttons=[]) for name, value in EDGES
                ]
            with gr.Row():
                self._describe_part = gr.Button("Describe this part", size="sm", min_width=120)
                self._crop = gr.Button("Crop to this part", size="sm", min_width=120)
                self._whole = gr.Button("Whole picture", size="sm", min_width=120)

    def _wire(self) -> None:
        asked = [self._photo, self._bundle, self._turns, self._light, self._seen, *self._edges, *self._dials]
        outputs = [
            *(self._seen, self._spoken, self._empty, self._result, self._more, self._reader, self._stage),
            *(self._others, self._examples, self._turns, self._light),
            *(*self._edges, *self._dials, *self._player.parts, *self._keepsakes.parts, *self._form.parts),
        ]
        heavy = HEAVY | {"inputs": asked, "outputs": outputs, "show_progress_on": [self._empty, self._reader]}
        self._photo.change(self._on_picture, **heavy)
        self._again.click(self._on_again, **heavy)
        self._turns.input(self._on_again, **heavy, trigger_mode="always_last")
        self._light.release(self._on_again, **heavy, trigger_mode="always_last")
        self._bundle.change(self._on_bundle, **heavy)
        self._stage.input(self._on_mark, **heavy, trigger_mode="multiple")  # no stroke is lost while one is described
        self._stage.submit(self._on_whole, **heavy)
        self._describe_part.click(self._on_part, **heavy)
        self._crop.click(self._on_crop, **heavy)
        self._whole.click(self._on_whole, **heavy)
        heavy |= {"inputs": self._seen}
        self._reader.submit(self._on_choice, **heavy)
        self._others.select(self._on_other, **heavy)
        self._examples.select(self._on_example, None, self._photo, **LIGHT)
        self._reader.select(self._on_word, None, self._player.slider, **LIGHT)
        walked = [self._reader, self._stage]
        self._player.slider.change(self._on_step, [self._seen, self._player.slider], walked, **LIGHT)

    def _asked(self, values: tuple[Any, ...]) -> Asked:
        path, bundle, turns, light, seen, *rest = values
        edges, dials = rest[: len(EDGES)], rest[len(EDGES) :]
        before = seen.adjustments if seen else AS_IT_IS
        adjustments, region = replace(before, turns=turns, brightness=light), seen.region if seen else None
        if turns != before.turns:  # what was marked is now elsewhere
            adjustments, region = replace(adjustments, crop=WHOLE), None
        return Asked(path, bundle, adjustments, region, tuple(edges), session.options_of(dials))

    def _on_picture(self, *values: Any) -> Updates:
        if not values[0]:
            return self._nothing(rendering.WELCOME, "")
        try:
            seen = self._look(self._asked(values)._replace(adjustments=AS_IT_IS, region=None))
        except CaptioningError as error:
            return self._nothing(rendering.notice(explained(error)), explained(error))
        return seen | {self._turns: 0, self._light: 1} | self._form.fresh()

    def _on_again(self, *values: Any) -> Updates:
        with refusing():
            return self._look(self._asked(values))

    def _on_mark(self, event: gr.EventData, *values: Any) -> Updates:
        with refusing():
            return self._look(self._asked(values)._replace(region=region_sent(event.value)))

    def _on_part(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._look(asked._replace(region=asked.marked()))

    def _on_crop(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._look(asked._replace(region=None, adjustments=asked.adjustments.cropped(asked.marked())))

    def _on_whole(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._look(asked._replace(region=None, adjustments=replace(asked.adjustments, crop=WHOLE)))

    def _on_bundle(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            options = self._shelf.search(asked.bundle)
            dials = dict(zip(self._dials, session.values_of(options), strict=True))
            looked = self._look(asked._replace(options=options)) if asked.path else {}
        return {self._examples: self._strip(asked.bundle)} | dials | looked

    def _look(self, asked: Asked) -> Updates:
        if not asked.path:
            raise CaptioningError("There is no picture yet; choose one.")
        how = asked.options, asked.adjustments, asked.region
        return self._show(session.describe(self._shelf, asked.bundle, asked.path, *how))

    def _on_choice(self, event: gr.EventData, seen: CaptionSession | None) -> Updates:
        place, _, word = event.value.partition(" ")
        with refusing():
            return self._show(session.reworded(self._shelf, present(seen), int(place), word), int(place))

    def _on_other(self, event: gr.EventData, seen: CaptionSession | None) -> Updates:
        with refusing():
            return self._show(session.turned(self._shelf, present(seen), int(event.value)))

    def _on_word(self, event: gr.EventData) -> int:
        return int(event.value) + 1

    def _on_step(self, seen: CaptionSession | None, place: int) -> tuple[Any, Any]:
        if seen is None:
            return gr.skip(), gr.skip()
        return rendering.reader(seen, place - 1), rendering.stage(seen, place - 1)

    def _on_example(self, event: gr.EventData) -> str:
        return download(example_png(int(event.value)), f"example-{int(event.value) + 1}.png")

    def _show(self, seen: CaptionSession, place: int = 0) -> Updates:
        edges = (round(100 * share) for share in box_around(seen.region, seen.view))
        return {
            self._seen: seen,
            self._spoken: rendering.spoken(session.told(seen)),
            self._empty: gr.HTML(visible=False),
            self._result: gr.Column(visible=True),
            self._more: gr.Column(visible=True),
            self._reader: rendering.reader(seen, place),
            self._stage: rendering.stage(seen, place),
            self._others: rendering.others(seen),
            **dict(zip(self._edges, edges, strict=True)),
            **self._player.at(place + 1, len(seen.caption.words) + 1),
            **self._keepsakes.fresh(),
        }

    def _nothing(self, instead: str, said: str) -> Updates:
        return {
            self._seen: None,
            self._spoken: rendering.spoken(said),
            self._empty: gr.HTML(instead, visible=True),
            self._result: gr.Column(visible=False),
            self._more: gr.Column(visible=False),
        }

    def _strip(self, bundle: str) -> str:
        return rendering.example_strip(drawn=self._shelf.draws(bundle))
