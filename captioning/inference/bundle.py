"""A bundle, artifacts/<name>/: a trained captioner on the disk. Saves it, and is the only assembler that loads it.

config.json is written last and lists every other file with its hash, so a folder without it is no bundle.
No pickle is read and no code is run: the architecture is built here, the files hold numbers and words.
"""

import contextlib
import hashlib
import math
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from captioning.data.tokenizer import Tokenizer
from captioning.decoder.ensemble import ConcatenatedEncoders, Ensemble
from captioning.decoder.model import CaptionModel, ModelConfig, count_weights
from captioning.encoders.registry import PROBES, build_encoder, digest_of, earlier_weights, image_size_of, probe
from captioning.errors import BundleError, CaptioningError
from captioning.inference import familiarity
from captioning.inference.bundle_files import (
    CONFIG,
    FORMAT,
    check_files,
    config_text,
    read_config,
    read_listed,
    read_text,
)
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.inference.familiarity import Familiarity
from captioning.inference.weights_file import halve, to_float16, validate_hdf5
from captioning.options import DecodeOptions, ModelOptions, is_of_type
from captioning.runtime.files import atomic_write, explain_disk_errors, sync_folder

WEIGHTS = "model.weights.h5"
VOCABULARY = "vocabulary.json"
__all__ = ["Parts", "Saved", "as_saved", "check", "load", "made_with", "read_listed", "save", "weights_bytes"]
PROBE_TOLERANCE = 0.02  # of the largest value
STEEPEST = 1e9  # of a calibration's numbers; what is fitted stays far below


@dataclass(frozen=True)
class Parts:
    """The parts of a captioner, as a training ends with them."""

    model: CaptionModel
    tokenizer: Tokenizer
    encoder: keras.Model | None  # None where the model holds it
    model_options: ModelOptions  # which encoder, at which image size
    decoding: DecodeOptions
    calibration: Calibration | None = None
    whole: bool = True  # whether all of an encoder that the model holds is saved, or its last stage alone
    familiarity: Familiarity | None = None

    def captioner(self) -> Captioner:
        """The captioner of these parts."""
        size = image_size_of(self.model_options.encoder, self.model_options.image_size)
        return Captioner(
            self.model,
            self.tokenizer,
            encoder=self.encoder,
            image_size=size,
            options=self.decoding,
            calibration=self.calibration,
            familiarity=self.familiarity,
        )


def as_saved(parts: Parts) -> Parts:
    """The parts as `load` will build them: in float32, each weight rounded as in the file."""
    keras.config.set_dtype_policy("float32")
    model_options = parts.model_options
    own = build_encoder(model_options.encoder, "none", model_options.image_size) if parts.encoder is None else None
    model = CaptionModel(parts.model.config, own)
    model.build()
    model.set_weights([to_float16(weight).astype(weight.dtype) for weight in parts.model.get_weights()])
    if not parts.whole:
        _assign(earlier_weights(own), earlier_weights(parts.model.encoder))
    return replace(parts, model=model)


def _assign(weights: Sequence[Any], values: Sequence[Any]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def save(folder: Path, parts: Parts, *, files: Mapping[str, bytes | str], about: dict[str, Any]) -> None:
    """Writes a bundle into a new folder, then renames that to `folder`, in the place of an older bundle."""
    files = {
        "tokenizer.pkl": parts.tokenizer.to_pickle(),
        VOCABULARY: parts.tokenizer.to_json(),
        WEIGHTS: weights_bytes(parts.model, without=[] if parts.whole else earlier_weights(parts.model.encoder)),
        **files,
    }
    fresh = folder.with_name(f".{folder.name}.new")
    with explain_disk_errors(folder):
        shutil.rmtree(fresh, ignore_errors=True)
        for name, data in files.items():
            atomic_write(fresh / name, data)
        atomic_write(fresh / CONFIG, config_text(_config(parts, files, about)))
        _swap(fresh, folder)


def _swap(fresh: Path, folder: Path) -> None:
    old = _aside(folder)
    if folder.exists():  # else a save was killed during its swap, and the older bundle is the one aside
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    sync_folder(folder.parent)  # the checkpoints are deleted next
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: Path) -> Path:
    """The name of the older bundle between the two renames of a swap."""
    return folder.with_name(f".{folder.name}.old")


def _config(parts: Parts, files: Mapping[str, bytes | str], about: dict[str, Any]) -> dict[str, Any]:
    sums = {
        name: hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
        for name, data in files.items()
    }
    encoder = parts.encoder or parts.model.encoder
    return {
        "format": FORMAT,
        "model": asdict(parts.model.config),
        "encoder": {
            "name": parts.model_options.encoder,
            "image_size": image_size_of(parts.model_options.encoder, parts.model_options.image_size),
            "trained": parts.encoder is None,
            "whole": parts.whole,
            "probe": probe(encoder),
        },
        "decoding": asdict(parts.decoding),
        **_calibrated(parts.calibration, parts.familiarity),
        "about": about,
        "made_with": made_with(),
        "files": sums,
    }


