"""The command that serves captions over REST."""

import argparse
from pathlib import Path
from typing import Any

import captioning
from captioning.commands.arguments import (
    PAGE_MODELS,
    Command,
    add_captioners,
    add_encoder_weights,
    add_translations,
    page_models,
)
from captioning.options import ENGINES, ServeOptions
from captioning.runtime.flags import Parser, add_group, from_flags

ARTIFACTS = Path("artifacts")
ALGORITHMS = ("HS256", "RS256")  # those of serving/access.py, which --help does not wait for


def _add_serve(command: Parser) -> None:
    add = command.add_argument
    add("--bundle", nargs="+", type=Path, metavar="FOLDER", help="bundles to offer (default: all in --artifacts)")
    add("--artifacts", type=Path, default=ARTIFACTS, help="folder of the bundles (default: %(default)s)")
    add_captioners(command)
    add_translations(command)
    add_encoder_weights(command)
    engines = (*ENGINES, "ray")
    about = "what computes captions, as in caption; ray: replicas on a Ray cluster (default: %(default)s)"
    add("--engine", default="auto", choices=engines, help=about)
    about = "with --engine ray: the fewest and the most replicas (default: 1, and one per two cores of the cluster)"
    add("--replicas", nargs=2, type=int, metavar=("LEAST", "MOST"), help=about)
    add("--host", default="127.0.0.1", help="0.0.0.0: everybody in the network (default: %(default)s)")
    add("--port", type=int, default=7860, help="(default: %(default)s)")
    add("--no-page", action="store_true", help="the REST interface alone, without the page")
    add("--auth", default="", metavar="USER:PASSWORD", help="user and password of the page, where others can reach it")
    add("--state", type=Path, default=Path("service"), help="folder of keys and jobs (default: %(default)s)")
    add("--feedback", type=Path, default=Path("feedback/feedback.db"), help="what people say (default: %(default)s)")
    _add_guards(command)
    add_group(command, ServeOptions, "service", "Batches, queue and memory.")


def _add_guards(command: Parser) -> None:
    group = command.add_argument_group("guards", "Keys are needed on every address but this computer's own.")
    add = group.add_argument
    add("--require-keys", action="store_true", help="ask for keys on this computer too, as behind a proxy")
    add("--jwt-key", type=Path, metavar="FILE", help="secret (HS256) or public key (RS256): take JSON Web Tokens too")
    add("--jwt-algorithm", default="HS256", choices=ALGORITHMS, help="(default: %(default)s)")
    add("--jwt-audience", default="", metavar="NAME", help="the aud that a token must be for")
    add("--tls-certificate", default="", metavar="FILE", help="certificate in PEM: serve HTTPS")
    add("--tls-key", default="", metavar="FILE", help="its private key in PEM")
    add("--sentry", default="", metavar="DSN", help="report failures to Sentry, without pictures, words or paths")


def _serve(flags: argparse.Namespace) -> int:
    from captioning.app import server, service
    from captioning.serving.access import Tokens
    from captioning.serving.pool import find_bundles
    from captioning.serving.telemetry import start_sentry

    has_none = flags.artifacts == ARTIFACTS and not ARTIFACTS.exists()  # away from a checkout
    nearby = [captioning.in_the_box()] if has_none else find_bundles(flags.artifacts, flags.encoder_weights)
    folders = flags.bundle or nearby
    places = service.Places(
        folders, flags.feedback, flags.state, flags.encoder_weights, is_strict=bool(flags.bundle), **_engine(flags)
    )
    address = server.Service(flags.host, flags.port, False, flags.auth)
    tokens = Tokens.read(flags.jwt_key, flags.jwt_algorithm, flags.jwt_audience) if flags.jwt_key else None
    guards = service.Guards(flags.require_keys, tokens, flags.tls_certificate, flags.tls_key)
    if flags.sentry:
        start_sentry(flags.sentry)
    service.serve(places, address, guards, from_flags(flags, ServeOptions()), has_page=not flags.no_page)
    return 0


def _engine(flags: argparse.Namespace) -> dict[str, Any]:
    """What computes captions, and how many replicas."""
    if flags.engine != "ray":
        if flags.replicas:
            flags.refuse("--replicas is for --engine ray")
        return {"engine": flags.engine, "captioners": flags.captioner, "offline": flags.offline, **page_models(flags)}
    for name in ("captioner", *PAGE_MODELS):
        if getattr(flags, name):
            flags.refuse(f"--{name.replace('_', '-')} is not for --engine ray")
    from captioning.serving.ray_serve import Scale, require_serve

    require_serve()
    return {"scale": Scale(*(flags.replicas or ()))}


SERVE = Command(
    "serve",
    "serve captions over REST, and the page beside it",
    (
        "                                      # http://127.0.0.1:7860/v1/captions, and the page at /",
        "--no-page --bundle artifacts/flickr8k # the REST interface alone",
        "--split flickr8k=80,mine=20           # an experiment; compare --feedback tells how it went",
        "--engine ray --replicas 2 8           # captioners on a Ray cluster, as many as the load needs",
        "--host 0.0.0.0 --tls-certificate cert.pem --tls-key key.pem     # for others, with keys",
    ),
    add=_add_serve,
    run=_serve,
)
