"""The figures of a caption to download: the strip of its words, and the animation that walks through them."""

from typing import Any

import gradio as gr

from captioning.app.widgets import download, present
from captioning.inference.protocol import shows_attention
from captioning.plots import attention
from captioning.serving.session import CaptionSession


class FigureDownloads:
    """A button that draws both, and a button for each once it is drawn; drawing takes a second."""

    def __init__(self, seen: gr.State) -> None:
        with gr.Accordion("Download figures", open=False):
            draw = gr.Button("Draw the strip and the animation", size="sm")
            with gr.Row():
                self._strip = gr.DownloadButton("Strip (PNG)", size="sm", visible=False)
                self._walk = gr.DownloadButton("Animation (GIF)", size="sm", visible=False)
        draw.click(
            self._draw, seen, self.parts, api_visibility="private", concurrency_id="drawing", show_progress_on=draw
        )

    @property
    def parts(self) -> list[Any]:
        """The widgets that `fresh` resets."""
        return [self._strip, self._walk]

    def fresh(self) -> dict[Any, Any]:
        """Nothing drawn yet."""
        return {part: gr.DownloadButton(visible=False) for part in self.parts}

    def _draw(self, seen: CaptionSession | None) -> list[Any]:
        view, caption = present(seen).view, present(seen).caption
        if not shows_attention(caption):
            raise gr.Error("This captioner gives no attention; choose another one to draw it.", print_exception=False)
        name = "-".join(word.text for word in caption.words if word.text.isalnum())[:60] or "caption"
        files = [
            download(attention.strip_png(view, caption.words, caption.text), f"{name}.png"),
            download(attention.walk_gif(view, caption.words), f"{name}.gif"),
        ]
        return [gr.DownloadButton(value=file, visible=True) for file in files]
