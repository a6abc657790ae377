"""Serves a page on a port, behind a password where others can reach it, until it is told to stop."""

import argparse
import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.app.console import guarded_output
from captioning.app.folder_routes import OPEN as FOLDERS
from captioning.app.guard import Guard
from captioning.app.scratch import keep_swept, scratch_folder
from captioning.data.feedback import FeedbackStore
from captioning.errors import BundleError, CaptioningError
from captioning.inference.bundle import runs_on_onnx
from captioning.runtime.keras_import import import_keras
from captioning.runtime.memory import share_one_heap
from captioning.serving.origin import HERE
from captioning.serving.pool import CaptionerPool

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import APIRouter, FastAPI

LARGEST = "10mb"  # of an upload
LEAST = 12  # characters of a password: so many cannot be guessed through a network
ASKED = "Whoever shared this page knows its user and password."
PEOPLE = 128  # sessions that are kept, those used last
EVERYWHERE = ("0.0.0.0", "::")
STOPPING = 2  # seconds that requests under way may take when the app stops

Credentials = tuple[str, str]


@dataclass(frozen=True)
class Service:
    """Where the app is reached, and by whom."""

    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    auth: str = ""

    @classmethod
    def asked(cls, flags: argparse.Namespace) -> "Service":
        """As flags say, else as GRADIO_SERVER_NAME and GRADIO_SERVER_PORT do, which containers set."""
        host = flags.host or os.environ.get("GRADIO_SERVER_NAME") or cls.host
        port = os.environ.get("GRADIO_SERVER_PORT") or str(cls.port)
        if flags.port is None and not (port.isascii() and port.isdecimal()):
            raise CaptioningError(f"GRADIO_SERVER_PORT is {port!r}, not a number; change it, or give --port.")
        return cls(host, int(port) if flags.port is None else flags.port, flags.share, flags.auth)

    @property
    def is_public(self) -> bool:
        """Whether others than the person at this computer can reach it."""
        return self.share or self.host not in HERE

    def credentials(self) -> Credentials | None:
        """The user and the password that are asked for; a public page is never without."""
        if self.auth:
            user, _, password = self.auth.partition(":")
            if not user or len(password) < LEAST:
                raise CaptioningError(
                    f"--auth needs a user, a colon, and a password of at least {LEAST} characters, "
                    f"as in --auth ada:{secrets.token_urlsafe(12)}."
                )
            return user, password
        return ("guest", secrets.token_urlsafe(12)) if self.is_public else None


def serve(
    folders: Sequence[Path],
    service: Service,
    *,
    feedback: Path,
    strict: bool,
    **options: Any,
) -> None:
    """Serves the bundles until Ctrl-C; whatever was uploaded is gone afterwards.

    `strict`: a broken bundle is an error; else it is left out. `options` are those of CaptionerPool.
    """
    credentials = service.credentials()
    share_one_heap()
    with open_port(service) as listener, scratch_folder() as folder, contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        pool, store = CaptionerPool(folders, **options), FeedbackStore(feedback)
        open_first(pool, strict=strict)
        keep_swept(folder)
        terminal = sys.stdout
        with guarded_output(), running(application(pool, store, service, credentials, folder), listener):
            link = public_link(service) if service.share else None
            print(greeting(service, link, credentials), file=terminal, flush=True)
            threading.Thread(target=warm_up, args=(pool, pool.names[0])).start()  # no daemon: Python waits for its end
            threading.Event().wait()
    print("\nStopped; what was uploaded is removed.")


@contextlib.contextmanager
def open_port(service: Service) -> Iterator[socket.socket]:
    """The port, taken at once, so that a person is told before anything is loaded."""
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((service.host, service.port))
            listener.listen()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptioningError(
                f"{service.host}:{service.port} cannot be used ({reason.lower()}); choose another --port or --host."
            ) from None
        yield listener


def open_first(pool: CaptionerPool, *, strict: bool) -> None:
    """Opens the first bundle that can be opened; those that cannot, or lack files, are left out, and why is printed."""
    is_open = False
    for name in pool.names:
        try:
            if is_open:
                pool.check(name)
            else:
                print(f"Loading {name} ...", flush=True)
                if pool.is_published(name):
                    pool.check(name)
                elif not runs_on_onnx([pool.folder(name)], pool.engine):
                    import_keras()
                pool.search(name)
                is_open = True
        except CaptioningError as error:
            if strict:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
            pool.leave_out(name)
    if not is_open:
        raise BundleError("No bundle is left that can be opened; train one with make train.")


