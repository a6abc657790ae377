"""The command that opens the app."""

import argparse
from pathlib import Path

from captioning.commands.arguments import (
    Command,
    add_captioners,
    add_encoder_weights,
    add_engine,
    add_translations,
    page_models,
)
from captioning.runtime.flags import Parser


def _add_app(command: Parser) -> None:
    add = command.add_argument
    add("--bundle", nargs="+", type=Path, metavar="FOLDER", help="bundles to offer (default: all in --artifacts)")
    add("--artifacts", type=Path, default=Path("artifacts"), help="folder of the bundles (default: %(default)s)")
    add_captioners(command)
    add_translations(command)
    add_encoder_weights(command)
    add_engine(command)
    add("--host", help="0.0.0.0: everybody in the network (default: GRADIO_SERVER_NAME, else 127.0.0.1)")
    add("--port", type=int, help="(default: GRADIO_SERVER_PORT, else 7860)")
    add("--share", action="store_true", help="also a public link through Gradio's tunnel, for a week at most")
    add("--auth", default="", metavar="USER:PASSWORD", help="user and password (default: a public app makes one up)")
    add("--feedback", type=Path, default=Path("feedback/feedback.db"), help="what people say (default: %(default)s)")


def _app(flags: argparse.Namespace) -> int:
    from captioning.app import server
    from captioning.serving.pool import find_bundles

    service = server.Service.asked(flags)
    folders = flags.bundle or find_bundles(flags.artifacts, flags.encoder_weights)
    strict = bool(flags.bundle)
    options = {"encoder_weights": flags.encoder_weights, "engine": flags.engine}
    options |= {"captioners": flags.captioner, "offline": flags.offline}
    options |= page_models(flags)
    server.serve(folders, service, **options, feedback=flags.feedback, strict=strict)
    return 0


APP = Command(
    "app",
    "open a page in the browser: caption, see attention, correct",
    (
        "                                      # every bundle in artifacts/, on http://127.0.0.1:7860",
        "--bundle artifacts/flickr8k           # this one alone",
        "--captioner blip git                  # beside large published models, on the tab Compare",
        "--translate vi fr --questions blip-vqa  # captions in more languages, answers to questions",
        "--segments mask2former                # objects with masks, each captioned, on the tab Segments",
        "--share                               # also a public link, behind a password that is made up",
    ),
    add=_add_app,
    run=_app,
)
