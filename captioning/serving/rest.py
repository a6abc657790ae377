"""The REST interface: captions, attention, captioners and feedback over HTTP, with health and figures.

It is one FastAPI application over the pool and the batcher that it is given. docs/rest.md describes it for people.
"""

import asyncio
import contextlib
import functools
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import anyio
import anyio.to_thread
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import captioning
from captioning.data.feedback import FeedbackStore
from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption
from captioning.options import ServeOptions
from captioning.serving import documents, schemas
from captioning.serving.access import Access
from captioning.serving.adjustments import LONGEST_SIDE
from captioning.serving.batching import Batcher
from captioning.serving.bodies import Picture, read_body
from captioning.serving.gate import Gate, Told
from captioning.serving.job_routes import add_jobs
from captioning.serving.jobs import JobRunner, JobStore
from captioning.serving.pool import CaptionerPool
from captioning.serving.problems import Problem, problem_of, request_id
from captioning.serving.records import caption_record
from captioning.serving.split import Split, read_split
from captioning.serving.telemetry import Telemetry

READERS = 2  # pictures that are read at once


@dataclass(eq=False)
class Service:
    """What the routes share."""

    pool: CaptionerPool
    batcher: Batcher
    telemetry: Telemetry
    feedback: FeedbackStore | None = None
    access: Access | None = None  # None: no keys are asked for
    jobs: JobStore | None = None
    runner: JobRunner | None = None
    split: Split | None = None
    is_ready: bool = False

    def bundle(self, request: Request, settings: schemas.Asked) -> str:
        """The captioner that is asked for; where none is, the caller's in the split, or the first."""
        name = settings.captioner or (self.split.captioner(self.person(request, settings)) if self.split else "")
        self.pool.require(name or self.pool.names[0])
        return name or self.pool.names[0]

    def person(self, request: Request, settings: schemas.Asked) -> str:
        """A short code for whom a caption is, in the split."""
        return self.split.person(request.scope["state"]["caller"].id, settings.subject) if self.split else ""

    async def charge(self, request: Request, pictures: int) -> None:
        """Counts pictures against the quotas of whoever asks."""
        if self.access:
            caller = request.scope["state"]["caller"]
            await anyio.to_thread.run_sync(self.access.keys.charge, caller, pictures)


def open_service(
    pool: CaptionerPool,
    store: FeedbackStore | None,
    state: Path,
    options: ServeOptions,
    *,
    access: Access | None = None,
    log: TextIO | None = None,
) -> Service:
    """A service with its batches, jobs and figures; the jobs of an earlier process go on."""
    figures = Telemetry(log)
    batcher = Batcher(pool, options, seen=figures.seen)
    split = read_split(options.split, pool.names) if options.split else None
    jobs = JobStore(state / "jobs.db") if options.jobs else None
    waiting = jobs.waiting if jobs else lambda: 0
    figures.watch(queue=lambda: batcher.held, loaded=lambda: len(pool.loaded), jobs=waiting)
    return Service(pool, batcher, figures, store, access, jobs, JobRunner(jobs, batcher) if jobs else None, split)


def build(service: Service) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="captioning",
        version=captioning.__version__,
        description=documents.ABOUT,
        docs_url=None,  # they load scripts from other machines
        redoc_url=None,
        lifespan=functools.partial(_life, service),
        responses=documents.REFUSALS,
    )
    app.state.service = service
    for add in (_add_captions, _add_attention, _add_captioners, _add_feedback, add_jobs, _add_health):
        add(app, service)
    _add_problems(app)
    refuse_full = service.batcher.refuse_crowd
    app.add_middleware(Gate, access=service.access, tell=service.telemetry.tell, refuse_full=refuse_full)
    return app


@contextlib.asynccontextmanager
async def _life(service: Service, app: FastAPI) -> AsyncIterator[None]:
    app.state.readers = anyio.CapacityLimiter(READERS)
    service.is_ready = True
    async with contextlib.AsyncExitStack() as stack:
        for other in getattr(app.state, "beside", ()):  # applications that live as long
            await stack.enter_async_context(other.router.lifespan_context(other))
        yield
        service.is_ready = False


def _add_captions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/captions", openapi_extra=documents.body(schemas.CaptionSettings), tags=["captions"])
    async def create_captions(request: Request) -> schemas.Captions:
        """Caption one or several pictures."""
        pictures, settings = await read_body(request, schemas.CaptionSettings, most=schemas.MOST_PICTURES)
        bundle, found = await _captioned(request, service, pictures, settings)
        records = [
            caption_record(picture.name, each, boxes=settings.boxes)
            for picture, each in zip(pictures, found, strict=True)
        ]
        return schemas.Captions(captions=records, captioner=bundle, request_id=request_id(request))


def _add_attention(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/attention",
        openapi_extra=documents.body(schemas.AttentionSettings, several=False),
        responses=documents.DRAWING,
        response_class=Response,
        tags=["captions"],
    )
    async def draw_attention(request: Request) -> Response:
        """Caption a picture, and draw where the captioner attended for each word."""
        [picture], settings = await read_body(request, schemas.AttentionSettings, most=1)
        _, [caption] = await _captioned(request, service, [picture], settings)
        drawn = await _in_thread(request, _drawn, picture, caption, settings.format)
        return Response(drawn, media_type=f"image/{settings.format}")


