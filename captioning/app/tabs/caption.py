"""The tab on which one picture is captioned, examined and corrected.

It only connects widgets to serving/session.py; each visitor has one CaptionSession.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from captioning.app import rendering
from captioning.app.downloads import FigureDownloads
from captioning.app.search_controls import SearchControls
from captioning.app.tabs.feedback import FeedbackForm
from captioning.app.tabs.questions import QuestionForm
from captioning.app.texts import SAY
from captioning.app.widgets import (
    HEAVY,
    LIGHT,
    MARK,
    PRESS,
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
NEW_PICTURE = "picture => captioning.begin(picture ? 'busy' : 'empty')"
NEW_CAPTIONER = "picture => captioning.begin(picture ? 'busy' : 'opening')"
NEW_VIEW = "picture => picture && captioning.begin('busy')"
SAME_VIEW = "picture => picture && captioning.begin('again')"

Updates = dict[Any, Any]


class Asked(NamedTuple):
    """The values of the tab's widgets."""

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

    def __init__(self, pool: CaptionerPool, store: FeedbackStore) -> None:
        self._pool, self._seen = pool, gr.State(None)
        self._spoken = piece(rendering.spoken(""), kind="unseen")
        self._answered = gr.Textbox(visible="hidden")  # the captioner and the picture that the answer on show is for
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="left", min_width=300):
                self._build_picture()
                with gr.Column(elem_id="tools"):
                    self._build_settings()
            with gr.Column(elem_id="right", min_width=300):
                self._build_result()
                with gr.Column(elem_id="more", elem_classes="of-caption", visible=False) as self._more:
                    self._build_part()
                    self._questions = QuestionForm(self._seen, pool)
                    self._figures = FigureDownloads(self._seen)
                    self._form = FeedbackForm(self._seen, store)
        self._wire()

    def _build_picture(self) -> None:
        sources: Any = ["upload", "webcam", "clipboard"]
        self._photo = picture_input(
            label=SAY("picture"),
            sources=sources,
            height=330,
            buttons=[],
            elem_id="photo",
            alt_text="the picture chosen",
        )
        first = self._pool.names[0]
        self._examples = piece(self._strip(first), script=PRESS, elem_id="examples")
        self._bundle = captioner_choice(self._pool)
        self._about = piece(self._told(first), elem_id="about")

    def _build_settings(self) -> None:
        self._search = SearchControls(self._pool.search(self._pool.names[0]), self._pool.languages)
        with gr.Accordion(SAY("advanced"), open=False, elem_id="advanced"):
            self._turns = gr.Radio(TURNS, value=0, label=SAY("turned"))
            self._light = gr.Slider(0.4, 2, 1, step=0.1, label=SAY("brightness"), buttons=[])
            self._search.build_rest()
        piece('<p class="faint" data-t="again_hint">&ldquo;Caption again&rdquo; searches with these settings.</p>')

    def _build_result(self) -> None:
        piece(rendering.STATE, elem_id="state")
        self._empty = piece(rendering.WELCOME, elem_id="empty")
        with gr.Column(visible=False, elem_id="result") as self._result:
            self._reader = piece(script=PRESS, elem_id="reader", kind="of-caption")
            self._detail = piece(script=PRESS, elem_id="detail", kind="of-caption")
            self._stage = piece(script=MARK, elem_id="stage", kind="of-caption")
            piece(rendering.word_player(), elem_id="player", kind="of-caption")

    def _build_part(self) -> None:
        with gr.Accordion(SAY("others"), open=False):
            self._others = piece(script=PRESS)
        with gr.Accordion(SAY("part"), open=False):
            piece('<p class="faint">Mark or paint it on the picture above, or set its edges here, in percent.</p>')
            with gr.Row(elem_classes="edges"):
                self._edges = [
                    gr.Slider(0, 100, value, step=1, label=name, min_width=120, buttons=[]) for name, value in EDGES
                ]
            with gr.Row():
                self._describe_part = gr.Button(SAY("describe_part"), size="sm", min_width=120)
                self._crop = gr.Button(SAY("crop"), size="sm", min_width=120)
                self._whole = gr.Button(SAY("whole"), size="sm", min_width=120)

    def _wire(self) -> None:
        last = {"trigger_mode": "always_last"}
        self._wire_search(self._photo.change, self._on_picture, NEW_PICTURE, **last)
        self._wire_search(self._bundle.change, self._on_bundle, NEW_CAPTIONER, **last)
        self._wire_search(self._turns.input, self._on_again, NEW_VIEW, **last)
        self._wire_search(self._light.release, self._on_again, NEW_VIEW, **last)
        self._wire_search(self._crop.click, self._on_crop, NEW_VIEW)
        self._wire_search(self._whole.click, self._on_whole, NEW_VIEW)
        self._wire_search(self._stage.submit, self._on_whole, NEW_VIEW)
        self._wire_search(self._reader.retry, self._on_again, SAME_VIEW)
        self._wire_search(self._describe_part.click, self._on_part, SAME_VIEW)
        # no stroke is lost while the one before is captioned
        self._wire_search(self._stage.input, self._on_mark, SAME_VIEW, trigger_mode="multiple")
        self._wire_search(self._detail.submit, self._on_choice, SAME_VIEW, inputs=self._seen)
        self._wire_search(self._others.select, self._on_other, SAME_VIEW, inputs=self._seen)
        self._examples.select(self._on_example, None, self._photo, **LIGHT)

    def _wire_search(self, event: Any, handler: Callable[..., Updates], begins: str, **settings: Any) -> None:
        """Connects an event that takes seconds; the browser shows so until the answer is there.

        The listener that shows it comes first: the browser starts each listener when the one before is done.
        """
        quick: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        event(None, self._photo, js=begins, **quick)
        asked = [self._photo, self._bundle, self._turns, self._light, self._seen, *self._edges, *self._search.parts]
        found = event(handler, **HEAVY | {"inputs": asked, "outputs": self._outputs} | settings)
        answer = [self._photo, self._bundle, self._answered]
        found.success(None, answer, js="captioning.end", **quick)
        found.failure(None, answer, js="captioning.fail", **quick)

    @property
    def _outputs(self) -> list[Any]:
        return [
            *(self._seen, self._spoken, self._answered, self._empty, self._result, self._more, self._reader),
            *(self._detail, self._stage, self._others, self._examples, self._about, self._turns, self._light),
            *(*self._edges, *self._search.parts, *self._figures.parts, *self._form.parts),
            *self._questions.parts,
        ]

    def _asked(self, values: tuple[Any, ...]) -> Asked:
        path, bundle, turns, light, seen, *rest = values
        edges, controls = rest[: len(EDGES)], rest[len(EDGES) :]
        before = seen.adjustments if seen else AS_IT_IS
        adjustments, region = replace(before, turns=turns, brightness=light), seen.region if seen else None
        if turns != before.turns:  # what was marked is now elsewhere
            adjustments, region = replace(adjustments, crop=WHOLE), None
        return Asked(path, bundle, adjustments, region, tuple(edges), session.options_of(controls))

    def _on_picture(self, *values: Any) -> Updates:
        """A new picture, as it is; what is wrong with it stands where its caption would."""
        path, bundle = values[:2]
        answered = {self._answered: answer_key(bundle, path)} | self._form.fresh() | self._questions.fresh()
        if not path:
            return answered | self._nothing(rendering.WELCOME, "")
        try:
            found = self._caption(self._asked(values)._replace(adjustments=AS_IT_IS, region=None))
        except CaptioningError as error:
            return answered | self._nothing(rendering.notice(explained(error)), explained(error))
        return answered | found | {self._turns: 0, self._light: 1}

    def _on_bundle(self, *values: Any) -> Updates:
        """Another captioner, with its own search; what is wrong with it stands where its caption would."""
        path, bundle = values[:2]
        shown = {self._examples: self._strip(bundle), self._about: self._told(bundle)}
        shown |= {self._answered: answer_key(bundle, path)} | self._form.fresh()
        try:
            options = self._pool.search(bundle)
            shown |= dict(zip(self._search.parts, session.values_of(options), strict=True))
            if not path:
                return shown | self._nothing(rendering.WELCOME, "")
            return shown | self._caption(self._asked(values)._replace(options=options))
        except CaptioningError as error:
            return shown | self._nothing(rendering.notice(explained(error)), explained(error))

    def _on_again(self, *values: Any) -> Updates:
        with refusing():
            return self._caption(self._asked(values))

    def _on_mark(self, event: gr.EventData, *values: Any) -> Updates:
        with refusing():
            return self._caption(self._asked(values)._replace(region=region_sent(event.value)))

    def _on_part(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._caption(asked._replace(region=asked.marked()))

    def _on_crop(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._caption(asked._replace(region=None, adjustments=asked.adjustments.cropped(asked.marked())))

    def _on_whole(self, *values: Any) -> Updates:
        with refusing():
            asked = self._asked(values)
            return self._caption(asked._replace(region=None, adjustments=replace(asked.adjustments, crop=WHOLE)))

    def _caption(self, asked: Asked) -> Updates:
        if not asked.path:
            raise CaptioningError("There is no picture yet; choose one.")
        how = asked.options, asked.adjustments, asked.region
        return self._show(session.describe(self._pool, asked.bundle, asked.path, *how))

    def _on_choice(self, event: gr.EventData, seen: CaptionSession | None) -> Updates:
        place, _, word = event.value.partition(" ")
        with refusing():
            return self._show(session.reworded(self._pool, present(seen), int(place), word), int(place))

    def _on_other(self, event: gr.EventData, seen: CaptionSession | None) -> Updates:
        with refusing():
            return self._show(session.turned(self._pool, present(seen), int(event.value)))

    def _on_example(self, event: gr.EventData) -> str:
        return download(example_png(int(event.value)), f"example-{int(event.value) + 1}.png")

    def _show(self, seen: CaptionSession, place: int | None = None) -> Updates:
        """The session, with the word at a place selected; without one, the first noun."""
        edges = (round(100 * share) for share in box_around(seen.region, seen.view))
        place = session.first_noun(seen.caption) if place is None else place
        return {
            self._seen: seen,
            self._spoken: rendering.spoken(session.told(seen)),
            self._empty: gr.HTML(visible=False),
            self._result: gr.Column(visible=True),
            self._more: gr.Column(visible=True),
            self._reader: rendering.reader(seen, place),
            self._detail: rendering.detail(seen, place),
            self._stage: rendering.stage(seen, place),
            self._others: rendering.others(seen),
            **dict(zip(self._edges, edges, strict=True)),
            **self._figures.fresh(),
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
        return rendering.example_strip(drawn=self._pool.offer(bundle).is_drawn)

    def _told(self, bundle: str) -> str:
        return rendering.about(self._pool.sentence(bundle))


def answer_key(bundle: str, path: str | None) -> str:
    """What an answer is for; page.js compares it with what is chosen by then."""
    return f"{bundle} {path or ''}"
