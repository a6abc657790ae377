"""The page's own widgets, and how its events behave."""

import contextlib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from captioning.app.texts import SAY, TEXTS
from captioning.errors import CaptioningError
from captioning.serving.pool import CaptionerPool
from captioning.serving.session import CaptionSession, explained

# Events that cannot fail skip the queue. All others wait in it, since only its answers carry an error to the page.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
LIGHT: dict[str, Any] = QUIET | {"queue": False, "trigger_mode": "always_last"}
STORE: dict[str, Any] = QUIET | {"concurrency_id": "store"}
HEAVY: dict[str, Any] = QUIET | {"concurrency_id": "captioner"}


def script(name: str) -> str:
    """One of the page's scripts, which lie beside this file."""
    return Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")


PRESS, TICK = script("press"), script("tick")
MARK = PRESS + script("mark")


def picture_input(**settings: Any) -> gr.Image:
    """A place for a picture. The file is handed on as it came, so that read_image finds what is wrong with it."""
    image = gr.Image(type="filepath", **settings)
    image.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return image


def piece(value: str = "", *, script: str | None = None, kind: str = "", **settings: Any) -> gr.HTML:
    """A piece of our own HTML, with the script of its events."""
    return gr.HTML(value, js_on_load=script, apply_default_css=False, elem_classes=["piece", kind], **settings)


def note(key: str) -> gr.HTML:
    """A faint sentence above a tab, in the language of the browser."""
    return piece(f'<p class="faint" data-t="{key}">{escape(TEXTS["en"][key])}</p>')


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Shows a person's mistake as a message, and leaves the page as it is."""
    try:
        yield
    except CaptioningError as error:
        raise gr.Error(escape(explained(error)), print_exception=False) from None


def present(seen: CaptionSession | None) -> CaptionSession:
    """The session of a visitor, refused where the server no longer keeps it."""
    if seen is None:
        raise gr.Error("This page was idle for too long: choose the picture again.", print_exception=False)
    return seen


def download(data: bytes | str, name: str) -> str:
    """The path of a file to download, in the folder that is emptied after a while."""
    return save_bytes_to_cache(data.encode() if isinstance(data, str) else data, name, get_upload_folder())


def captioner_choice(pool: CaptionerPool) -> gr.Dropdown:
    """The choice of a bundle by what it is good for; hidden where there is only one."""
    choices = [(label, name) for name, label in pool.labels.items()]
    return gr.Dropdown(
        choices, value=pool.names[0], label=SAY("captioner"), visible=len(choices) > 1, filterable=False, min_width=200
    )
