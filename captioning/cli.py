"""The command line: parses, runs one command, prints; the modules that need Keras are imported only then."""

import argparse
import os
import sys
from collections.abc import Sequence

import captioning
from captioning.commands.arguments import PROGRAM, Command
from captioning.commands.captions import ATTENTION, CAPTION, UNDO
from captioning.commands.keys import KEYS
from captioning.commands.labels import CLASSIFY
from captioning.commands.learning import CALIBRATE, CHECK, DOCTOR, EXPORT, TRAIN
from captioning.commands.loading import tell
from captioning.commands.models import CAPTIONERS
from captioning.commands.page import APP
from captioning.commands.questions import ASK
from captioning.commands.scores import COMPARE, EVALUATE
from captioning.commands.segment_training import SEGMENT_TRAIN
from captioning.commands.segments import SEGMENT
from captioning.commands.service import SERVE
from captioning.commands.speech import SAY
from captioning.errors import CaptioningError
from captioning.runtime.environment import explain_missing_packages
from captioning.runtime.flags import Parser

# in order of use
COMMANDS = (
    TRAIN,
    SEGMENT_TRAIN,
    CAPTION,
    UNDO,
    ATTENTION,
    SAY,
    CLASSIFY,
    ASK,
    SEGMENT,
    APP,
    CAPTIONERS,
    SERVE,
    KEYS,
    EVALUATE,
    CALIBRATE,
    COMPARE,
    CHECK,
    DOCTOR,
    EXPORT,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a person's mistake ends in one sentence and an exit status."""
    flags, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        flags.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        with explain_missing_packages(flags.command):
            return flags.run(flags)
    except CaptioningError as error:
        tell(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the flags that it returns name the `command` and the function that runs it."""
    parser = Parser(
        PROGRAM,
        description="Captions for photographs, and how good they are.",
        epilog=f"{PROGRAM} COMMAND --help shows its examples.",
    )
    parser.add_argument("-V", "--version", action="version", version=captioning.__version__)
    parsers = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    for command in COMMANDS:
        _add(parsers, command)
    return parser


def _add(parsers: "argparse._SubParsersAction[Parser]", command: Command) -> None:
    places = command.usage.partition(" ")[2]
    examples = "".join(f"\n  {PROGRAM} {command.name} {example}" for example in command.examples)
    parser = parsers.add_parser(
        command.name,
        usage=f"%(prog)s [options] {places}".rstrip(),
        help=command.purpose,
        description=command.purpose,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command.name, run=command.run, refuse=parser.error)
    command.add(parser)
