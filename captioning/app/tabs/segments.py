"""The tab on which the segments of a picture are found, captioned and linked to the words of its caption."""

from pathlib import Path
from typing import Any

import gradio as gr

from captioning.app import segment_html
from captioning.app.texts import SAY
from captioning.app.widgets import HEAVY, PRESS, QUIET, captioner_choice, picture_input, piece, refusing, script
from captioning.errors import CaptioningError
from captioning.serving.pool import CaptionerPool
from captioning.serving.segment_session import SegmentSession, captioned, find_segments
from captioning.serving.session import explained

SCORE, OPACITY = 50, 50  # percent
SCRIPT = PRESS + script("segments")
OPAQUE = "percent => captioning.cover(percent)"

Updates = dict[Any, Any]


class SegmentsTab:
    """One picture, the masks over it, and a list of its segments."""

    def __init__(self, pool: CaptionerPool) -> None:
        self._pool, self._seen = pool, gr.State(None)
        with gr.Row(elem_id="segmented"):
            with gr.Column(min_width=300):
                self._photo = picture_input(
                    label=SAY("picture"),
                    height=300,
                    buttons=[],
                    elem_id="segmented-photo",
                    alt_text="the picture that is segmented",
                )
                names = [(Path(name).name, name) for name in pool.segmenters]
                self._segmenter = gr.Dropdown(
                    names, value=names[0][1], label=SAY("segmenter"), visible=len(names) > 1, filterable=False
                )
                self._bundle = captioner_choice(pool)
                self._score = gr.Slider(0, 100, SCORE, step=5, label=SAY("least_score"), buttons=[])
                opacity = gr.Slider(0, 100, OPACITY, step=5, label=SAY("opacity"), buttons=[], elem_id="opacity")
            with gr.Column(min_width=300):
                self._stage = piece(script=SCRIPT, elem_id="masks")
                self._panel = piece(segment_html.EMPTY, script=SCRIPT, elem_id="segment-list")
        opacity.input(None, opacity, js=OPAQUE, queue=False, **QUIET)
        self._wire()

    def _wire(self) -> None:
        asked = [self._photo, self._segmenter, self._bundle, self._score]
        outputs: list[Any] = [self._seen, self._stage, self._panel]
        finding = HEAVY | {"show_progress": "full", "show_progress_on": self._panel, "trigger_mode": "always_last"}
        events = (self._photo.change, self._segmenter.change, self._bundle.change, self._score.release)
        for event in events:
            event(self._on_find, asked, outputs, **finding)
        for press in (self._panel.select, self._stage.select):
            press(self._on_choice, self._seen, [self._seen, self._panel], **HEAVY)

    def _on_find(self, path: str | None, segmenter: str, bundle: str, percent: float) -> Updates:
        """The segments of a picture; what is wrong with it stands where they would."""
        if not path:
            return {self._seen: None, self._stage: "", self._panel: segment_html.EMPTY}
        try:
            seen = find_segments(self._pool, segmenter, bundle, path, percent / 100)
        except CaptioningError as error:
            return {self._seen: None, self._stage: "", self._panel: segment_html.notice(explained(error))}
        return {self._seen: seen, self._stage: segment_html.stage(seen), self._panel: segment_html.panel(seen)}

    def _on_choice(self, event: gr.EventData, seen: SegmentSession | None) -> Updates:
        """The caption of the entry that was pressed, or of the mask at the place that was."""
        with refusing():
            if seen is None:
                raise CaptioningError("This page was idle for too long: choose the picture again.")
            place = place_of(event.value, seen)
            if place is None:
                return {self._seen: seen}
            seen = captioned(self._pool, seen, place)
            return {self._seen: seen, self._panel: segment_html.panel(seen)}


def place_of(sent: Any, seen: SegmentSession) -> int | None:
    """The segment that a page asks for: by its number, or by a place in the picture; None where none is there."""
    try:
        if not isinstance(sent, list):
            return int(sent)
        across, down = (float(share) for share in sent)
        if not (0 <= across <= 1 and 0 <= down <= 1):
            raise ValueError
        return seen.at(across, down)
    except (TypeError, ValueError, OverflowError):
        raise CaptioningError("That is no place in the picture; press a mask or an entry of the list.") from None
