#!/usr/bin/env python
"""The app: caption pictures in a browser, see where each word was looked for, put captions right.

python app_gradio.py                                 every bundle in artifacts/, on http://127.0.0.1:7860
python app_gradio.py --bundle artifacts/scenes       this one alone
python app_gradio.py --share --auth ada:lovelace     also a public link, behind this password
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioning.errors import CaptioningError


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags and serves; a person's mistake ends in one sentence and an exit status."""
    flags = flag_parser().parse_args(arguments)
    try:
        serve(flags)
    except CaptioningError as error:
        print(f"app_gradio.py: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


def flag_parser() -> argparse.ArgumentParser:
    """The flags of the app."""
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    add = parser.add_argument
    add("--bundle", nargs="+", type=Path, metavar="FOLDER", help="bundles to offer (default: all in --artifacts)")
    add("--artifacts", type=Path, default=Path("artifacts"), help="folder of the bundles (default: %(default)s)")
    add("--encoder-weights", default="imagenet", metavar="FILE", help="weights file of a frozen encoder")
    add("--host", default="127.0.0.1", help="0.0.0.0: all who reach this computer (default: %(default)s)")
    add("--port", type=int, default=7860, help="(default: %(default)s)")
    add("--share", action="store_true", help="also a public link through Gradio's tunnel, for a week at most")
    add("--auth", default="", metavar="USER:PASSWORD", help="ask for these; a public app makes up a password itself")
    add("--feedback", type=Path, default=Path("feedback/feedback.db"), help="what people say (default: %(default)s)")
    return parser


def serve(flags: argparse.Namespace) -> None:
    """Serves the page until it is told to stop."""
    from captioning.app import server as app
    from captioning.serving.pool import find_bundles

    service = app.Service(flags.host, flags.port, flags.share, flags.auth)
    folders = flags.bundle or find_bundles(flags.artifacts)
    named = bool(flags.bundle)
    app.serve(folders, service, encoder_weights=flags.encoder_weights, feedback=flags.feedback, strict=named)


if __name__ == "__main__":
    sys.exit(main())
