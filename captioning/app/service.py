"""The REST service in a process of its own: beside the page, or without it."""

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.app import server
from captioning.app.console import guarded_output
from captioning.app.scratch import keep_swept, scratch_folder
from captioning.data.feedback import FeedbackStore
from captioning.errors import MissingExtra
from captioning.options import ServeOptions
from captioning.runtime.environment import explain_missing_packages
from captioning.serving import rest
from captioning.serving.batching import Batcher
from captioning.serving.pool import CaptionerPool
from captioning.serving.telemetry import Telemetry

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

REST = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")


@dataclass(frozen=True)
class Places:
    """Where captioners are read from, and where what people send is kept."""

    bundles: Sequence[Path]
    feedback: Path
    encoder_weights: str = "imagenet"
    engine: str = "auto"
    is_strict: bool = False  # a broken bundle is an error; else it is left out


def serve(places: Places, address: server.Service, options: ServeOptions, *, has_page: bool = True) -> None:
    """Serves until Ctrl-C."""
    credentials = address.credentials() if has_page else None
    with server.open_port(address) as listener, scratch_folder() as folder, contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        pool = CaptionerPool(places.bundles, encoder_weights=places.encoder_weights, engine=places.engine)
        server.open_first(pool, strict=places.is_strict)
        keep_swept(folder)
        terminal, store = sys.stdout, FeedbackStore(places.feedback)
        telemetry = Telemetry(terminal)
        batcher = Batcher(pool, options, seen=telemetry.seen)
        app = rest.build(rest.Service(pool, batcher, telemetry, store))
        page = _page(pool, store, address, credentials, folder) if has_page else None
        with guarded_output(), server.running(beside(app, page) if page else app, listener):
            print(greeting(address, credentials, has_page=page is not None), file=terminal, flush=True)
            threading.Event().wait()
    print("\nStopped; what was uploaded is removed.")


def _page(
    pool: CaptionerPool,
    store: FeedbackStore,
    address: server.Service,
    credentials: server.Credentials | None,
    folder: str,
) -> "FastAPI | None":
    """The page; None, and a line that says so, where its packages are missing."""
    try:
        with explain_missing_packages("serve"):
            return server.application(pool, store, address, credentials, folder)
    except MissingExtra as error:
        print(f"The page is left out: {error}", file=sys.stderr)
        return None


def beside(app: "FastAPI", page: "FastAPI") -> "ASGIApp":
    """One application that answers with the REST interface at its addresses, and with the page at all others."""
    app.state.beside, app.state.page = (page,), page.state.page

    async def answer(scope: "Scope", receive: "Receive", send: "Send") -> None:
        is_rest = scope["type"] == "lifespan" or scope["path"].startswith(REST)
        await (app if is_rest else page)(scope, receive, send)

    answer.state = app.state  # type: ignore[attr-defined]
    return answer


def greeting(address: server.Service, credentials: server.Credentials | None, *, has_page: bool) -> str:
    """What the terminal says once the service is there."""
    where = server.address_of(address)
    lines = [f"The service is on {where}, Ctrl-C stops it.", f"curl -F images=@photo.jpg {where}/v1/captions"]
    if has_page:
        lines.append(f"The page is on {where}/.")
    if credentials and not address.auth:
        lines.append(f"User {credentials[0]}, password {credentials[1]} (--auth user:password sets your own).")
    return "\n".join(lines)