def _calibrated(calibration: Calibration | None, known: Familiarity | None) -> dict[str, Any]:
    curve = asdict(calibration) if calibration else None
    return {"calibration": curve, "familiarity": known.record() if known else None}


def calibrate(folder: Path, calibration: Calibration | None, known: Familiarity | None, *, data: str) -> None:
    """Replaces what a bundle holds of its confidence and of familiar images, measured on data of this name."""
    check(folder)
    config = read_config(folder)
    about = {**config.get("about", {}), "calibration": "dev", "calibrated_on": data}
    config |= _calibrated(calibration, known) | {"about": about}
    with explain_disk_errors(folder):
        atomic_write(folder / CONFIG, config_text(config))


def made_with() -> dict[str, str]:
    """The versions of the libraries, and the commit of this code where it runs from a git checkout."""
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__}
    versions[backend] = sys.modules[backend].__version__
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            versions["commit"] = found.stdout.strip()
    return versions


def weights_bytes(model: keras.Model, *, without: Sequence[Any] = ()) -> bytes:
    """A model's weights as a Keras file in half precision, with zeros for those in `without`.

    They are written in memory or a temporary folder first, because HDF5 crashes on a full disk.
    """
    memory, needed = Path("/dev/shm"), 12 * model.count_params()  # bytes, twice what both files take
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > needed
    with tempfile.TemporaryDirectory(dir=memory if has_room else None) as scratch:
        whole, half = Path(scratch) / WEIGHTS, Path(scratch) / "half.h5"
        with _emptied(without):
            model.save_weights(whole)
        halve(whole, half)
        return half.read_bytes()


@contextlib.contextmanager
def _emptied(weights: Sequence[Any]) -> Iterator[None]:
    kept = [keras.ops.copy(weight) for weight in weights]
    try:
        _assign(weights, [keras.ops.zeros_like(weight) for weight in weights])
        yield
    finally:
        _assign(weights, kept)


def load(path: str | Path, *others: str | Path, encoder_weights: str = "imagenet") -> Captioner:
    """The captioner of a bundle, or an ensemble of several with the options of the first.

    Each member has its own encoder where these differ, as after fine-tuning. `encoder_weights` is a weights file for a
    frozen encoder, or "imagenet", which Keras downloads.
    """
    first, *more = [_load(Path(each), encoder_weights) for each in (path, *others)]
    if not more:
        return first.captioner()
    for parts, folder in zip(more, others, strict=True):
        _check_alike(parts, Path(folder), first, Path(path))
    encoders = [parts.encoder or parts.model.encoder for parts in (first, *more)]
    separate_encoders = len(set(map(digest_of, encoders))) > 1
    ensemble = Ensemble([parts.model for parts in (first, *more)], separate_encoders=separate_encoders)
    encoder = ConcatenatedEncoders(encoders) if separate_encoders else encoders[0]
    # a calibration holds for the captioner it was fitted on alone
    return replace(first, model=ensemble, encoder=encoder, calibration=None, familiarity=None).captioner()


def _load(folder: Path, encoder_weights: str) -> Parts:
    if not folder.exists() and _aside(folder).exists():  # a save was killed during its swap
        folder = _aside(folder)
    saved = check(folder)
    tokenizer = Tokenizer.from_json(read_text(folder, VOCABULARY))
    model_options = saved.model_options
    is_here = saved.is_trained and saved.is_whole
    encoder = build_encoder(model_options.encoder, "none" if is_here else encoder_weights, model_options.image_size)
    _check_sizes(folder, saved.model, tokenizer, encoder)
    earlier = [] if saved.is_whole else earlier_weights(encoder)
    fetched = [keras.ops.copy(weight) for weight in earlier]
    model = _model(folder, saved.model, encoder if saved.is_trained else None)
    _assign(earlier, fetched)
    if not _matches(probe(encoder), saved.probe):
        raise BundleError(
            f"{folder} was trained with other weights of {model_options.encoder} than these ({encoder_weights}); "
            "give the ones of its training as encoder_weights."
        )
    encoder = None if saved.is_trained else encoder
    return Parts(
        model,
        tokenizer,
        encoder,
        model_options,
        saved.decoding,
        calibration=saved.calibration,
        whole=saved.is_whole,
        familiarity=saved.familiarity,
    )


def load_decoder(folder: str | Path) -> Parts:
    """The vocabulary and the decoder of a bundle. Its encoder has no weights, so nothing is downloaded."""
    folder = Path(folder)
    saved = check(folder)
    tokenizer, options = Tokenizer.from_json(read_text(folder, VOCABULARY)), saved.model_options
    encoder = build_encoder(options.encoder, "none", options.image_size)
    _check_sizes(folder, saved.model, tokenizer, encoder)
    model = _model(folder, saved.model, encoder if saved.is_trained else None)
    return Parts(model, tokenizer, encoder, options, saved.decoding)


