"""The tab that tells of a captioner: how good it is, how it learnt, what its card says."""

from typing import Any

import gradio as gr

from captioning.app import bundle_report
from captioning.app.tables import lapse, score_table
from captioning.app.widgets import LIGHT, Player, captioner_choice, piece
from captioning.serving.pool import CaptionerPool

EPOCH = 1.0  # seconds of one in the time-lapse


class ModelTab:
    """Scores, curves, time-lapse and card of one bundle."""

    def __init__(self, shelf: CaptionerPool) -> None:
        self._shelf, self._learning = shelf, gr.State(bundle_report.Learning())
        self._bundle = captioner_choice(shelf.names)
        with gr.Row():
            with gr.Column(min_width=300):
                piece("<h2>How good it is</h2>")
                self._scores = piece()
            with gr.Column(min_width=300):
                piece("<h2>How it learnt</h2>")
                alt = "Losses and validation score, epoch by epoch"
                self._curves = gr.Image(show_label=False, interactive=False, buttons=[], alt_text=alt)
        piece("<h2>What it said after each epoch</h2>")
        self._player = Player("Epoch", seconds=EPOCH)
        self._lapse = piece()
        with gr.Accordion("Model card", open=False):
            self._card = gr.Markdown()
        self._bundle.change(**self.wiring)
        self._player.slider.change(self._on_epoch, [self._learning, self._player.slider], self._lapse, **LIGHT)

    @property
    def wiring(self) -> dict[str, Any]:
        """What an event needs to show the bundle that is chosen."""
        parts = [self._learning, self._scores, self._curves, self._lapse, self._card, *self._player.parts]
        return {"fn": self._on_bundle, "inputs": self._bundle, "outputs": parts, **LIGHT}

    def _on_bundle(self, bundle: str) -> dict[Any, Any]:
        folder = self._shelf.folder(bundle)
        learning = bundle_report.learning(folder)
        epochs = max(len(learning.captions), 1)
        return {
            self._learning: learning,
            self._scores: score_table(bundle_report.score_cards(folder)),
            self._curves: bundle_report.curves(folder),
            self._lapse: lapse(learning, epochs),
            self._card: bundle_report.model_card(folder),
            **self._player.at(epochs, epochs),
        }

    def _on_epoch(self, learning: bundle_report.Learning, epoch: int) -> str:
        return lapse(learning, max(1, min(epoch, len(learning.captions))))
