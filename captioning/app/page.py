"""The page: its tabs, its programming interface, its looks."""

from pathlib import Path
from typing import Any

import gradio as gr

from captioning.app import rendering
from captioning.app.tabs.batch import BatchTab, few_enough
from captioning.app.tabs.caption import CaptionTab
from captioning.app.tabs.feedback import FeedbackTab
from captioning.app.tabs.model import ModelTab
from captioning.app.widgets import captioner_choice, picture_input, piece, refusing
from captioning.data.feedback import FeedbackStore
from captioning.serving import answers, session
from captioning.serving.pool import CaptionerPool

WAITING = 24  # requests that may wait; the next one is told that the app is busy

LOOKS = Path(__file__).with_name("page.css")
FONT = ("ui-sans-serif", "system-ui", "sans-serif")
THEME = gr.themes.Default(
    primary_hue="purple", secondary_hue="purple", neutral_hue="zinc", radius_size="lg", font=FONT, font_mono="monospace"
).set(
    body_text_color_subdued="*neutral_600",  # grey that can still be read
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
)


def build_page(shelf: CaptionerPool, store: FeedbackStore, *, is_public: bool) -> gr.Blocks:
    """The page over these bundles; a public one takes feedback, but shows none."""
    with gr.Blocks(title="Captioning", analytics_enabled=False) as page:
        piece(rendering.HEADER)
        with gr.Tabs():
            with gr.Tab("Caption"):
                CaptionTab(shelf, store)
            with gr.Tab("Batch"):
                BatchTab(shelf)
            with gr.Tab("Captioner"):
                model = ModelTab(shelf)
            if not is_public:
                with gr.Tab("Feedback") as tab:
                    tab.select(**FeedbackTab(store, shelf.names).wiring)
        page.load(**model.wiring)
        _add_interface(shelf)
    return page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)


def _add_interface(shelf: CaptionerPool) -> None:
    """The endpoints /caption and /caption_batch, for programs."""

    def caption(image: str | None, bundle: str) -> dict[str, Any]:
        """A picture's caption word by word, with the probability of each and the words that could stand there."""
        if image is None:
            raise gr.Error("No picture came with the request; give one.", print_exception=False)
        with refusing():
            return answers.answer(session.describe(shelf, bundle, image))

    def caption_batch(images: list[str] | None, bundle: str) -> list[dict[str, Any]]:
        """Image, caption and confidence of every picture, or the problem with it."""
        with refusing():
            return list(answers.caption_each(shelf, bundle, few_enough(images)))

    with gr.Group(visible=False):
        image, images, bundle = picture_input(), gr.File(file_count="multiple"), captioner_choice(shelf.names)
        found, button = gr.JSON(label="found"), gr.Button()
        button.click(caption, [image, bundle], found, api_name="caption", concurrency_id="captioner")
        button.click(caption_batch, [images, bundle], found, api_name="caption_batch", concurrency_id="batch")
