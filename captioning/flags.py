"""An options record <-> command-line flags. Knows nothing of what the options mean."""

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, NoReturn, TypeVar

Record = TypeVar("Record")


def add_flags(parser: argparse.ArgumentParser, *records: type) -> None:
    """A flag for every field of the records, in a group a record, with its help, default and choices."""
    for record in records:
        group = parser.add_argument_group(record.__name__.removesuffix("Options").lower(), record.__doc__)
        for entry in fields(record):
            _add_flag(group, entry)


class _Renamed(argparse.Action):
    """A flag of the release before, refused with its new name."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(f"{self.option_strings[0]} is now called {self.const}; use that.")


def _add_flag(group: Any, entry: Any) -> None:
    flag, default = f"--{entry.name.replace('_', '-')}", entry.default
    if was := entry.metadata.get("was"):
        hidden = {"dest": argparse.SUPPRESS, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        group.add_argument(f"--{was}", action=_Renamed, nargs="?", const=flag, **hidden)
    assert default is not MISSING, f"{entry.name} needs a default"
    help = entry.metadata["help"].replace("%", "%%")
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=help)
    elif isinstance(default, tuple):
        group.add_argument(flag, nargs="+", default=None, metavar="WORD", help=help)
    else:
        choices = entry.metadata["choices"] or None
        shown = f"{help} (default: {default})" if default != "" else help
        metavar = None if choices else entry.name.upper()
        group.add_argument(flag, type=type(default), default=None, choices=choices, metavar=metavar, help=shown)


def defaults(record: type[Record], preset: Mapping[str, Any]) -> Record:
    """The record with its own defaults, but for the fields that the preset names."""
    return record(**{entry.name: preset[entry.name] for entry in fields(record) if entry.name in preset})  # type: ignore


def from_flags(arguments: argparse.Namespace, base: Record) -> Record:
    """The record with the fields that were given on the command line; the others as in `base`."""
    names = [entry.name for entry in fields(base)]  # type: ignore[arg-type]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return replace(base, **given)  # type: ignore[type-var]
