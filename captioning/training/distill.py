"""Teaches the pocket encoder to see what a larger encoder sees, so that a captioner can be trained on it instead.

Knows nothing of captions. The teacher looks once: its grids, brought to the student's depth, stay on the disk; blends
of two pictures it is shown as they come.
"""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from captioning.data.check import clean, inspect
from captioning.data.dataset import Dataset
from captioning.data.image_index import index_images
from captioning.decoder.model import CaptionModel
from captioning.decoder.transfer import copy_matching_weights
from captioning.encoders import networks
from captioning.encoders.features import Features, read_features
from captioning.encoders.registry import build_encoder, digest_of, weights_key
from captioning.errors import DataError, Stopped, StorageError
from captioning.inference.bundle import Parts, as_saved, load, save, weights_bytes
from captioning.inference.captioner import Captioner
from captioning.options import TEACHERS, DistillOptions, ModelOptions, RunOptions
from captioning.runtime.files import atomic_file, atomic_write, exclusive_lock
from captioning.training.augment import crop_randomly, downsample, jitter_colours, mix_images, shift_randomly
from captioning.training.batches import epoch_order
from captioning.training.callbacks import ProgressCallback, StopRequest, diverged
from captioning.training.checkpoint import (
    Progress,
    check_overwrite,
    clear_checkpoints,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from captioning.training.optimization import set_precision

STUDENT, SUFFIX, PROJECTION = "pocket", ".weights.h5", "projection"
LARGER = 2  # times the student's side is the teacher's; of strides of 16 and of 32 that makes the same regions
SAMPLE = 500  # training images that tell in what the teacher's regions differ
FAINTEST = 1e-6  # of the largest variance; what varies less is not enlarged any more
WARMUP, WEIGHT_DECAY = 0.05, 0.1
ROOM = 8 / 7  # of the side of a picture that is blended, to take some part of it
PLACES = ("output", "cache", "resume", "overwrite")  # options that change nothing in the student


@dataclass(frozen=True)
class Lessons:
    """Looks for the student, (H, W, 3) each, and what the teacher saw in them, (L, D) each."""

    pixels: np.ndarray
    grids: np.ndarray
    pixel_rows: np.ndarray  # (N,) row of each look
    grid_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.pixel_rows)

    def __getitem__(self, chosen: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[self.pixel_rows[chosen]], self.grids[self.grid_rows[chosen]].astype("float32")


@dataclass(frozen=True)
class Blends:
    """Two training pictures in one, again and again others: what a student of few pictures cannot learn by heart."""

    pixels: np.ndarray  # (N, S, S, 3), larger than the teacher's pictures
    rows: np.ndarray
    teacher: keras.Model

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """So many looks for the student, and what the teacher sees in them."""
        side = self.teacher.input_shape[1]
        drawn = self.pixels[self.rows[rng.integers(0, len(self.rows), 2 * count)]]
        parts = crop_randomly(drawn, side, rng)
        pictures = mix_images(parts[:count], parts[count:], rng)
        return downsample(pictures), np.asarray(self.teacher.predict_on_batch(pictures), "float32")


def distill(dataset: Dataset, how: DistillOptions) -> None:
    """Teaches a student on the training images; writes its weights, and before them a .json of how it was made."""
    output = Path(how.output)
    stem = output.name.removesuffix(SUFFIX)
    checkpoint_folder, folder = output.with_name(f"{stem}.training"), output.with_name(stem)
    with exclusive_lock(checkpoint_folder):
        check_overwrite(output, checkpoint_folder, RunOptions(resume=how.resume, overwrite=how.overwrite))
        if output.exists() and not (how.resume or how.overwrite):
            raise StorageError(f"{output} is a finished encoder: choose another --output, or --overwrite it.")
        if (how.captioner or how.words == "student") and folder.exists() and not (how.resume or how.overwrite):
            raise StorageError(f"{folder} is there, where the pocket captioner shall be: choose another --output.")
        before = student_of(how)
        base = load(how.captioner, encoder_weights=how.teacher_weights) if how.captioner else None
        train, dev, blends, facts = prepare(dataset, how, base)
        set_precision(how.precision)
        keras.utils.set_random_seed(how.seed)
        student = build_encoder(STUDENT, "none", how.image_size)
        if before:
            student.set_weights(before.encoder.get_weights())
        print(f"{student.count_params():,} weights, {len(train):,} looks an epoch")
        if not how.resume:
            clear_checkpoints(checkpoint_folder)
        progress = Teaching(student, how, train, blends, dev, checkpoint_folder / "checkpoint.npz", facts).run()
        data = weights_bytes(student)
        facts |= {"dev_explained": progress.history[-1]["dev_explained"], "sha256": hashlib.sha256(data).hexdigest()}
        atomic_write(output.with_name(f"{stem}.json"), json.dumps(facts, indent=2))
        begin = f"--encoder {STUDENT} --encoder-weights {output}"
        if speaker := before if how.words == "student" else base:
            parts = heir(speaker, student, how.captioner_size)
            if speaker is base:
                read_back(parts.model, blends.teacher.get_layer(PROJECTION))
            save(folder, as_saved(parts), files={}, about={"distilled": facts})
            begin = f"--bundle {folder}"
        atomic_write(output, data)
        clear_checkpoints(checkpoint_folder)
    print(f"\npython train.py {begin} trains a captioner on it")


def heir(speaker: Captioner, student: keras.Model, size: int = 0) -> Parts:
    """The captioner that says, looking through the student, what another one says looking through its own encoder.

    It looks at squares of this size, or as the student learnt.
    """
    if size and size != student.input_shape[1]:
        learnt, student = student.get_weights(), build_encoder(STUDENT, "none", size)
        student.set_weights(learnt)
    grid = dict(zip(("num_regions", "feature_depth"), student.output_shape[1:], strict=True))
    model = CaptionModel(replace(speaker.model.config, **grid), student)
    model.build()
    copy_matching_weights(model, speaker.tokenizer.words, speaker)
    shared = {name: value for name, value in asdict(model.config).items() if name in ModelOptions.__dataclass_fields__}
    model_options = ModelOptions(encoder=STUDENT, image_size=student.input_shape[1], **shared)
    return Parts(model, speaker.tokenizer, None, model_options, speaker.options)


def read_back(model: CaptionModel, projection: keras.layers.Dense) -> None:
    """Lets a model that read what its encoder saw read what a projection made of it."""
    kernel, bias = projection.get_weights()
    back = np.linalg.pinv(kernel)
    model.feature_projection.set_weights([back, -bias @ back])


def student_of(how: DistillOptions) -> Captioner | None:
    """The captioner whose pocket encoder goes on learning, if there is one."""
    if not how.student:
        return None
    captioner = load(how.student)
    if captioner.encoder.name != STUDENT:
        raise DataError(
            f"{how.student} looks through {captioner.encoder.name}; give a captioner that looks through {STUDENT}."
        )
    return captioner


def prepare(
    dataset: Dataset, how: DistillOptions, base: Captioner | None
) -> tuple[Lessons, Lessons, Blends, dict[str, Any]]:
    """The lessons of all looks at the training images, those of the dev images, blends, and facts about it all."""
    cache, larger = Path(how.cache), LARGER * how.image_size
    findings = inspect(dataset, cache=cache)
    print(findings.text())
    splits = clean(dataset, findings).splits
    train = list(splits.get("train", ()))
    if not train:
        raise DataError(f"{dataset.name} has no image to learn from; put some in a train split.")
    dev = list(splits.get("dev") or train)
    images = {image: fact.sha256 for image, fact in index_images([*train, *dev], cache).items()}
    teacher, key = teacher_of(how, larger, base)
    assert teacher.output_shape[1] == (how.image_size // 16) ** 2, "the teacher's regions are not the student's"
    sample = {image: images[image] for image in sorted(train, key=images.__getitem__)[:SAMPLE]}
    teacher, seen, kept = projected(teacher, sample, cache / f"{teacher.name}-{larger}-{key}")
    print(f"{kept:.1%} of what varies in the teacher's regions is taught")
    others = [*range(1, how.views), *range(-how.closer_views, 0)]
    looks: dict[str, Any] = {"views": dict.fromkeys(train, others)}
    pixels = read_features(images, cache / f"pixels-{how.image_size}", image_size=how.image_size, **looks)
    grids = read_features(images, seen, image_size=larger, encoder=teacher, **looks)
    sharp, wider = Features(np.empty(0), {}), round(ROOM * larger)
    if how.blends:
        sharp = read_features({image: images[image] for image in train}, cache / f"pixels-{wider}", image_size=wider)
    blends = Blends(sharp.array, np.array([*sharp.rows.values()]), teacher)
    facts = {name: value for name, value in asdict(how).items() if name not in PLACES}
    facts |= {name: Path(getattr(how, name)).name for name in ("captioner", "student", "teacher_weights")}
    facts |= {"teacher": teacher.name, "teacher_key": key, "teacher_kept": round(kept, 4)}
    facts |= {"data": dataset.name, "images": len(train)}
    return lessons(pixels, grids, train), lessons(pixels, grids, dev, views=False), blends, facts


def teacher_of(how: DistillOptions, size: int, base: Captioner | None) -> tuple[keras.Model, str]:
    """What teaches, and a name for its weights: an encoder, or what a captioner takes up of every region it sees."""
    if not base:
        return build_encoder(how.teacher, how.teacher_weights, size), weights_key(how.teacher_weights)
    own = base.encoder
    if own.name not in TEACHERS:
        raise DataError(
            f"{how.captioner} looks through {own.name}, whose regions are others than the pocket encoder's; "
            f"give a captioner that looks through {', '.join(TEACHERS)}."
        )
    encoder = build_encoder(own.name, "none", size)
    encoder.set_weights(own.get_weights())
    reading = base.model.feature_projection
    taken_up = keras.layers.Dense(reading.units, reading.activation, dtype="float32", name="taken_up")
    teacher = keras.Model(encoder.input, taken_up(encoder.output), name=own.name)
    taken_up.set_weights(reading.get_weights())
    teacher.jit_compile = encoder.jit_compile
    return teacher, digest_of(teacher)


def lessons(pixels: Features, grids: Features, images: list[Path], *, views: bool = True) -> Lessons:
    """The lessons of these images, with all their `views` or with the first one alone."""

    def rows(features: Features) -> np.ndarray:
        others = features.views if views else {}
        return np.array([row for image in images for row in (features.rows[image], *others.get(image, ()))])

    return Lessons(pixels.array, grids.array, rows(pixels), rows(grids))


def projected(teacher: keras.Model, sample: dict[Path, str], folder: Path) -> tuple[keras.Model, Path, float]:
    """The teacher with grids of the student's depth, a folder for these, and the share of variance that they keep.

    The folder given is for the sample's own grids. A projection once made is kept, since its grids are.
    """
    shown = hashlib.sha256("".join(sample.values()).encode()).hexdigest()[:16]
    narrow = folder.with_name(f"{folder.name}-{networks.POCKET_DEPTH}-{shown}")
    file = narrow / "projection.npz"
    if not file.exists():
        grids = read_features(sample, folder, image_size=teacher.input_shape[1], encoder=teacher)
        regions = grids.array[[grids.rows[image] for image in sample]].reshape(-1, teacher.output_shape[-1])
        kernel, bias, kept = principal(regions.astype("float32"), networks.POCKET_DEPTH)
        with atomic_file(file) as opened:
            np.savez(opened, kernel=kernel, bias=bias, kept=kept)
    with np.load(file, allow_pickle=False) as saved:
        project = keras.layers.Dense(networks.POCKET_DEPTH, dtype="float32", name=PROJECTION)
        narrowed = keras.Model(teacher.input, project(teacher.output), name=teacher.name)
        project.set_weights([saved["kernel"], saved["bias"]])
        kept = float(saved["kept"])
    narrowed.jit_compile = teacher.jit_compile
    return narrowed, narrow, kept


def principal(regions: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What brings regions (N, D) to their principal components (N, depth): kernel, bias, the share of variance kept.

    Spreads are halfway, as ratios, between what they were and all alike: a student that saw them as they were would
    learn the first few alone, one that saw them alike mostly noise. Their mean square is 1.
    """
    mean = regions.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(regions, rowvar=False))
    found, directions = variances[::-1][:depth], directions[:, ::-1][:, :depth]
    spreads = np.sqrt(np.maximum(found, FAINTEST * found[0]))
    kernel = directions / np.sqrt(spreads * spreads.mean())
    return kernel.astype("float32"), (-mean @ kernel).astype("float32"), float(found.sum() / variances.sum())


@dataclass
class Teaching:
    """One distillation, which can be stopped or killed anywhere and gone on with as if it had not been."""

    student: keras.Model
    how: DistillOptions
    train: Lessons
    blends: Blends
    dev: Lessons
    checkpoint: Path
    recipe: dict[str, Any]

    def run(self) -> Progress:
        """Teaches from where the checkpoint stands to the last epoch."""
        compile_student(self.student, self.how, self._steps)
        progress = self._resumed()
        stop = StopRequest()
        with stop.listening():
            while progress.epoch < self.how.epochs:
                started = time.monotonic()
                loss = self._epoch(progress, stop)
                if progress.step == self._steps:
                    self._finish(progress, loss, time.monotonic() - started)
                if stop.signal:
                    self._save(progress)
                    raise Stopped(
                        f"Stopped and saved after {progress.epoch} epochs and {progress.step} steps; "
                        "the same command with --resume goes on."
                    )
        return progress

    @property
    def _steps(self) -> int:
        return max(1, len(self.train) // self.how.batch_size)

    @property
    def _variables(self) -> list[Any]:
        return [*self.student.variables, *self.student.optimizer.variables]

    def _resumed(self) -> Progress:
        if not has_checkpoint(self.checkpoint):
            return Progress()
        progress, values = load_checkpoint(self.checkpoint, self.recipe)
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
        return progress

    def _epoch(self, progress: Progress, stop: StopRequest) -> float:
        """The rest of an epoch, up to a signal; returns the mean loss."""
        order = epoch_order(self.how.seed, progress.epoch).permutation(len(self.train))
        watch = ProgressCallback(f"epoch {progress.epoch + 1}", progress, self._steps, stop)
        watch.set_model(self.student)
        self.student.reset_metrics()
        self.student.stop_training = False
        watch.on_epoch_begin(progress.epoch)
        logs: dict[str, float] = {}
        while progress.step < self._steps and not self.student.stop_training:
            rng = np.random.default_rng([self.how.seed, progress.epoch, progress.step])
            first = progress.step * self.how.batch_size
            pixels, grids = self.train[order[first : first + self.how.batch_size]]
            if self.how.blends:
                looks, seen = self.blends.draw(self.how.blends, rng)
                pixels, grids = np.concatenate([pixels, looks]), np.concatenate([grids, seen])
            logs = self.student.train_on_batch(
                jitter_colours(shift_randomly(pixels, rng), rng), grids, return_dict=True
            )
            watch.on_train_batch_end(progress.step, logs)
        watch.on_train_end()
        progress.running_means = [float(np.asarray(variable)) for variable in watch.means]
        return logs["loss"]

    def _finish(self, progress: Progress, loss: float, seconds: float) -> None:
        found = explained(self.student, self.dev)
        if not math.isfinite(found):
            raise diverged("What the student sees became no numbers", progress)
        row = {
            "epoch": progress.epoch + 1,
            "loss": loss,
            "dev_explained": round(found, 4),
            "seconds": round(seconds, 1),
        }
        progress.history.append(row)
        progress.epoch, progress.step, progress.running_means = progress.epoch + 1, 0, []
        self._save(progress)
        tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))

    def _save(self, progress: Progress) -> None:
        values = [ops.convert_to_numpy(variable) for variable in self._variables]
        save_checkpoint(self.checkpoint, self.recipe, progress, values)


def compile_student(student: keras.Model, how: DistillOptions, steps_per_epoch: int) -> None:
    """AdamW with a warm-up and a cosine, clipped."""
    steps = how.epochs * steps_per_epoch
    warmup = max(1, round(WARMUP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        how.learning_rate / 100, max(1, steps - warmup), warmup_target=how.learning_rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, global_clipnorm=how.clip_norm)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    student.compile(optimizer, unlikeness, jit_compile=keras.backend.backend() == "jax")
    student.optimizer.build(student.trainable_variables)


def unlikeness(base: Any, seen: Any) -> Any:
    """How far each region (B, L) is from what was taught: the mean square of the difference, and of the angle."""
    seen = ops.cast(seen, "float32")
    likeness = ops.sum(ops.normalize(base, axis=-1) * ops.normalize(seen, axis=-1), axis=-1)
    return ops.mean(ops.square(base - seen), axis=-1) + 1 - likeness


def explained(student: keras.Model, told: Lessons, size: int = 64) -> float:
    """The share of the variance of what the teacher saw that the student sees too."""
    error = spread = 0.0
    for first in range(0, len(told), size):
        pixels, grids = told[first : first + size]
        error += float(np.square(grids - np.asarray(student.predict_on_batch(pixels), "float32")).sum())
        spread += float(np.square(grids).sum())
    return 1 - error / spread
