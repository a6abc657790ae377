"""What Gradio does that no setting of its own changes, put right: it fetches pictures from addresses that people send,
and prints what they sent when something fails."""

import logging
import sys
import traceback
from types import SimpleNamespace
from typing import Any


def fetch_nothing() -> None:
    """Keeps Gradio from asking other machines for the pictures behind addresses that people send instead of files."""
    import gradio as gr
    from gradio.processing_utils import sh

    async def refuse(*arguments: Any, **settings: Any) -> Any:
        raise gr.Error("No picture is fetched from an address; send the file itself.", print_exception=False)

    sh.get = sh.async_validate_url = refuse  # through which all goes that it fetches


def print_nothing_sent() -> None:
    """Lets failures be printed by their kind and place alone: messages hold people's words, paths and line breaks."""
    from gradio import queueing, routes

    for room in (queueing, routes):
        room.traceback = SimpleNamespace(**vars(traceback) | {"print_exc": _print_failure})  # type: ignore[attr-defined]
    for handler in logging.getLogger("uvicorn").handlers:
        handler.setFormatter(_Formatter())


def _print_failure() -> None:
    print(_failure(sys.exc_info()), file=sys.stderr)


def _failure(failed: Any) -> str:
    kind, _, trace = failed
    places = "".join(traceback.format_tb(trace)).rstrip()
    return f"{kind.__name__}, in answering somebody:\n{places}"


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _failure(ei)
