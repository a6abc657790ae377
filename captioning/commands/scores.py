"""Commands that score: evaluate, compare."""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

from captioning.commands.arguments import (
    SPLITS,
    Command,
    add_bundle,
    add_columns,
    add_data,
    add_encoder_weights,
    add_engine,
    add_offline,
    add_search,
)
from captioning.commands.loading import dataset_of, load, load_named, tell_cascade, tell_left_out
from captioning.runtime.flags import Parser, from_flags


def _add_evaluate(command: Parser) -> None:
    add_data(command)
    add_bundle(command)
    command.add_argument("--split", default="test", choices=SPLITS, help="split to score (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print the score card as JSON, not as a table")
    command.add_argument(
        "--predictions",
        type=Path,
        default=Path("predictions.jsonl"),
        metavar="FILE",
        help="file that is written and scored (default: %(default)s)",
    )
    command.add_argument("--java", action="store_true", help="METEOR 1.5 too (needs Java and the extra eval)")
    add_encoder_weights(command)
    add_engine(command)
    add_search(command)


def _add_compare(command: Parser) -> None:
    cards = (
        "folders of bundles, their scores.json with predictions-*.jsonl beside, or predictions files (.jsonl) alone; "
        "with --data also the names that --captioner takes"
    )
    command.add_argument("first", type=Path, metavar="CARD", nargs="?", help=cards)
    command.add_argument("others", type=Path, metavar="CARD", nargs="*", help="all are compared with the first")
    command.add_argument("--split", default="", choices=SPLITS, help="default: test, or dev where there is no test")
    command.add_argument("--captions", action="store_true", help="also every image's captions, below its references")
    command.add_argument(
        "--data", default="", metavar="PATH", help="caption and score these captioned images with every bundle first"
    )
    about = "tell which captioner people prefer, from what captioning serve or app kept; no CARD then"
    command.add_argument("--feedback", type=Path, nargs="+", metavar="DATABASE", help=about)
    add_columns(command)
    add_encoder_weights(command)
    add_engine(command)
    add_offline(command)


def _evaluate(flags: argparse.Namespace) -> int:
    from captioning.evaluation.scoring import card_text, evaluate
    from captioning.evaluation.word_use import word_use_text

    dataset, root = dataset_of(flags)
    captioner = load(flags)
    card, problems = evaluate(
        captioner,
        dataset,
        root,
        split=flags.split,
        predictions=flags.predictions,
        options=from_flags(flags, captioner.options),
        java=flags.java,
    )
    tell_cascade(captioner)
    parts = [json.dumps(card, indent=2)] if flags.json else [card_text(card), word_use_text(card["word_use"])]
    print(*filter(None, parts), sep="\n")
    tell_left_out(problems, card["images"] + len(problems))
    return 0


def _compare(flags: argparse.Namespace) -> int:
    from captioning.evaluation.compare import caption_and_score, compare, report
    from captioning.evaluation.people import compare_feedback

    if flags.feedback and not flags.first:
        print(compare_feedback(flags.feedback))
        return 0
    if flags.feedback or not flags.others:
        flags.refuse("give two or more of CARD, or --feedback DATABASE alone")
    paths = [flags.first, *flags.others]
    if not flags.data:
        print(compare(paths, flags.split, captions=flags.captions))
        return 0
    dataset, root = dataset_of(flags)
    load_each = functools.partial(_load_card, flags)
    scored, problems = caption_and_score(paths, dataset, root, flags.split, load=load_each)
    print(report(scored, captions=flags.captions))
    tell_left_out(problems, scored[0].card["images"] + len(problems))
    return 0


def _load_card(flags: argparse.Namespace, card: Path) -> Any:
    return load_named(flags, str(card))


EVALUATE = Command(
    "evaluate DATA",
    "score a bundle on a split of captioned data",
    (
        "my-pictures",
        "my-pictures --split dev --json",
        "my-pictures --split dev --strategy greedy --predictions greedy.jsonl",
        "captions.csv --images photos --image-column file --caption-column text",
    ),
    add=_add_evaluate,
    run=_evaluate,
)

COMPARE = Command(
    "compare CARD CARD [CARD ...]",
    "find out which bundle is better",
    (
        "artifacts/flickr8k artifacts/mine",
        "artifacts/flickr8k artifacts/mine --data my-pictures --split dev   # captions the images first",
        "flickr8k blip git --data my-pictures           # beside large published models",
        "new/scores.json old/scores.json older/scores.json --split dev",
        "mine.jsonl blip.jsonl --captions               # predictions of evaluate, or of another program",
        "--feedback feedback/feedback.db                # what people said while captioning serve --split ran",
    ),
    add=_add_compare,
    run=_compare,
)
