"""The REST service as an AWS Lambda function. API Gateway, or a function URL with IAM, checks who may ask.

It is the same application as that of `captioning serve`, without jobs and feedback, which need a disk that stays.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

import captioning
from captioning.options import ServeOptions
from captioning.serving import rest
from captioning.serving.pool import CaptionerPool

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"]


def application() -> "ASGIApp":
    """The application with one captioner, the one in the box unless BUNDLE names a folder."""
    bundle = Path(os.environ.get("BUNDLE") or captioning.in_the_box())
    options = ServeOptions(window=0.0, idle=0.0, jobs=False)
    app = rest.build(rest.open_service(CaptionerPool([bundle], engine="onnx"), None, Path("/tmp"), options))

    async def answer(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http":  # who may ask was checked before; without keys only this host may
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "headers": [*others, (b"host", b"localhost")]}
        await app(scope, receive, send)

    return answer


handler = Mangum(application(), lifespan="on", text_mime_types=TEXT)
