"""Command-line flags of an options record, and a parser that reports a mistake in one sentence."""

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from typing import Any, NoReturn, TypeVar

Record = TypeVar("Record")


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one sentence and names --help, instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit status 2."""
        program = self.prog.removeprefix("python -m ").split()[0]
        self.exit(2, f"{program}: {message.rstrip('.')}; see {self.prog} --help.\n")


def add_flags(parser: argparse.ArgumentParser, *records: type) -> None:
    """Adds a flag for every field of the records with its help, default and choices, in one group per record."""
    for record in records:
        title, description = record.__name__.removesuffix("Options").lower(), (record.__doc__ or "").partition("\n")[0]
        add_group(parser, record, title, description)


def add_group(parser: argparse.ArgumentParser, record: type, title: str, description: str) -> None:
    """Adds a flag for every field of one record, in a group of this title."""
    group = parser.add_argument_group(title, description)
    for entry in fields(record):
        _add_flag(group, entry)


class _Renamed(argparse.Action):
    """A flag of an earlier release, refused with its new name."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.error(f"{self.option_strings[0]} is now called {self.const}; use that.")


def _add_flag(group: "argparse._ArgumentGroup", entry: Field[Any]) -> None:
    flag, default = f"--{entry.name.replace('_', '-')}", entry.default
    if was := entry.metadata.get("was"):
        hidden: dict[str, Any] = {"dest": argparse.SUPPRESS, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
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
    """The record with its defaults, except for the fields that the preset sets."""
    return record(**{entry.name: preset[entry.name] for entry in fields(record) if entry.name in preset})  # type: ignore


def from_flags(arguments: argparse.Namespace, base: Record) -> Record:
    """The record with the flags given on the command line. Other fields are those of `base`."""
    names = [entry.name for entry in fields(base)]  # type: ignore[arg-type]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return replace(base, **given)  # type: ignore[type-var]