def warm_up(pool: CaptionerPool, name: str) -> None:
    """Captions one picture, the whole of it and a part: what is done once is done while people read the page."""
    from captioning.serving.adjustments import example_png
    from captioning.serving.session import describe

    path = Path(os.environ["GRADIO_TEMP_DIR"], "first.png")
    with contextlib.suppress(CaptioningError, OSError):  # whoever asks is told; where the app ends, the folder is gone
        path.write_bytes(example_png(0))
        for region in (None, (0.0, 0.0, 0.5, 0.5)):
            describe(pool, name, str(path), region=region)


def application(
    pool: CaptionerPool, store: FeedbackStore, service: Service, credentials: Credentials | None, folder: str
) -> "FastAPI":
    """Our application, with the page of these bundles in it."""
    from captioning.app.folder_routes import folder_routes
    from captioning.app.page import LOOKS, THEME, build_page
    from captioning.app.texts import SAY

    has_folders = not service.is_public and credentials is None  # whoever asks is at this computer
    page = build_page(pool, store, is_public=service.is_public, has_folders=has_folders)
    routes = folder_routes(pool, store) if has_folders else None
    return mounted(page, credentials, folder, routes, theme=THEME, css_paths=LOOKS, i18n=SAY)


def mounted(
    page: "gr.Blocks", credentials: Credentials | None, folder: str, routes: "APIRouter | None" = None, **looks: Any
) -> "FastAPI":
    """An application of ours that holds a page, with the guard before it; `folder` is where Gradio keeps uploads.

    `routes` are those of the Folder tab, where it is there.
    """
    import gradio as gr
    from fastapi import FastAPI
    from starlette.routing import Mount

    app = FastAPI(openapi_url=None)
    if routes:
        app.include_router(routes)
    page.state_session_capacity = PEOPLE
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=credentials,
        auth_message=ASKED,
        max_file_size=LARGEST,
        footer_links=["api", "settings"],
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        **looks,
    )
    (app.state.page,) = [route.app for route in app.routes if isinstance(route, Mount)]  # Gradio's own application
    app.add_middleware(Guard, page=app.state.page, folder=folder, own=FOLDERS if routes else {})
    return app


@contextlib.contextmanager
def running(app: Any, listener: socket.socket, **more: Any) -> Iterator[None]:
    """Answers at an open port until the block ends; `more` are settings of Uvicorn.

    What a request says of its sender (X-Forwarded-For) is not believed.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,  # uvicorn's own would close the streams of other loggers
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=STOPPING,
        **more,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise CaptioningError("The app's server did not start; what it printed above says why.")
            time.sleep(0.01)
        yield
    finally:
        if page := getattr(app.state, "page", None):
            page.stop_event.set()  # ends what an open page waits for
        server.should_exit = True
        thread.join(2 * STOPPING)


def public_link(service: Service) -> str | None:
    """A public address that leads here through Gradio's tunnel; None where the tunnel cannot be reached."""
    import httpx
    from gradio import exceptions, networking

    host = "127.0.0.1" if service.host in EVERYWHERE else service.host
    unreachable = (RuntimeError, OSError, ValueError, httpx.HTTPError, exceptions.ChecksumMismatchError)
    try:
        address = networking.setup_tunnel(host, service.port, secrets.token_urlsafe(32), None, None)
    except unreachable:
        return None
    return "https://" + address.partition("://")[2]


def greeting(service: Service, link: str | None, credentials: Credentials | None) -> str:
    """What the terminal says once the page is there."""
    lines = [f"The app is on {address_of(service)}, Ctrl-C stops it."]
    if service.host in EVERYWHERE:
        lines.append(f"Others in this network reach it at {_address(own_address(), service.port)}.")
    if link:
        lines.append(f"Everyone who has the password can reach it at {link} for a week at most.")
    elif service.share:
        lines.append("There is no public link: Gradio's tunnel could not be reached. The app is served here alone.")
    if credentials and not service.auth:
        lines.append(f"User {credentials[0]}, password {credentials[1]} (--auth user:password sets your own).")
    if service.is_public:
        lines.append("Feedback is taken, but shown only by an app on 127.0.0.1 without --share.")
    return "\n".join(lines)


def own_address() -> str:
    """The address of this computer in its network, or its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # chooses a way there, and sends nothing
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def address_of(service: Service) -> str:
    """Where this computer reaches it."""
    return _address("localhost" if service.host in EVERYWHERE else service.host, service.port)


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
