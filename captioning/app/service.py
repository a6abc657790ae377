"""The REST service in a process of its own: beside the page, or without it."""

import contextlib
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.app import server
from captioning.app.console import guarded_output
from captioning.app.scratch import keep_swept, scratch_folder
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError, MissingExtra, StorageError
from captioning.options import ServeOptions
from captioning.runtime.environment import explain_missing_packages
from captioning.runtime.files import explain_disk_errors, try_lock
from captioning.runtime.memory import share_one_heap
from captioning.serving import rest
from captioning.serving.access import Access, Tokens
from captioning.serving.keys import FILE, KeyStore
from captioning.serving.pool import CaptionerPool

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from captioning.serving.ray_serve import Scale

REST = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")
KEEP_ALIVE = 75  # seconds: longer than clients and proxies usually keep an idle connection
TIDIED = 5.0  # seconds between two looks for captioners to unload


@dataclass(frozen=True)
class Places:
    """Where captioners are read from, and where what people send is kept."""

    bundles: Sequence[Path]
    feedback: Path
    state: Path  # folder of keys and jobs
    encoder_weights: str = "imagenet"
    engine: str = "auto"
    is_strict: bool = False  # a broken bundle is an error; else it is left out
    captioners: Sequence[str] = ()  # published ones, or cascades
    offline: bool = False
    translate: Sequence[str] = ()  # languages, or LANGUAGE=MODEL
    questions: str = ""  # the model that answers them on the page
    labels_model: str = ""  # CLIP, for the labels on the page
    segments: Sequence[str] = ()  # the models that find them on the page
    scale: "Scale | None" = None  # of the replicas on a Ray cluster; None: this process captions


@dataclass(frozen=True)
class Guards:
    """Who may ask, and how what is sent is protected on its way."""

    require_keys: bool = False  # on this computer too
    tokens: Tokens | None = None
    certificate: str = ""
    certificate_key: str = ""

    def access(self, places: Places, address: server.Service) -> Access | None:
        """The keys, which every address but this computer's own needs."""
        if not (address.is_public or self.require_keys or self.tokens):
            return None
        keys = KeyStore(places.state / FILE)
        if not self.tokens and not any(not key.revoked for key in keys.list()):
            raise CaptioningError(
                f"{address.host} is open to others and there is no key in {places.state}; make one first: "
                f"captioning keys create NAME --state {places.state}."
            )
        return Access(keys, self.tokens)

    def tls(self) -> dict[str, Any]:
        """The settings of Uvicorn for HTTPS."""
        if not (self.certificate or self.certificate_key):
            return {}
        if not (self.certificate and self.certificate_key):
            raise CaptioningError("--tls-certificate and --tls-key belong together; give both.")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.certificate_key)
        except (OSError, ssl.SSLError) as error:
            raise CaptioningError(
                f"{self.certificate} and {self.certificate_key} cannot be used ({error}); give a certificate and its "
                "key in PEM."
            ) from None
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.certificate_key}


def serve(
    places: Places, address: server.Service, guards: Guards, options: ServeOptions, *, has_page: bool = True
) -> None:
    """Serves until Ctrl-C."""
    credentials, tls = address.credentials() if has_page else None, guards.tls()
    access = guards.access(places, address)
    share_one_heap()
    with (
        server.open_port(address) as listener,
        locked(places.state),
        scratch_folder() as folder,
        contextlib.suppress(KeyboardInterrupt),
        contextlib.ExitStack() as stack,
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        pool = opened(places, stack)
        keep_swept(folder)
        terminal, store = sys.stdout, FeedbackStore(places.feedback)
        service = rest.open_service(pool, store, places.state, options, access=access, log=terminal)
        keep_tidy(pool, options)
        app = rest.build(service)
        page = _page(pool, store, address, credentials, folder) if has_page else None
        whole = beside(app, page) if page else app
        with guarded_output(), server.running(whole, listener, timeout_keep_alive=KEEP_ALIVE, **tls):
            print(greeting(address, credentials, has_page=page is not None, is_https=bool(tls)), file=terminal)
            terminal.flush()
            threading.Thread(target=server.warm_up, args=(pool, pool.names[0])).start()
            threading.Event().wait()
    print("\nStopped; what was uploaded is removed.")


def opened(places: Places, stack: contextlib.ExitStack) -> CaptionerPool:
    """The captioners, the first of them loaded; with a scale, their replicas run until the stack is closed."""
    settings: dict[str, Any] = {"encoder_weights": places.encoder_weights, "engine": places.engine}
    if places.scale is None:
        settings |= {"captioners": places.captioners, "offline": places.offline}
        settings |= {"translate": places.translate, "questions": places.questions}
        settings |= {"labels_model": places.labels_model, "segments": places.segments}
        pool = CaptionerPool(places.bundles, **settings)
        server.open_first(pool, strict=places.is_strict)
        return pool
    from captioning.serving import ray_serve

    pool = ray_serve.ReplicaPool(places.bundles, **settings)
    server.open_first(pool, strict=places.is_strict)
    stack.enter_context(ray_serve.replicas(pool, places.scale))
    return pool


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second service from running the same jobs."""
    with contextlib.ExitStack() as stack:
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(folder / ".lock", "ab"))
        if not try_lock(file.fileno()):
            raise StorageError(f"Another service uses {folder}; stop it, or give another folder with --state.")
        yield


def keep_tidy(pool: CaptionerPool, options: ServeOptions) -> None:
    """Unloads captioners from time to time, as long as the program runs."""

    def tidy() -> None:
        while True:
            time.sleep(TIDIED)
            pool.tidy(idle=options.idle, memory=options.memory)

    if options.idle or options.memory:
        threading.Thread(target=tidy, name="tidy", daemon=True).start()


def _page(
    pool: CaptionerPool,
    store: FeedbackStore,
    address: server.Service,
    credentials: server.Credentials | None,
    folder: str,
) -> "FastAPI | None":
    """The page; None, and a line that says so, where its packages are missing."""
    try:
        with explain_missing_packages("app"):
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


def greeting(address: server.Service, credentials: server.Credentials | None, *, has_page: bool, is_https: bool) -> str:
    """What the terminal says once the service is there."""
    where = server.address_of(address)
    where = where.replace("http:", "https:") if is_https else where
    lines = [f"The service is on {where}, Ctrl-C stops it."]
    lines.append(f"curl -F images=@photo.jpg {where}/v1/captions")
    if has_page:
        lines.append(f"The page is on {where}/.")
    if credentials and not address.auth:
        lines.append(f"User {credentials[0]}, password {credentials[1]} (--auth user:password sets your own).")
    if address.is_public and not is_https:
        lines.append("Keys travel unencrypted; give --tls-certificate and --tls-key, or put a proxy with TLS in front.")
    return "\n".join(lines)
