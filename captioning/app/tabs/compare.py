"""The tab on which several captioners caption the same picture, side by side."""

from collections.abc import Iterator, Sequence
from html import escape

import gradio as gr

from captioning.app.rendering import sign
from captioning.app.tables import table
from captioning.app.texts import SAY
from captioning.app.widgets import HEAVY, note, picture_input, piece, refusing
from captioning.errors import CaptioningError
from captioning.serving.pool import CaptionerPool
from captioning.serving.session import explained
from captioning.serving.side_by_side import MOST, Seen, side_by_side

HEADS = ("captioner", "head_caption", "head_confidence", "head_time", "head_memory")


class CompareTab:
    """One picture, a choice of captioners, and a line for the caption of each."""

    def __init__(self, pool: CaptionerPool) -> None:
        self._pool = pool
        note("compare_about")
        labels = pool.labels
        with gr.Row():
            with gr.Column(min_width=300):
                picture = picture_input(
                    label=SAY("picture"),
                    height=300,
                    buttons=[],
                    elem_id="compared",
                    alt_text="the picture that is compared",
                )
            with gr.Column(min_width=300):
                chosen = gr.CheckboxGroup(
                    [(label, name) for name, label in labels.items()],
                    value=list(labels)[:MOST],
                    label=SAY("compare_captioners"),
                    elem_id="rivals",
                )
                start = gr.Button(SAY("compare_start"), variant="primary")
        found = piece(elem_id="side-by-side")
        start.click(self._compare, [picture, chosen], found, **HEAVY | {"show_progress": "full"})

    def _compare(self, path: str | None, names: list[str]) -> Iterator[str]:
        seen: list[Seen] = []
        with refusing():
            for each in side_by_side(self._pool, names, path):
                seen.append(each)
                yield compared(seen, self._pool.labels, len(names))


def compared(seen: Sequence[Seen], labels: dict[str, str], total: int) -> str:
    """The answers so far as a table, with how many of all there are."""
    says = f"{len(seen)} of {total} captioners answered"
    return f'<p class="faint" role="status">{says}</p>' + table("many", HEADS, [_line(one, labels) for one in seen])


def _line(seen: Seen, labels: dict[str, str]) -> str:
    name = f'<th scope="row">{escape(labels.get(seen.name, seen.name))}</th>'
    if seen.caption is None:
        return f'<tr class="bad">{name}<td colspan="4">{escape(explained(CaptioningError(seen.problem)))}</td></tr>'
    caption = seen.caption
    memory = "not known" if seen.memory is None else f"{max(0, seen.memory) / 1e6:,.0f}\u00a0MB"
    cells = (escape(caption.text), sign(caption.confidence, caption.verdict), f"{seen.seconds:.2f}\u00a0s", memory)
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
