"""The tab on which a picture is compared with a list of labels."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from captioning.app.tables import table
from captioning.app.texts import SAY
from captioning.app.widgets import HEAVY, download, note, picture_input, piece, refusing
from captioning.inference.label_files import text_of
from captioning.inference.labels import Labels
from captioning.plots.charts import CHARTS, chart_png
from captioning.serving.labelling import LONGEST_TEXT, LabelService

LISTS = {
    "list_beings": "man woman boy girl baby dog cat horse bird sheep cow elephant",
    "list_places": "beach street park forest mountain kitchen snow water field stage",
}


class LabelsTab:
    """A picture, labels one a line, and how well each fits: a sentence, the five best, a chart, a table to download."""

    def __init__(self, service: LabelService) -> None:
        self._service = service
        models = service.models
        note("labels_about")
        with gr.Row():
            with gr.Column(min_width=300):
                picture = picture_input(
                    label=SAY("picture"), height=300, buttons=[], elem_id="labelled", alt_text="the picture to label"
                )
                words = gr.Textbox(
                    _lines(LISTS["list_beings"]),
                    label=SAY("labels_list"),
                    lines=6,
                    max_lines=12,
                    max_length=LONGEST_TEXT,
                )
                with gr.Row():
                    for key, some in LISTS.items():
                        gr.Button(SAY(key), size="sm", min_width=120).click(
                            lambda some=some: _lines(some), None, words, api_visibility="private", queue=False
                        )
                model = gr.Dropdown(
                    [(label, name) for name, label in models.items()],
                    value=next(iter(models)),
                    label=SAY("labels_by"),
                    visible=len(models) > 1,
                    filterable=False,
                )
                kind = gr.Radio(list(CHARTS), value="bar", label=SAY("labels_chart"))
                start = gr.Button(SAY("labels_find"), variant="primary")
            with gr.Column(min_width=300):
                summary = piece(elem_id="labels-found")
                chart = gr.Image(
                    visible=False, show_label=False, buttons=["download"], interactive=False, elem_id="labels-chart"
                )
                csv = gr.DownloadButton("CSV", size="sm", visible=False)
        given, shown = [picture, words, model, kind], [summary, chart, csv]
        start.click(self._find, given, shown, **HEAVY | {"show_progress": "full"})

    def _find(self, path: str | None, words: str, model: str, kind: str) -> list[Any]:
        with refusing():
            found = self._service.label(path or "", words, model)
            drawn = chart_png([each.text for each in found.top], [each.probability for each in found.top], kind=kind)
        name = Path(path or "picture").name
        chart = gr.Image(download(drawn, "labels.png"), visible=True, alt_text=found.summary())
        table_file = download(text_of({Path(name): found}, ".csv"), "labels.csv")
        return [found_html(found), chart, gr.DownloadButton(value=table_file, visible=True)]


def found_html(found: Labels) -> str:
    """What was found, in a sentence, and the most probable labels as a table."""
    lines = [f'<tr><th scope="row">{escape(each.text)}</th><td>{each.probability:.1%}</td></tr>' for each in found.top]
    left = f"Left out, since the captioner lacks their words: {', '.join(found.unknown[:5])}" if found.unknown else ""
    left += ", ..." if len(found.unknown) > 5 else "." if left else ""
    found_table = table("many", ("head_label", "head_probability"), lines)
    last = f'<p class="faint">{escape(left)}</p>' if left else ""
    return f'<p role="status">{escape(found.summary())}</p>{found_table}{last}'


def _lines(words: str) -> str:
    return "\n".join(words.split())
