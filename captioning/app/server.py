"""Puts a page on a port, behind a password where others can reach it, until it is told to stop."""

import contextlib
import io
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.app.gradio_patches import fetch_nothing, print_nothing_sent
from captioning.app.guard import HERE, Guard, keep_swept
from captioning.app.login_throttle import LoginThrottle
from captioning.data.feedback import FeedbackStore
from captioning.errors import BundleError, CaptioningError
from captioning.runtime.keras_import import import_keras
from captioning.serving.pool import CaptionerPool

LARGEST = "10mb"  # of an upload
GUARD: dict[str, Any] = {"middleware": [(Guard, (), {}), (LoginThrottle, (), {})]}  # as Starlette wants it
ASKED = "Whoever shared this page knows its user and password. After ten wrong ones it does not answer for a while."
PEOPLE = 128  # sessions that are remembered, those used last


@dataclass(frozen=True)
class Service:
    """Where the app is reached, and by whom."""

    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    auth: str = ""

    @property
    def is_public(self) -> bool:
        """Whether others than the person at this computer can reach it."""
        return self.share or self.host not in HERE

    def credentials(self) -> tuple[str, str] | None:
        """The user and the password that are asked for; a public page is never without."""
        if self.auth:
            user, _, password = self.auth.partition(":")
            if not (user and password):
                raise CaptioningError("--auth needs a user and a password, as in --auth ada:lovelace.")
            return user, password
        return ("guest", secrets.token_urlsafe(12)) if self.is_public else None


def serve(folders: Sequence[Path], service: Service, *, encoder_weights: str, feedback: Path, strict: bool) -> None:
    """Serves the bundles until Ctrl-C; whatever was uploaded is gone afterwards.

    `strict`: a broken bundle is an error; else it is left out.
    """
    credentials = service.credentials()
    refuse_taken(service)
    with scratch_folder(), contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        shelf, store = CaptionerPool(folders, encoder_weights=encoder_weights), FeedbackStore(feedback)
        open_first(shelf, strict=strict)
        keep_swept(os.environ["GRADIO_TEMP_DIR"])
        page = open_page(shelf, store, service, credentials)
        print(greeting(service, page.share_url, credentials))
        threading.Thread(target=warm_up, args=(shelf, shelf.names[0])).start()  # no daemon: Python waits for its end
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    print("\nStopped; what was uploaded is removed.")


def refuse_taken(service: Service) -> None:
    """Says so at once if the port cannot be had."""
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((service.host, service.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CaptioningError(
            f"{service.host}:{service.port} cannot be used ({reason.lower()}); choose another --port or --host."
        ) from None


@contextlib.contextmanager
def scratch_folder() -> Iterator[None]:
    """A folder for uploads and what is made of them, for Gradio and to be removed with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="captioning-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        os.environ |= {"GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000"}  # else it sums up all requests at every one
        yield


def open_first(shelf: CaptionerPool, *, strict: bool) -> None:
    """Opens the first bundle that can be opened; those that cannot, or lack files, are left out, and why is printed."""
    is_open = False
    for name in shelf.names:
        try:
            if is_open:
                shelf.check(name)
            else:
                print(f"Loading {name} ...", flush=True)
                import_keras()
                shelf.search(name)
                is_open = True
        except CaptioningError as error:
            if strict:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
            shelf.leave_out(name)
    if not is_open:
        raise BundleError("No bundle is left that can be opened; train one with make train.")


def warm_up(shelf: CaptionerPool, name: str) -> None:
    """Captions one picture, the whole of it and a part: what is done once is done while people read the page."""
    from captioning.serving.adjustments import example_png
    from captioning.serving.session import describe

    path = Path(os.environ["GRADIO_TEMP_DIR"], "first.png")
    with contextlib.suppress(CaptioningError, OSError):  # whoever asks is told; where the app ends, the folder is gone
        path.write_bytes(example_png(0))
        for region in (None, (0.0, 0.0, 0.5, 0.5)):
            describe(shelf, name, str(path), region=region)


def open_page(shelf: CaptionerPool, store: FeedbackStore, service: Service, credentials: tuple[str, str] | None) -> Any:
    """The page, being served; `share_url` is None where there is no public link."""
    from captioning.app.page import LOOKS, THEME, build_page

    page = build_page(shelf, store, is_public=service.is_public)
    fetch_nothing()
    with contextlib.redirect_stdout(io.StringIO()):  # Gradio's own lines, in place of which we print ours
        page.launch(
            server_name=service.host,
            server_port=service.port,
            share=service.share,
            auth=credentials,
            auth_message=ASKED,
            app_kwargs=GUARD,
            max_file_size=LARGEST,
            state_session_capacity=PEOPLE,
            theme=THEME,
            css_paths=LOOKS,
            footer_links=["api", "settings"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    print_nothing_sent()
    return page


def greeting(service: Service, link: str | None, credentials: tuple[str, str] | None) -> str:
    """What the terminal says once the page is there."""
    host = "localhost" if service.host == "0.0.0.0" else service.host
    lines = [f"The app is on http://{host}:{service.port}, Ctrl-C stops it."]
    if link:
        lines.append(f"Everyone who has the password can reach it at {link} for a week at most.")
    elif service.share:
        lines.append("There is no public link: Gradio's tunnel could not be reached. The app is served here alone.")
    if credentials and not service.auth:
        lines.append(f"User {credentials[0]}, password {credentials[1]} (--auth user:password sets your own).")
    if service.is_public:
        lines.append("Feedback is taken, but shown only by an app on 127.0.0.1 without --share.")
    return "\n".join(lines)
