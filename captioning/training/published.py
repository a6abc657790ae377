"""Fine-tunes a published captioner on captioned pictures: score card before, training, loss plot, score card after.

What is written is a model folder of transformers, which --captioner takes.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from captioning.data.dataset import Dataset
from captioning.data.load import load_dataset
from captioning.errors import CaptioningError, DataError, ImageError
from captioning.evaluation import metrics
from captioning.evaluation.predictions import tokens
from captioning.evaluation.scoring import card_text, evaluate, images_of
from captioning.inference.folder import caption_images
from captioning.options import RecipeOptions, TrainOptions
from captioning.plots.attention import curves_png
from captioning.runtime import strict_json
from captioning.runtime.files import atomic_write, exclusive_lock
from captioning.training.checkpoint import (
    Progress,
    check_overwrite,
    clear_checkpoints,
    load_checkpoint,
    save_checkpoint,
)

if TYPE_CHECKING:
    from captioning.extras.hf_captioners import PublishedCaptioner
    from captioning.extras.hf_tuning import Pair, Tuner

DEFAULTS = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-5, "weight_decay": 0.05}
LORA_RATE = 1e-4
SAVED_EVERY = 100  # steps
WATCHED = 200  # dev images that are captioned after every epoch
SCORE = "CIDEr-D"
USED = ("epochs", "batch_size", "learning_rate", "warmup", "weight_decay", "clip_norm", "lora_rank", "seed")

Split = Mapping[Path, Sequence[str]]
Batches = Sequence[Sequence[Sequence["Pair"]]]  # by epoch


def finetune(options: RecipeOptions) -> None:
    """Fine-tune the published captioner that the options name, and write it to artifacts/<name>/."""
    from captioning.extras.hf_captioners import load_published
    from captioning.extras.hf_tuning import Tuner

    run, training = options.run, _defaults(options)
    dataset, root = load_dataset(options.data, Path(run.downloads), seed=training.seed, smoke=run.smoke)
    train_split = images_of(dataset, "train")
    held_out = next(each for each in ("dev", "test", "train") if dataset.splits.get(each))
    base_name = run.captioner.rstrip("/").rpartition("/")[2]
    folder = Path(run.artifacts) / (run.name or f"{dataset.name}-{base_name}")
    checkpoints = folder.with_name(f".{folder.name}.training")
    if training.epochs < 1:
        raise CaptioningError("--epochs 0 cannot be used with --captioner: 1 or more was expected.")
    with exclusive_lock(checkpoints):
        check_overwrite(folder, checkpoints, run)
        captioner = load_published(run.captioner, offline=run.offline)
        batches = [
            _batches(_pairs(train_split, training, epoch), training.batch_size) for epoch in range(training.epochs)
        ]
        before = _score(captioner, dataset, root, held_out, checkpoints / "before.jsonl")
        print(f"Before:\n{card_text(before)}\n")
        tuner = Tuner(captioner, training, steps=sum(map(len, batches)))
        print(f"{tuner.count:,} weights are trained on {len(train_split):,} images.")
        progress = _train(tuner, batches, images_of(dataset, held_out), checkpoints / "checkpoint.npz", options)
        tuner.finish()
        after = _score(captioner, dataset, root, held_out, checkpoints / "after.jsonl")
        print(f"\nAfter:\n{card_text(after)}")
        _write(tuner, folder, progress, {"before": before, "after": after}, checkpoints)
    print(f"\nSaved {folder}; python -m captioning caption PICTURE --captioner {folder} uses it.")


def _defaults(options: RecipeOptions) -> TrainOptions:
    """The options of the training, with what suits a published model where no flag was given."""
    preset: dict[str, Any] = DEFAULTS | ({"learning_rate": LORA_RATE} if options.training.lora_rank else {})
    return replace(options.training, **{name: value for name, value in preset.items() if name in options.unset})


def _pairs(split: Split, options: TrainOptions, epoch: int) -> list["Pair"]:
    """One caption of each image in every epoch, in a random order; the captions are rotated over the epochs."""
    rng = np.random.default_rng((options.seed, epoch))
    images = list(split)
    chosen = [images[place] for place in rng.permutation(len(images))]
    return [(image, split[image][epoch % len(split[image])]) for image in chosen]


def _batches(pairs: Sequence["Pair"], size: int) -> list[Sequence["Pair"]]:
    return [pairs[first : first + size] for first in range(0, len(pairs), size)]


def _train(tuner: "Tuner", batches: Batches, dev: Split, checkpoint: Path, options: RecipeOptions) -> Progress:
    """All steps that are not done yet; the progress is saved every hundred steps and after every epoch."""
    recipe: dict[str, Any] = {"captioner": options.run.captioner, "steps": tuner.steps}
    recipe |= {name: value for name, value in asdict(tuner.options).items() if name in USED}
    progress = Progress()
    if options.run.resume:
        progress, values = load_checkpoint(checkpoint, recipe)
        tuner.assign(values)
    firsts = np.cumsum([0, *map(len, batches)])
    with tqdm(desc="training", total=tuner.steps, unit="step", disable=None) as bar:
        bar.update(int(firsts[progress.epoch]) + progress.step)
        while progress.epoch < len(batches):
            own = batches[progress.epoch]
            while progress.step < len(own):
                loss = tuner.step(int(firsts[progress.epoch]) + progress.step, own[progress.step])
                _note(progress, loss)
                bar.update()
                if progress.step % SAVED_EVERY == 0 and progress.step < len(own):
                    save_checkpoint(checkpoint, recipe, progress, tuner.variables())
            _end_epoch(tuner, progress, dev)
            save_checkpoint(checkpoint, recipe, progress, tuner.variables())
    return progress


def _note(progress: Progress, loss: float) -> None:
    """One step is done; `running_means` has the sum of the losses and their number."""
    total, count = progress.running_means or (0.0, 0.0)
    progress.running_means = [total, count] if math.isnan(loss) else [total + loss, count + 1]
    progress.step += 1


def _end_epoch(tuner: "Tuner", progress: Progress, dev: Split) -> None:
    total, count = progress.running_means or (0.0, 0.0)
    if not count:
        raise DataError("None of the images of the train split can be read; check them with: captioning check DATA")
    watched = {image: dev[image] for image in list(dev)[:WATCHED]}
    pairs = [(image, texts[0]) for image, texts in watched.items()]
    losses = [tuner.loss(part) for part in _batches(pairs, tuner.options.batch_size)]
    row = {"epoch": progress.epoch + 1, "loss": total / count, "dev_loss": float(np.nanmean(losses))}
    progress.history.append(row | {SCORE: _cider(tuner, watched)})
    print(f"epoch {row['epoch']}: loss {row['loss']:.3f}, validation {row['dev_loss']:.3f}", flush=True)
    progress.epoch, progress.step, progress.running_means = progress.epoch + 1, 0, []


def _cider(tuner: "Tuner", split: Split) -> float:
    """The CIDEr-D of greedy captions."""
    options = replace(tuner.captioner.options, strategy="greedy")
    found = {image: each for batch in caption_images(tuner.captioner, split, options) for image, each in batch.items()}
    said = {image: tokens(str(each)) for image, each in found.items() if not isinstance(each, ImageError)}
    references = [[tokens(text) for text in split[image]] for image in said]
    return float(metrics.score(list(said.values()), references, resamples=1)[SCORE].value)


def _score(captioner: "PublishedCaptioner", dataset: Dataset, root: Path, split: str, file: Path) -> dict[str, Any]:
    """The score card on a split."""
    return evaluate(captioner, dataset, root, split=split, predictions=file, options=captioner.options)[0]


def _write(tuner: "Tuner", folder: Path, progress: Progress, cards: dict[str, Any], checkpoints: Path) -> None:
    """Writes the model with its cards and its curves; a folder of this name is replaced when all is written."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tuner.save(fresh)
    atomic_write(fresh / "scores.json", strict_json.dumps({cards["after"]["split"]: cards["after"]}, indent=1))
    atomic_write(fresh / "scores-before.json", strict_json.dumps(cards["before"], indent=1))
    atomic_write(fresh / "curves.png", curves_png(progress.history, SCORE))
    shutil.copy(checkpoints / "after.jsonl", fresh / f"predictions-{cards['after']['split']}.jsonl")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    clear_checkpoints(checkpoints)
