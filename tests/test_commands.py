"""docs/commands.md has what every command says to --help, word for word; `python -m tests.test_commands` renews it."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from captioning import cli

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
INTRO = "# Commands\n\nWhat every command says to `--help`. `python -m tests.test_commands` writes this page anew.\n"
OUTDATED = "docs/commands.md is not what the commands say now; renew it with: python -m tests.test_commands"
NAMES = [command.name for command in cli.COMMANDS]
WIDTH = "100"  # columns


def rendered() -> str:
    """The page, from what the commands say now."""
    helps = {f"python -m captioning {name}".strip(): help_of(cli.main, *name.split()) for name in ("", *NAMES)}
    return INTRO + "".join(f"\n## {command}\n\n```\n{text}```\n" for command, text in helps.items())


def help_of(main: Callable[[list[str]], int], *arguments: str) -> str:
    """What a program says to --help, whoever runs it and however wide the terminal is."""
    program = Path(sys.modules[main.__module__].__file__).name
    columns = mock.patch.dict(os.environ, COLUMNS=WIDTH)
    with columns, mock.patch.object(sys, "argv", [program]), contextlib.redirect_stdout(io.StringIO()) as said:
        with contextlib.suppress(SystemExit):
            main([*arguments, "--help"])
        return said.getvalue()


def test_every_help_text_is_in_the_docs_word_for_word():
    shown = PAGE.read_text(encoding="utf-8")
    assert shown.split() == rendered().split(), OUTDATED  # Pythons differ in where they break lines


def test_the_page_is_the_same_whoever_writes_it_and_wherever(monkeypatch):
    before = rendered()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "argv", ["/somewhere/else.py"])
    assert rendered() == before
    assert str(PAGE.parent.parent) not in before
    assert "\nusage: python -m captioning [-h]" in before


def test_every_command_has_its_part():
    parts = rendered().split("\n## ")
    assert len(parts) == 1 + 1 + len(NAMES)
    assert all("\nusage: " in part and "\noptions:\n" in part for part in parts[1:])


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
