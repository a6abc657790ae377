"""The endpoints /caption and /caption_batch, for programs."""

from typing import Any

import gradio as gr

from captioning.app.tabs.batch import few_enough
from captioning.app.widgets import picture_input, refusing
from captioning.serving import answers, session
from captioning.serving.pool import CaptionerPool


def add_endpoints(pool: CaptionerPool) -> None:
    """Add the endpoints to the page that is being built. Gradio names their parameters after the functions'."""

    def caption(image: str | None, bundle: str, options: dict[str, Any] | None) -> dict[str, Any]:
        """Caption an image: each word with its probability and with other words, whether it is sure, other captions.

        bundle names the captioner; options are search options that differ from its own, such as {"num_beams": 5}.
        """
        if image is None:
            raise gr.Error("No image came with the request; give one.", print_exception=False)
        with refusing():
            return answers.answer(session.describe(pool, bundle, image, answers.search_options(pool, bundle, options)))

    def caption_batch(images: list[str] | None, bundle: str, options: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Caption many images: name, caption, confidence and sure of each, or the problem with it.

        bundle names the captioner; options are search options that differ from its own, such as {"num_beams": 5}.
        """
        with refusing():
            search = answers.search_options(pool, bundle, options)
            return list(answers.caption_each(pool, bundle, few_enough(images), search))

    with gr.Group(visible=False):
        image, images = picture_input(label="image"), gr.File(label="images", file_count="multiple")
        bundle = gr.Dropdown(pool.names, value=pool.names[0], label="bundle")
        options = gr.JSON({}, label="options")
        found, button = gr.JSON(label="found"), gr.Button()
        button.click(caption, [image, bundle, options], found, api_name="caption", concurrency_id="captioner")
        button.click(caption_batch, [images, bundle, options], found, api_name="caption_batch", concurrency_id="batch")
