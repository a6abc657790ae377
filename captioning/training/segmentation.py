"""Trains a segmenter on pictures with masks, and scores it on pictures that were held out."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from captioning.data.coco_instances import Instance, Picture, read_instances
from captioning.data.images import read_image
from captioning.errors import StorageError, TrainingError
from captioning.evaluation.mask_ap import MaskScores, mask_ap
from captioning.extras.own_segmenter import OwnSegmenter, SegmenterConfig, build_network, save_segmenter
from captioning.extras.segments import OWN, Segment
from captioning.plots.charts import losses_png
from captioning.runtime import strict_json
from captioning.runtime.files import atomic_write, exclusive_lock
from captioning.training.checkpoint import Progress, has_checkpoint, load_checkpoint, save_checkpoint
from captioning.training.segment_targets import Example, batch_of, check_size, read_examples, split_pictures, varied

if TYPE_CHECKING:
    import keras

CHECKPOINT = "checkpoint.npz"
CATEGORY_WEIGHT, OBJECT_WEIGHT = 3.0, 4.0  # of the categories; of a cell with an object beside one without
CENTRE_WEIGHT, OFFSET_WEIGHT = 100.0, 10.0
DECAY = 1e-3
LOWEST_SCORE = 0.05  # of a segment that counts for the AP


@dataclass(frozen=True)
class SegmentOptions:
    """The settings of a training."""

    epochs: int = 30
    batch_size: int = 16
    image_size: int = 96
    learning_rate: float = 3e-3
    held_out: float = 0.2
    seed: int = 0


def train_segmenter(
    data: Path,
    output: Path,
    options: SegmentOptions,
    *,
    images: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> MaskScores:
    """Trains on a COCO instances file and writes the segmenter, its losses and its scores into `output`."""
    found = read_instances(data, images)
    check_output(output, resume=resume, overwrite=overwrite)
    config = SegmenterConfig(found.categories, options.image_size)
    learned, held_out = split_pictures(found, options.held_out, options.seed)
    with exclusive_lock(output):
        examples, checked = read_examples(learned, config), read_examples(held_out, config)
        training = Training(config, options, output / CHECKPOINT)
        if resume:
            training.restore()
        print(f"{len(learned):,} pictures to train on, {len(held_out):,} held out, {training.parameters:,} parameters")
        training.run(examples, checked)
        segmenter = OwnSegmenter(training.network, config, output.name)
        scores = score(segmenter, held_out)
        about = {"options": asdict(options), "pictures": len(learned), "held_out": len(held_out)}
        record = {"held_out": len(held_out), **asdict(scores)}
        atomic_write(output / "scores.json", strict_json.dumps(record, indent=2))
        atomic_write(output / "loss.png", losses_png(training.progress.history))
        save_segmenter(output, training.network, config, about | {"parameters": training.parameters})
        for name in (CHECKPOINT, CHECKPOINT.replace(".", ".earlier.")):
            (output / name).unlink(missing_ok=True)
    return scores


def check_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Raises StorageError if a segmenter or an unfinished training would be replaced without --overwrite."""
    unfinished = has_checkpoint(output / CHECKPOINT)
    if resume and not unfinished:
        raise StorageError(f"{output} holds no training to resume; leave --resume out to start one.")
    if unfinished and not resume and not overwrite:
        raise StorageError(f"{output} holds an unfinished training: --resume continues it, --overwrite starts again.")
    if (output / OWN).exists() and not resume and not overwrite:
        raise StorageError(f"{output} holds a segmenter: choose another --output, or replace it with --overwrite.")