def _drawn(picture: Picture, caption: Caption, kind: str) -> bytes:
    from captioning.plots import attention

    image = _shown(picture)
    if kind == "gif":
        return attention.walk_gif(image, caption.words)
    return attention.strip_png(image, caption.words, str(caption))


def _shown(picture: Picture) -> np.ndarray:
    return read_image(io.BytesIO(picture.data), longest=LONGEST_SIDE)


async def _captioned(
    request: Request, service: Service, pictures: list[Picture], settings: schemas.CaptionSettings
) -> tuple[str, list[Any]]:
    """The captioner's name, and for each picture its Caption, or the ImageError where there are several."""
    told: Told = request.scope["state"]["told"]
    bundle = service.bundle(request, settings)
    told.captioner, told.pictures = bundle, len(pictures)
    service.batcher.reserve(len(pictures))
    try:
        await service.charge(request, len(pictures))
        options = await _in_thread(request, service.batcher.search, bundle, settings.search())
        asked = [_one(request, service.batcher, picture, bundle, options) for picture in pictures]
        found = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        service.batcher.release(len(pictures))
    for each in found:
        if isinstance(each, BaseException) and (len(found) == 1 or not isinstance(each, ImageError)):
            raise each
        if isinstance(each, Caption):
            service.telemetry.captioned(bundle, each)
    return bundle, list(found)


async def _one(request: Request, batcher: Batcher, picture: Picture, bundle: str, options: Any) -> Caption:
    answer = await _in_thread(request, batcher.caption, picture.data, bundle, options)
    return await asyncio.shield(asyncio.wrap_future(answer))  # others may wait for the same answer


async def _in_thread(request: Request, work: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(work, *arguments, limiter=request.app.state.readers)


def _add_captioners(app: FastAPI, service: Service) -> None:
    @app.get("/v1/captioners", tags=["captioners"])
    def list_captioners() -> schemas.Captioners:
        """The captioners on offer, the default first."""
        pool = service.pool
        offers = [pool.offer(name) for name in pool.names]
        return schemas.Captioners(
            captioners=[
                schemas.CaptionerOffer(
                    name=name,
                    label=pool.labels[name],
                    about=pool.sentence(name),
                    languages=list(offer.languages),
                    translations=sorted(set(pool.translations) - set(offer.languages)),
                    cider=offer.score,
                    bleu=offer.bleu,
                    is_calibrated=offer.is_calibrated,
                    is_loaded=name in pool.loaded,
                )
                for name, offer in zip(pool.names, offers, strict=True)
            ]
        )


def _add_feedback(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/feedback",
        openapi_extra=documents.body(schemas.FeedbackSettings, several=False),
        status_code=201,
        tags=["feedback"],
    )
    async def send_feedback(request: Request) -> schemas.FeedbackKept:
        """Keep a rating, a corrected caption or a comment, with a copy of the picture."""
        [picture], settings = await read_body(request, schemas.FeedbackSettings, most=1)
        store = service.feedback
        if store is None:
            raise Problem(404, "feedback", "This service keeps no feedback.")
        bundle, through = service.bundle(request, settings), {"through": "rest"}
        if service.split:
            if not settings.captioner:
                raise Problem(422, "captioner", "Name the captioner that wrote the caption; its answer tells the name.")
            through |= service.split.note(service.person(request, settings), bundle)
        await service.charge(request, 1)
        view = await _in_thread(request, _shown, picture)
        said = {name: getattr(settings, name) for name in ("caption", "rating", "correction", "comment")}
        keep = functools.partial(store.add, view, bundle=bundle, options=through, **said)
        kept = await anyio.to_thread.run_sync(keep)
        return schemas.FeedbackKept(id=kept.id)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"])
    async def tell_health() -> schemas.Health:
        """Whether the process answers."""
        return schemas.Health(status="ok")

    @app.get("/readyz", tags=["health"])
    async def tell_readiness() -> schemas.Health:
        """Whether pictures are taken; 503 while the service starts, stops or is full."""
        if not service.is_ready:
            raise Problem(503, "not_ready", "The service is starting or stopping.", 1)
        if service.batcher.held >= service.batcher.options.queue:
            raise Problem(503, "busy", "The queue is full; try again soon.", 1)
        return schemas.Health(status="ready")

    @app.get("/metrics", response_class=Response, responses=documents.FIGURES, tags=["health"])
    async def tell_figures() -> Response:
        """Figures for Prometheus."""
        return Response(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_problems(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        told: Told = request.scope["state"]["told"]
        told.outcome = problem.code
        return problem.response(told.id)

    @app.exception_handler(Problem)
    async def refuse(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(CaptioningError)
    async def explain(request: Request, error: CaptioningError) -> Response:
        return answer(request, problem_of(error))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        found = answer(request, Problem(error.status_code, "http", str(error.detail)))
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(RequestValidationError)
    async def refuse_values(request: Request, error: RequestValidationError) -> Response:
        found = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        return answer(request, Problem(422, "invalid", f"These values cannot be used: {'; '.join(found)}."))

    @app.exception_handler(ClientDisconnect)
    async def note_gone(request: Request, error: ClientDisconnect) -> Response:
        return answer(request, Problem(400, "gone", "The body ended early."))

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        app.state.service.telemetry.failed(error, request_id(request))
        return answer(request, Problem(500, "failed", "Something failed here; tell whoever runs this, with the id."))
