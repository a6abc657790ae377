"""What a training leaves for people: the files of a bundle besides its weights, and the commands to run next."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from captioning.data.images import read_image
from captioning.evaluation.model_card import OF_THE_DATA, contact_sheet_png
from captioning.evaluation.predictions import predictions_text
from captioning.evaluation.scoring import WATCHED, Scores
from captioning.inference.bundle import Parts
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import LEAST_EXAMPLES, Calibration
from captioning.plots.attention import curves_png, strip_png
from captioning.training.checkpoint import Progress
from captioning.training.inputs import Split
from captioning.training.trainer import SCORE, history_csv

Files = dict[str, bytes | str]
HELD_OUT = ("dev", "test")


def report_files(progress: Progress, scores: Scores, splits: Mapping[str, Split]) -> Files:
    """Return predictions, scores, history, curves, the watched images' captions by epoch, attention, worst and best."""
    dev, watched = scores.splits["dev"], list(splits["dev"])[:WATCHED]
    image, caption = max(zip(watched, dev.captions, strict=False), key=lambda pair: len(pair[1].words))
    learning = {"images": [image.name for image in watched], "captions": progress.samples}
    held_out = {name: scores.splits[name] for name in HELD_OUT if name in scores.splits}
    predictions = {f"predictions-{name}.jsonl": predictions_text(each.predictions) for name, each in held_out.items()}
    return {
        **predictions,
        "scores.json": json.dumps(scores.cards, indent=2),
        "history.csv": history_csv(progress.history),
        "loss.png": curves_png(progress.history, SCORE),
        "learning.json": json.dumps(learning, indent=1, ensure_ascii=False),
        "attention.png": strip_png(read_image(image), caption.words, caption.text),
        "sheet.png": contact_sheet_png(dev.predictions, splits["dev"]),
    }


def choose_calibration(scores: Scores, base: Captioner | None, name: str) -> tuple[Calibration | None, list[str]]:
    """Return the calibration measured on dev, else that of the base model `name`, else None; and what to say of it."""
    if scores.calibration:
        return scores.calibration, []
    needed = f"{LEAST_EXAMPLES} dev images with two captions each, and both good and bad captions of them"
    reason = f"calibration needs {needed}; there are {scores.splits['dev'].card['images']:,} dev images"
    if base and base.calibration:
        origin = f"its base model {name}, measured on other images"
        return base.calibration, [f"Its confidence is that of {origin}: {reason}."]
    return None, [f"Its confidence is unknown: {reason}."]


def without_data(files: Files) -> Files:
    """Return the files that hold no picture and no caption of the data."""
    return {name: content for name, content in files.items() if name not in OF_THE_DATA}


def next_commands(folder: Path, parts: Parts, encoder_weights: str) -> str:
    """Return the commands that caption with a new bundle and open the app on it."""
    flags = f"--bundle {shlex.quote(str(folder))}"
    if encoder_weights != "imagenet" and not (parts.model.encoder and parts.whole):
        flags += f" --encoder-weights {shlex.quote(encoder_weights)}"
    commands = (f"python -m captioning {command} {flags}" for command in ("caption photo.jpg", "app"))
    return "Next:\n" + "\n".join(f"  {command}" for command in commands)
