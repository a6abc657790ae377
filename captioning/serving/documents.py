"""The parts of the OpenAPI document that FastAPI cannot derive: bodies of two kinds, examples, refusals."""

from typing import Any

from pydantic import BaseModel

from captioning.serving.bodies import PICTURES
from captioning.serving.schemas import ProblemBody

ABOUT = """Captions for photographs, with calibrated confidence and attention.

Send pictures as multipart/form-data, or as base64 in JSON. With keys, send `Authorization: Bearer KEY`.
Every refusal is an application/problem+json document with the id of the request."""
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="
_BINARY = {"schema": {"type": "string", "format": "binary"}}
DRAWING: dict[int | str, dict[str, Any]] = {
    200: {"description": "The drawing", "content": {"image/png": _BINARY, "image/gif": _BINARY}}
}
FIGURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Figures", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A line of JSON per picture", "content": {"application/jsonl": {"schema": {"type": "string"}}}}
}
MEANINGS = {
    400: "The request cannot be read",
    401: "No key, or one that is not valid",
    403: "This key, page or host may not ask for this",
    404: "There is nothing here",
    405: "Another method was expected",
    408: "The body came too slowly",
    413: "Too much was sent",
    415: "The body is of another kind",
    422: "A picture or a field cannot be used",
    429: "The key's quota is used up; Retry-After tells when to come back",
    500: "Something failed in the service",
    503: "The service is full, starting or stopping; Retry-After tells when to come back",
}
_EXAMPLE = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "code": "busy",
    "detail": "64 pictures are waiting, no more than 64 can; try again soon.",
    "request_id": "5f0c8a4e2c9b4bb1a3f1",
}
_REFERENCE = {"$ref": "#/components/schemas/ProblemBody"}


def _refusal(meaning: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _REFERENCE, "example": _EXAMPLE}}
    return {"model": ProblemBody, "description": meaning, "content": content}


REFUSALS: dict[int | str, dict[str, Any]] = {status: _refusal(meaning) for status, meaning in MEANINGS.items()}
ENDED: dict[int | str, dict[str, Any]] = {409: _refusal("The job has ended before")}


def body(model: type[BaseModel], *, several: bool = True, most: int = 16) -> dict[str, Any]:
    """The body of a request in both kinds, with an example."""
    schema = model.model_json_schema()
    schema.pop("title", None)
    limits = {"minItems": 1, "maxItems": most if several else 1}
    form, text = ({"type": "string", "format": each} for each in ("binary", "byte"))
    kinds = {
        "multipart/form-data": _with_pictures(schema, {**form}, limits),
        "application/json": _with_pictures(schema, {**text}, limits),
    }
    content: dict[str, Any] = {kind: {"schema": each} for kind, each in kinds.items()}
    content["application/json"]["example"] = {PICTURES: [DOT], **_example(model)}
    return {"requestBody": {"required": True, "content": content}}


def _with_pictures(schema: dict[str, Any], picture: dict[str, Any], limits: dict[str, int]) -> dict[str, Any]:
    pictures = {"type": "array", "items": picture, "description": "pictures of at most 10 MB and 50 megapixels"}
    properties = {PICTURES: {**pictures, **limits}, **schema["properties"]}
    return {**schema, "properties": properties, "required": [PICTURES, *schema.get("required", [])]}


def _example(model: type[BaseModel]) -> dict[str, Any]:
    return {"caption": "a dog runs", "rating": 2} if "rating" in model.model_fields else {"num_beams": 5}
