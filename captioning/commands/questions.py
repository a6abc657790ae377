"""The command that answers questions about pictures."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.commands.arguments import Command, add_offline
from captioning.commands.loading import tell
from captioning.errors import CaptioningError, ImageError
from captioning.runtime.flags import Parser

if TYPE_CHECKING:
    from captioning.extras.questions import Answer, Answerer

COLUMNS = ("image", "question", "answer", "probability", "verdict", "model", "problem")
ENDINGS = (".csv", ".json")


def _add_ask(command: Parser) -> None:
    add = command.add_argument
    add("paths", nargs="+", type=Path, metavar="PHOTO", help="pictures, or folders of them")
    add("question", metavar="QUESTION", help="a question in quotes, in English")
    add("--question", action="append", default=[], dest="more", metavar="TEXT", help="a further one; several times")
    add("--model", default="blip-vqa", metavar="NAME", help="blip-vqa, vilt, blip2, a folder or a hub name")
    add_offline(command)
    add("--json", action="store_true", help="JSON on the terminal")
    add("--output", type=Path, metavar="FILE", help="the answers as .csv or .json")


def _ask(flags: argparse.Namespace) -> int:
    from tqdm import tqdm

    from captioning.extras.questions import check_question, load_answerer
    from captioning.inference.folder import find_images_in
    from captioning.runtime.files import atomic_write

    if flags.output and flags.output.suffix.lower() not in ENDINGS:
        raise CaptioningError(f"{flags.output} cannot be written: a name that ends in .csv or .json was expected.")
    if flags.question and os.path.exists(flags.question):  # which, unlike Path's, takes a name that is too long
        raise CaptioningError(
            f"{flags.question} is a file or a folder, not a question; put the question last, in quotes."
        )
    questions = [check_question(each) for each in (flags.question, *flags.more)]
    images = find_images_in(flags.paths)
    answerer = load_answerer(flags.model, offline=flags.offline)
    rows: list[dict[str, Any]] = []
    is_shown, is_alone = not (flags.output or flags.json), len(images) * len(questions) == 1
    for image in tqdm(images, desc="answers", unit="image", disable=True if is_alone else None):
        rows += (fresh := _rows(answerer, image, questions))
        if is_shown:
            text = "".join(_line(row, is_alone=is_alone) for row in fresh if not row["problem"])
            tqdm.write(text, file=sys.stdout, end="")  # above the progress bar, where there is one
    if flags.output:
        atomic_write(flags.output, _csv(rows) if flags.output.suffix.lower() == ".csv" else _json(rows))
        answered = sum(not row["problem"] for row in rows)
        tell(f"{answered:,} {'answer' if answered == 1 else 'answers'} in {flags.output}, not calibrated.")
    elif flags.json:
        print(_json(rows), end="")
    problems = list(dict.fromkeys(row["problem"] for row in rows if row["problem"]))
    for problem in problems:
        tell(problem)
    return 1 if problems else 0


def _rows(answerer: "Answerer", image: Path, questions: Sequence[str]) -> list[dict[str, Any]]:
    from captioning.inference.folder import problem_text
    from captioning.inference.records import name_of

    empty = dict.fromkeys(COLUMNS) | {"image": name_of(image), "problem": ""}
    try:
        found: list[Answer] = answerer.answer(image, questions)
    except ImageError as error:
        return [empty | {"question": each, "problem": problem_text(image, error)} for each in questions]
    return [empty | each.record() for each in found]


def _line(row: dict[str, Any], *, is_alone: bool) -> str:
    about = f"{row['answer']}\t{row['probability']:.0%}, not calibrated\n"
    return about if is_alone else f"{row['image']}\t{row['question']}\t{about}"


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    from captioning.runtime.safe_csv import csv_row

    return csv_row(COLUMNS) + "".join(csv_row(row[column] for column in COLUMNS) for row in rows)


ASK = Command(
    "ask PHOTO [PHOTO ...] QUESTION",
    "answer questions about pictures, by a large published model",
    (
        'photo.jpg "what colour is the shirt?"',
        'photo.jpg "how many dogs are there?" --model vilt',
        'holiday/ "is it outdoors?" --question "is there snow?" --output answers.csv',
    ),
    add=_add_ask,
    run=_ask,
)