def _matches(answers: Any, saved: np.ndarray) -> bool:
    return bool(np.abs(answers - saved).max() <= PROBE_TOLERANCE * np.abs(saved).max())


def _check_alike(parts: Parts, folder: Path, first: Parts, whose: Path) -> None:
    if parts.tokenizer.words != first.tokenizer.words:
        raise BundleError(f"{folder} and {whose} have different words; choose trainings on the same captions.")
    sizes = [image_size_of(each.model_options.encoder, each.model_options.image_size) for each in (parts, first)]
    regions = [each.model.config.num_regions for each in (parts, first)]
    if sizes[0] != sizes[1] or regions[0] != regions[1]:
        raise BundleError(
            f"{folder} has images of {sizes[0]} pixels in {regions[0]} regions, {whose} of {sizes[1]} in {regions[1]}; "
            "choose captioners with equal ones."
        )


@dataclass(frozen=True)
class Saved:
    """What the config.json of a bundle describes."""

    model: ModelConfig
    model_options: ModelOptions
    is_trained: bool  # whether the encoder was trained, so that the model holds it
    is_whole: bool  # whether all of such an encoder is in the weights file, or its last stage alone
    probe: np.ndarray
    decoding: DecodeOptions
    calibration: Calibration | None
    familiarity: Familiarity | None
    about: dict[str, Any]
    files: dict[str, str]


def check(folder: Path) -> Saved:
    """What a bundle's config describes; refused where that is no captioner or files have changed since."""
    saved = _understood(folder)
    check_files(folder, saved.files, needed=(WEIGHTS, VOCABULARY))
    return saved


def _understood(folder: Path) -> Saved:
    config = read_config(folder)
    try:
        return _understand(config)
    except (KeyError, TypeError, ValueError, AttributeError, CaptioningError) as error:
        reason = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        raise BundleError(
            f"{folder}/{CONFIG} does not describe a captioner ({reason}); copy the bundle again."
        ) from None


def _understand(config: dict[str, Any]) -> Saved:
    model, network = _record(ModelConfig, config["model"]), config["encoder"]
    shared = {name: value for name, value in asdict(model).items() if name in ModelOptions.__dataclass_fields__}
    options = {"encoder": network["name"], "image_size": network["image_size"]}
    answers, is_trained, is_whole = network["probe"], network["trained"], network.get("whole", True)
    is_probe = isinstance(answers, list) and all(is_of_type(float, value) for value in answers)
    if not is_probe or len(answers) != PROBES or not isinstance(is_trained, bool) or not isinstance(is_whole, bool):
        raise ValueError("its encoder needs trained and whole, true or false, and a probe of some numbers")
    curve, about = config.get("calibration"), config.get("about", {})
    calibration = _record(Calibration, curve) if curve else None
    if calibration and max(map(abs, asdict(calibration).values())) > STEEPEST:
        raise ValueError("a number of its calibration is too large")
    directions = config.get("familiarity")
    known = familiarity.read(directions) if directions else None
    if known and known.directions.shape[1] != model.feature_depth:
        raise ValueError("its familiarity is for features of another depth")
    if not isinstance(about, dict):
        raise TypeError(f"about is {about!r}")
    return Saved(
        model=model,
        model_options=_record(ModelOptions, shared | options),
        is_trained=is_trained,
        is_whole=is_whole,
        probe=np.asarray(answers, "float64"),
        decoding=_record(DecodeOptions, config["decoding"]),
        calibration=calibration,
        familiarity=known,
        about=about,
        files=config["files"],
    )


def _record(kind: type, saved: dict[str, Any]) -> Any:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    types = {entry.name: entry.type for entry in fields(kind)}
    for name, value in values.items():
        if not is_of_type(types[name], value):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)


def _check_sizes(folder: Path, config: ModelConfig, tokenizer: Tokenizer, encoder: keras.Model) -> None:
    if count_weights(config) > (folder / WEIGHTS).stat().st_size:  # two bytes each, but for those that are zeros
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its config.json: it is too small for such a network.")
    if config.vocabulary_size != len(tokenizer):
        sizes = f"{len(tokenizer)} words, the model {config.vocabulary_size}"
        raise BundleError(f"{folder} has a vocabulary of {sizes}; its files come from different trainings.")
    if (config.num_regions, config.feature_depth) != encoder.output_shape[1:]:
        raise BundleError(
            f"{folder} has a model for features of another shape than its encoder's; copy the bundle again."
        )


def _model(folder: Path, config: ModelConfig, encoder: keras.Model | None) -> CaptionModel:
    model = CaptionModel(config, encoder)
    model.build()
    try:
        validate_hdf5(folder / WEIGHTS, sum(math.prod(variable.shape) for variable in model.variables))
        model.load_weights(folder / WEIGHTS)
    except (ValueError, TypeError, OSError, KeyError, RuntimeError) as error:
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its config.json: {str(error).splitlines()[0]}") from error
    if not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.weights):
        raise BundleError(f"{folder}/{WEIGHTS} holds NaN or infinite weights; train it again.")
    return model
