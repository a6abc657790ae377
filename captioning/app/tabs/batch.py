"""The tab on which many pictures are captioned at once, and their table downloaded."""

from typing import Any

import gradio as gr

from captioning.app.tables import batch_table
from captioning.app.texts import SAY
from captioning.app.widgets import captioner_choice, download, note, piece, refusing
from captioning.serving.answers import caption_each, rows_csv, rows_json
from captioning.serving.pool import CaptionerPool

MOST = 200  # pictures at once; the note says so
PROGRESS = gr.Progress()  # that a parameter has it for a default tells Gradio to show it


class BatchTab:
    """Many pictures, a table of their captions, and the table as a file."""

    def __init__(self, pool: CaptionerPool) -> None:
        self._pool = pool
        note("batch_about")
        self._files = gr.File(label=SAY("batch_pictures"), file_count="multiple", height=200)
        bundle = captioner_choice(pool)
        start = gr.Button(SAY("batch_start"), variant="primary")
        self._table = piece(elem_id="batch")
        with gr.Row():
            self._csv = gr.DownloadButton("CSV", size="sm", visible=False)
            self._json = gr.DownloadButton("JSON", size="sm", visible=False)
        start.click(
            self._caption,
            [self._files, bundle],
            [self._table, self._csv, self._json],
            api_visibility="private",
            concurrency_id="batch",
            show_progress_on=self._table,
        )

    def _caption(self, paths: list[str] | None, bundle: str, progress: gr.Progress = PROGRESS) -> list[Any]:
        paths = few_enough(paths)
        with refusing():
            rows = list(progress.tqdm(caption_each(self._pool, bundle, paths), total=len(paths), unit="pictures"))
        files = download(rows_csv(rows), "captions.csv"), download(rows_json(rows), "captions.json")
        return [batch_table(rows, paths), *(gr.DownloadButton(value=file, visible=True) for file in files)]


def few_enough(paths: list[str] | None) -> list[str]:
    """The chosen files, refused where there is none or there are too many."""
    if not paths:
        raise gr.Error("Choose some pictures first.", print_exception=False)
    if len(paths) > MOST:
        raise gr.Error(f"{len(paths)} pictures are too many at once; at most {MOST}, please.", print_exception=False)
    return paths
