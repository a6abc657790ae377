"""Pictures and fields out of a request's body, which is multipart/form-data or JSON with pictures in base64."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from captioning.runtime import strict_json
from captioning.serving.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST = 10 * 2**20  # bytes of a picture, as in the app
PICTURES = "images"  # the field
DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
LONGEST_NAME = 100
MOST_FIELDS = 100
SHOWN = 5  # mistakes of a body that are told

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True)
class Picture:
    """A picture's file as it was sent, and its name."""

    name: str
    data: bytes


async def read_body(request: "Request", model: type[Settings], *, most: int) -> tuple[list[Picture], Settings]:
    """The pictures of a request, at least one, and its other fields as a record."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        pictures, values = await _from_form(request, model, most)
    elif kind == "application/json":
        body = await request.body()
        pictures, values = await run_in_threadpool(_from_json, body, most)
    else:
        raise Problem(415, "content_type", "Send multipart/form-data with pictures as images, or application/json.")
    if not pictures:
        raise Problem(422, "no_picture", f"No picture came with the request; send one as {PICTURES}.")
    if large := next((each.name for each in pictures if len(each.data) > LARGEST), None):
        raise Problem(413, "image_too_large", f"{large} has more than {LARGEST // 2**20} MB; make it smaller.")
    return pictures, validated(model, values)


async def _from_form(request: "Request", model: type[Settings], most: int) -> tuple[list[Picture], dict[str, Any]]:
    pictures: list[Picture] = []
    values: dict[str, Any] = {}
    async with request.form(max_files=most, max_fields=MOST_FIELDS, max_part_size=LARGEST) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != PICTURES:
                    raise Problem(422, "invalid", f"Pictures are sent as {PICTURES}; {_short(name)} is another field.")
                pictures.append(Picture(_name(value.filename, len(pictures)), await value.read(LARGEST + 1)))
            elif name in model.model_fields and _holds_several(model, name):
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
    return pictures, values


def _holds_several(model: type[BaseModel], name: str) -> bool:
    kind = model.model_fields[name].annotation
    return any(get_origin(each) is list for each in (kind, *get_args(kind)))


def _from_json(body: bytes, most: int) -> tuple[list[Picture], dict[str, Any]]:
    try:
        values = strict_json.loads(body)
    except ValueError as error:
        raise Problem(400, "json", f"The body is no JSON: {error}.") from None
    if not isinstance(values, dict):
        raise Problem(422, "invalid", f'The body is no object; send {{"{PICTURES}": ["BASE64"]}}.')
    sent = values.pop(PICTURES, [])
    if not isinstance(sent, list) or not all(isinstance(each, str) for each in sent):
        raise Problem(422, "invalid", f"{PICTURES} is not a list of texts; each picture is one text in base64.")
    if len(sent) > most:
        raise Problem(413, "too_many_images", f"{len(sent)} pictures were sent; send at most {most} at once.")
    return [Picture(str(number), _decoded(text, number)) for number, text in enumerate(sent)], values


def _decoded(text: str, number: int) -> bytes:
    opening = DATA_ADDRESS.match(text)
    try:
        return base64.b64decode(text[opening.end() :] if opening else text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(422, "base64", f"{PICTURES}[{number}] is no base64; encode the bytes of the file.") from None


def _name(sent: str | None, number: int) -> str:
    """The last part of a file's name, or its number."""
    return _short(re.split(r"[\\/]", sent or "")[-1]) or str(number)


def _short(text: str) -> str:
    return "".join(each for each in text if each.isprintable())[:LONGEST_NAME]


def validated(model: type[Settings], values: dict[str, Any]) -> Settings:
    """The record of these values; what is wrong with them is told field by field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{_short('.'.join(map(str, each['loc'])))}: {each['msg']}" for each in found[:SHOWN]]
        raise Problem(422, "invalid", f"These fields cannot be used: {'; '.join(told)}.") from None
