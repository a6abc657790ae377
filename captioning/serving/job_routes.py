"""The routes of jobs: make one, ask how far it is, read its results, cancel it."""

from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI, Request, Response

from captioning.serving import documents, schemas
from captioning.serving.bodies import read_body
from captioning.serving.jobs import Job, JobStore
from captioning.serving.problems import Problem

if TYPE_CHECKING:
    from captioning.serving.rest import Service

LINES = "application/jsonl"


def add_jobs(app: FastAPI, service: "Service") -> None:
    """Adds the routes; without a store of jobs they answer 404."""
    _add_making(app, service)
    _add_reading(app, service)


def _add_making(app: FastAPI, service: "Service") -> None:
    most, accepted = schemas.MOST_IN_A_JOB, documents.body(schemas.CaptionSettings, most=schemas.MOST_IN_A_JOB)

    @app.post("/v1/jobs", openapi_extra=accepted, status_code=202, tags=["jobs"])
    async def create_job(request: Request, response: Response) -> schemas.JobState:
        """Caption many pictures in the background; the job outlives a restart of the service."""
        store, settings_of = _store(service), schemas.CaptionSettings
        pictures, settings = await read_body(request, settings_of, most=most)
        bundle = service.bundle(request, settings)
        options = await anyio.to_thread.run_sync(service.batcher.search, bundle, settings.search())
        request.scope["state"]["told"].captioner, request.scope["state"]["told"].pictures = bundle, len(pictures)
        await service.charge(request, len(pictures))
        owner = request.scope["state"]["caller"].id
        job = await anyio.to_thread.run_sync(
            lambda: store.create(owner, bundle, options, pictures, boxes=settings.boxes)
        )
        if service.runner:
            service.runner.wake()
        response.headers["location"] = f"/v1/jobs/{job.id}"
        return _state(job)

    @app.delete("/v1/jobs/{job_id}", responses=documents.ENDED, tags=["jobs"])
    def cancel_job(request: Request, job_id: str) -> schemas.JobState:
        """Cancel a job; what was captioned of it can still be read."""
        store = _store(service)
        store.find(job_id, _owner(request))
        store.cancel(job_id)
        return _state(store.find(job_id))


def _add_reading(app: FastAPI, service: "Service") -> None:
    @app.get("/v1/jobs", tags=["jobs"])
    def list_jobs(request: Request) -> schemas.Jobs:
        """The jobs of this key, newest first; those of all keys for an admin."""
        return schemas.Jobs(jobs=[_state(job) for job in _store(service).list(_owner(request))])

    @app.get("/v1/jobs/{job_id}", tags=["jobs"])
    def read_job(request: Request, job_id: str) -> schemas.JobState:
        """How far a job is."""
        return _state(_store(service).find(job_id, _owner(request)))

    @app.get("/v1/jobs/{job_id}/results", response_class=Response, responses=documents.LINES, tags=["jobs"])
    def read_results(request: Request, job_id: str) -> Response:
        """The results so far, a line of JSON for each picture, in their order."""
        store = _store(service)
        store.find(job_id, _owner(request))
        return Response(store.results(job_id), media_type=LINES)


def _store(service: "Service") -> JobStore:
    if service.jobs is None:
        raise Problem(404, "jobs", "This service takes no jobs.")
    return service.jobs


def _owner(request: Request) -> str | None:
    """Whose jobs are seen; None: everybody's."""
    caller = request.scope["state"]["caller"]
    return None if caller.role == "admin" else caller.id


def _state(job: Job) -> schemas.JobState:
    return schemas.JobState(
        id=job.id,
        state=job.state,  # type: ignore[arg-type]
        captioner=job.captioner,
        pictures=job.pictures,
        answered=job.answered,
        created=job.created,
        finished=job.finished,
    )