class Training:
    """A network, its optimizer, and how far they are. Epochs are the same whether interrupted or not."""

    def __init__(self, config: SegmenterConfig, options: SegmentOptions, checkpoint: Path) -> None:
        self.config, self.options, self.checkpoint = config, options, checkpoint
        self.progress = Progress()
        self.recipe = {"config": asdict(config), "options": asdict(options)}
        self.network = seeded_network(config, options.seed)
        self.parameters = self.network.count_params()

    def compile(self, steps: int) -> None:
        """Prepares the network for `steps` steps in all, at a rate that falls to nothing."""
        import keras

        warm = min(60, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            self.options.learning_rate / 20,
            max(1, steps - warm),
            warmup_target=self.options.learning_rate,
            warmup_steps=warm,
        )
        optimizer = keras.optimizers.AdamW(rate, weight_decay=DECAY, clipnorm=5.0)
        optimizer.build(self.network.trainable_variables)
        self.network.compile(optimizer, loss=losses(), jit_compile=keras.backend.backend() == "jax")

    @property
    def variables(self) -> list[Any]:
        """Those of the network and of the optimizer."""
        return [*self.network.variables, *self.network.optimizer.variables]

    def restore(self) -> None:
        """Takes up the checkpoint."""
        self.progress, self.restored = load_checkpoint(self.checkpoint, self.recipe)

    restored: Sequence[np.ndarray] = ()

    def run(self, examples: Sequence[Example], checked: Sequence[Example]) -> None:
        """Trains the epochs that are left, with a checkpoint after each."""
        size = self.options.batch_size
        self.compile(self.options.epochs * -(-len(examples) // size))
        for variable, value in zip(self.variables, self.restored, strict=False):
            variable.assign(value)
        for epoch in range(self.progress.epoch, self.options.epochs):
            start = monotonic()
            row = {"epoch": epoch + 1, "loss": self.epoch(examples, epoch), "held_out_loss": self.loss_on(checked)}
            if not np.isfinite(list(row.values())).all():
                raise TrainingError(f"The loss became NaN in epoch {epoch + 1}; set a smaller --learning-rate.")
            self.progress.history.append(row)
            self.progress.epoch = epoch + 1
            values = [np.asarray(variable) for variable in self.variables]
            save_checkpoint(self.checkpoint, self.recipe, self.progress, values)
            from captioning.training.trainer import history_csv

            atomic_write(self.checkpoint.with_name("history.csv"), history_csv(self.progress.history))
            print(
                f"epoch {epoch + 1}/{self.options.epochs}: loss {row['loss']:.3f}, held out "
                f"{row['held_out_loss']:.3f}, {monotonic() - start:.0f} s",
                flush=True,
            )

    def epoch(self, examples: Sequence[Example], epoch: int) -> float:
        """Trains on every picture once. Returns the mean loss."""
        rng = np.random.default_rng([self.options.seed, epoch])
        order = rng.permutation(len(examples))
        size, total = self.options.batch_size, 0.0
        starts = range(0, len(order), size)
        for start in tqdm(starts, desc=f"Epoch {epoch + 1}", leave=False, disable=None, file=sys.stderr):
            chosen = [varied(examples[number], rng) for number in order[start : start + size]]
            pixels, targets = batch_of(chosen)
            self.network.reset_metrics()
            total += float(self.network.train_on_batch(pixels, targets, return_dict=True)["loss"]) * len(chosen)
        return total / len(examples)

    def loss_on(self, examples: Sequence[Example]) -> float:
        """The mean loss of pictures that are not trained on."""
        size, total = self.options.batch_size, 0.0
        for start in range(0, len(examples), size):
            chosen = examples[start : start + size]
            pixels, targets = batch_of(chosen)
            self.network.reset_metrics()
            total += float(self.network.test_on_batch(pixels, targets, return_dict=True)["loss"]) * len(chosen)
        return total / len(examples)


def seeded_network(config: SegmenterConfig, seed: int) -> "keras.Model":
    """A new network, the same for the same seed."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras

    keras.utils.set_random_seed(seed)
    return build_network(config)


def losses() -> list[Any]:
    """Of the categories, the centres and the offsets; the last counts cells of objects alone."""
    from keras import ops

    def of_categories(wanted: "keras.KerasTensor", given: "keras.KerasTensor") -> "keras.KerasTensor":
        apart = ops.sparse_categorical_crossentropy(wanted, given, from_logits=True)
        return CATEGORY_WEIGHT * ops.mean(
            apart * (1.0 + (OBJECT_WEIGHT - 1.0) * ops.cast(wanted > 0, apart.dtype)), (1, 2)
        )

    def of_centres(wanted: "keras.KerasTensor", given: "keras.KerasTensor") -> "keras.KerasTensor":
        return CENTRE_WEIGHT * ops.mean(ops.square(wanted - given), axis=(1, 2, 3))

    def of_offsets(wanted: "keras.KerasTensor", given: "keras.KerasTensor") -> "keras.KerasTensor":
        inside = wanted[..., 2:]
        apart = ops.sum(ops.abs(wanted[..., :2] - given) * inside, axis=(1, 2, 3))
        return OFFSET_WEIGHT * apart / (1.0 + ops.sum(inside, axis=(1, 2, 3)))

    return [of_categories, of_centres, of_offsets]


def score(segmenter: OwnSegmenter, pictures: Sequence[Picture]) -> MaskScores:
    """The average precision of a segmenter on some pictures."""

    def pairs() -> "Iterator[tuple[list[Segment], Sequence[Instance]]]":
        for picture in tqdm(pictures, desc="Scoring", unit="picture", leave=False, disable=None):
            image = read_image(picture.path)
            check_size(picture, image.shape)
            yield segmenter.segments(image, threshold=LOWEST_SCORE), picture.instances

    return mask_ap(pairs())
