"""The box on the Caption tab in which a person asks about the picture."""

from html import escape
from typing import Any

import gradio as gr

from captioning.app.texts import SAY
from captioning.app.widgets import HEAVY, piece, present, refusing
from captioning.extras.questions import LONGEST_QUESTION, Answer
from captioning.serving.pool import CaptionerPool
from captioning.serving.session import CaptionSession


class QuestionForm:
    """A question about the picture that is shown, and its answer; nothing where no model answers questions."""

    def __init__(self, seen: gr.State, pool: CaptionerPool) -> None:
        self._pool, self.parts = pool, list[Any]()
        if not pool.questions:
            return
        with gr.Accordion(SAY("question"), open=True, elem_id="questions"):
            question = gr.Textbox(
                show_label=False,
                container=False,
                max_length=LONGEST_QUESTION,
                placeholder="what colour is the shirt?",
                label=SAY("question"),
                lines=1,
            )
            button = gr.Button(SAY("ask"), size="sm")
            answer = piece()
        self.parts = [question, answer]
        for event in (question.submit, button.click):
            event(self._on_question, [seen, question], answer, **HEAVY)

    def fresh(self) -> dict[Any, Any]:
        """An empty form."""
        return dict(zip(self.parts, ("", ""), strict=False))

    def _on_question(self, seen: CaptionSession | None, question: str) -> str:
        with refusing():
            return answer_html(self._pool.answer(present(seen).view, question))


def answer_html(found: Answer) -> str:
    """An answer, how likely the model finds it, and the next ones where it chooses among some."""
    others = ", ".join(f"{escape(text)} {share:.0%}" for text, share in found.others)
    also = f'<p class="faint">Or else: {others}.</p>' if others else ""
    return (
        f'<p role="status"><b>{escape(found.text) or "(nothing)"}</b> '
        f'<span class="sign unknown">{found.probability:.0%}, not calibrated</span></p>{also}'
        f'<p class="faint">By {escape(found.model)}.</p>'
    )
