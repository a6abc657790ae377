"""The command that serves captions over REST."""

import argparse
from pathlib import Path

from captioning.commands.arguments import Command, add_encoder_weights, add_engine
from captioning.options import ServeOptions
from captioning.runtime.flags import Parser, add_group, from_flags


def _add_serve(command: Parser) -> None:
    add = command.add_argument
    add("--bundle", nargs="+", type=Path, metavar="FOLDER", help="bundles to offer (default: all in --artifacts)")
    add("--artifacts", type=Path, default=Path("artifacts"), help="folder of the bundles (default: %(default)s)")
    add_encoder_weights(command)
    add_engine(command)
    add("--host", default="127.0.0.1", help="0.0.0.0: everybody in the network (default: %(default)s)")
    add("--port", type=int, default=7860, help="(default: %(default)s)")
    add("--no-page", action="store_true", help="the REST interface alone, without the page")
    add("--auth", default="", metavar="USER:PASSWORD", help="user and password of the page, where others can reach it")
    add("--feedback", type=Path, default=Path("feedback/feedback.db"), help="what people say (default: %(default)s)")
    add_group(command, ServeOptions, "service", "Batches, queue and memory.")


def _serve(flags: argparse.Namespace) -> int:
    from captioning.app import server, service
    from captioning.serving.pool import find_bundles

    folders = flags.bundle or find_bundles(flags.artifacts, flags.encoder_weights)
    places = service.Places(folders, flags.feedback, flags.encoder_weights, flags.engine, bool(flags.bundle))
    address = server.Service(flags.host, flags.port, False, flags.auth)
    service.serve(places, address, from_flags(flags, ServeOptions()), has_page=not flags.no_page)
    return 0


SERVE = Command(
    "serve",
    "serve captions over REST, and the page beside it",
    (
        "                                      # http://127.0.0.1:7860/v1/captions, and the page at /",
        "--no-page --bundle artifacts/flickr8k # the REST interface alone",
    ),
    add=_add_serve,
    run=_serve,
)
