"""The tab about one captioner: its scores, how they rose, its model card."""

from typing import Any

import gradio as gr

from captioning.app import bundle_report, rendering
from captioning.app.tables import lapse, score_table
from captioning.app.widgets import LIGHT, captioner_choice, piece
from captioning.serving.pool import CaptionerPool
from captioning.serving.session import explained


class ModelTab:
    """Scores, curves, captions by epoch and card of one bundle; what a bundle does not have is left out."""

    def __init__(self, pool: CaptionerPool) -> None:
        self._pool = pool
        self._bundle = captioner_choice(pool)
        self._problems = piece()
        with gr.Row():
            with gr.Column(min_width=300):
                piece("<h2>Scores</h2>")
                self._scores = piece()
            with gr.Column(min_width=300) as self._training:
                piece("<h2>Training</h2>")
                alt = "Losses and validation score, epoch by epoch"
                self._curves = gr.Image(show_label=False, interactive=False, buttons=[], alt_text=alt)
        self._lapse = piece(elem_id="lapse")
        with gr.Accordion("Model card", open=False):
            self._card = gr.Markdown()
        self._bundle.change(**self.wiring)

    @property
    def wiring(self) -> dict[str, Any]:
        """The settings of an event that shows the bundle that is chosen."""
        parts = [self._problems, self._scores, self._training, self._curves, self._lapse, self._card]
        return {"fn": self._on_bundle, "inputs": self._bundle, "outputs": parts, **LIGHT}

    def _on_bundle(self, bundle: str) -> dict[Any, Any]:
        if self._pool.is_published(bundle):
            return {
                self._problems: "",
                self._scores: "",
                self._training: gr.Column(visible=False),
                self._curves: None,
                self._lapse: "",
                self._card: self._pool.sentence(bundle),
            }
        report = bundle_report.read_report(self._pool.folder(bundle))
        return {
            self._problems: "".join(rendering.notice(explained(problem)) for problem in report.problems),
            self._scores: score_table(report.scores),
            self._training: gr.Column(visible=report.curves is not None),
            self._curves: report.curves,
            self._lapse: lapse(report.learning),
            self._card: report.card,
        }
