"""artifacts/<name>/: a trained captioner on the disk; save, load, refuse what does not fit. The only assembler.

config.json is written last and names every other file with its hash, so a folder without it is no bundle.
No pickle is read and no code is run: the architecture is ours, the files hold numbers and words.
"""

import contextlib
import hashlib
import json
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
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.inference.weights_file import halve, to_float16, validate_hdf5
from captioning.options import DecodeOptions, ModelOptions
from captioning.runtime.files import atomic_write, explain_disk_errors, sync_folder

FORMAT = 1
WEIGHTS = "model.weights.h5"
VOCABULARY = "vocabulary.json"
PROBE_TOLERANCE = 0.02  # of the largest answer
LONGEST_TEXT = 4 * 2**20  # bytes of config.json and of vocabulary.json, in which 2,000 words take 0.03 MB


@dataclass(frozen=True)
class Parts:
    """What a captioner is made of, as it comes out of a training."""

    model: CaptionModel
    tokenizer: Tokenizer
    encoder: keras.Model | None  # None where the model holds it
    model_options: ModelOptions  # which encoder, at which image size
    decoding: DecodeOptions
    calibration: Calibration | None = None
    whole: bool = True  # whether an encoder that the model holds is kept whole, or its last stage alone

    def captioner(self) -> Captioner:
        """The captioner that these parts make."""
        size = image_size_of(self.model_options.encoder, self.model_options.image_size)
        return Captioner(
            self.model,
            self.tokenizer,
            encoder=self.encoder,
            image_size=size,
            options=self.decoding,
            calibration=self.calibration,
        )


def as_saved(parts: Parts) -> Parts:
    """The parts after a training as `load` will build them: in float32, each weight as the file will keep it."""
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
    """Writes a bundle into a folder of its own, then puts it in the place of an older one."""
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
        config = json.loads(json.dumps(_config(parts, files, about)))
        atomic_write(fresh / "config.json", json.dumps(config | {"sum": _sum(config)}, indent=2))
        _swap(fresh, folder)


def _swap(fresh: Path, folder: Path) -> None:
    old = _aside(folder)
    if folder.exists():  # else a save was killed in the middle of its swap, and the older bundle is the one aside
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    sync_folder(folder.parent)  # before what made the bundle is forgotten
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: Path) -> Path:
    """Where the older bundle is between the two renames of a swap."""
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
        "calibration": asdict(parts.calibration) if parts.calibration else None,
        "about": about,
        "made_with": made_with(),
        "files": sums,
    }


def made_with() -> dict[str, str]:
    """The versions that a bundle is made with, and the commit of this code where it is worked on."""
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


def _sum(config: dict[str, Any]) -> str:
    """The hash of what a config says, however it is laid out."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def weights_bytes(model: keras.Model, *, without: Sequence[Any] = ()) -> bytes:
    """A model's weights as Keras writes them, in half precision, zeros for those it shall be `without`; written beside
    the disk that matters, since HDF5 dies on a full one."""
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
    """The captioner of a bundle; of several, one that asks them all for every word and searches as the first does.

    Each looks through its own encoder where these differ, as after fine-tuning.
    `encoder_weights` is a file for a frozen encoder that Keras should not fetch.
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
    # how sure one is says nothing of them all
    return replace(first, model=ensemble, encoder=encoder, calibration=None).captioner()


def _load(folder: Path, encoder_weights: str) -> Parts:
    if not folder.exists() and _aside(folder).exists():  # a save was killed in the middle of its swap
        folder = _aside(folder)
    saved = check(folder)
    tokenizer = Tokenizer.from_json(_text(folder, VOCABULARY))
    model_options = saved.model_options
    is_here = saved.is_trained and saved.is_whole
    encoder = build_encoder(model_options.encoder, "none" if is_here else encoder_weights, model_options.image_size)
    _check_sizes(folder, saved.model, tokenizer, encoder)
    earlier = [] if saved.is_whole else earlier_weights(encoder)
    fetched = [keras.ops.copy(weight) for weight in earlier]
    model = _model(folder, saved.model, encoder if saved.is_trained else None)
    _assign(earlier, fetched)
    if not _answer_alike(probe(encoder), saved.probe):
        raise BundleError(
            f"{folder} was trained with other weights of {model_options.encoder} than these ({encoder_weights}); "
            "give the ones of its training as encoder_weights."
        )
    encoder = None if saved.is_trained else encoder
    return Parts(model, tokenizer, encoder, model_options, saved.decoding, saved.calibration, saved.is_whole)


def _answer_alike(answers: Any, saved: np.ndarray) -> bool:
    return bool(np.abs(answers - saved).max() <= PROBE_TOLERANCE * np.abs(saved).max())


def _check_alike(parts: Parts, folder: Path, first: Parts, whose: Path) -> None:
    if parts.tokenizer.words != first.tokenizer.words:
        raise BundleError(f"{folder} and {whose} have different words; choose trainings on the same captions.")
    sizes = [image_size_of(each.model_options.encoder, each.model_options.image_size) for each in (parts, first)]
    regions = [each.model.config.num_regions for each in (parts, first)]
    if sizes[0] != sizes[1] or regions[0] != regions[1]:
        raise BundleError(
            f"{folder} looks at {sizes[0]} pixels in {regions[0]} regions, {whose} at {sizes[1]} in {regions[1]}; "
            "choose captioners whose pictures and regions are as large."
        )


def check(folder: Path) -> "_Saved":
    """What a bundle's config says, refused where it does not describe a captioner or files have changed since."""
    try:
        saved = _read_config(folder)
        _check_files(folder, saved.files)
    except OSError as error:
        raise BundleError(f"{folder} cannot be read ({error.strerror}); check its permissions.") from None
    return saved


@dataclass(frozen=True)
class _Saved:
    model: ModelConfig
    model_options: ModelOptions
    is_trained: bool
    is_whole: bool
    probe: np.ndarray
    decoding: DecodeOptions
    calibration: Calibration | None
    files: dict[str, str]


def _read_config(folder: Path) -> _Saved:
    if not (folder / "config.json").is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no config.json; a training writes one to artifacts/<name>/."
        )
    try:
        config = json.loads(_text(folder, "config.json"))
        kept_sum = config.pop("sum", None) if isinstance(config, dict) else None  # bundles of before have none
        is_intact = kept_sum in (None, _sum(config))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder}/config.json is not readable JSON ({error}); copy the bundle again.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else "none"
        raise BundleError(f"{folder} has format {found}, this version reads format {FORMAT}; train it again or update.")
    if not is_intact:
        raise BundleError(f"{folder}/config.json is not the file of this training; copy the whole folder again.")
    try:
        return _understand(config)
    except (KeyError, TypeError, ValueError, AttributeError, CaptioningError) as error:
        reason = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        raise BundleError(
            f"{folder}/config.json does not describe a captioner ({reason}); copy the bundle again."
        ) from None


def _understand(config: dict[str, Any]) -> _Saved:
    model, network = _record(ModelConfig, config["model"]), config["encoder"]
    shared = {name: value for name, value in asdict(model).items() if name in ModelOptions.__dataclass_fields__}
    options = {"encoder": network["name"], "image_size": network["image_size"]}
    answers = np.asarray(network["probe"], "float64")
    is_trained, is_whole = network["trained"], network.get("whole", True)
    if answers.shape != (PROBES,) or not isinstance(is_trained, bool) or not isinstance(is_whole, bool):
        raise ValueError(f"an encoder with trained {is_trained}, whole {is_whole} and {answers.size} probes")
    kind, curve = _record(ModelOptions, shared | options), config.get("calibration")
    calibration = _record(Calibration, curve) if curve else None
    decoding = _record(DecodeOptions, config["decoding"])
    return _Saved(model, kind, is_trained, is_whole, answers, decoding, calibration, {**config["files"]})


def _record(kind: type, saved: dict[str, Any]) -> Any:
    types = {entry.name: entry.type for entry in fields(kind)}
    for name, value in saved.items():
        if not _is_a(types[name], value):
            raise TypeError(f"{name} is {value!r}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})


def _is_a(kind: Any, value: object) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value) is kind or (kind is float and type(value) is int)


def _check_files(folder: Path, sums: dict[str, str]) -> None:
    for name in {WEIGHTS: "", VOCABULARY: ""} | sums:
        with _own_file(folder, name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sums.get(name):
                raise BundleError(f"{folder}/{name} is not the file of this training; copy the whole folder again.")


def _own_file(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or path.is_symlink():
        raise BundleError(f"{folder} names {name}, which is outside the bundle; copy the files themselves into it.")
    if not path.is_file():
        raise BundleError(f"{folder} lacks {name}; copy the whole folder of the training again.")
    return path


def _text(folder: Path, name: str) -> bytes:
    path = _own_file(folder, name)
    if path.stat().st_size > LONGEST_TEXT:
        raise BundleError(f"{path} has more than {LONGEST_TEXT // 2**20} MB; it was not made by us, do not use it.")
    return path.read_bytes()


def _check_sizes(folder: Path, config: ModelConfig, tokenizer: Tokenizer, encoder: keras.Model) -> None:
    if count_weights(config) > (folder / WEIGHTS).stat().st_size:  # two bytes each, but for those that are zeros
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its config.json: it is too small for such a network.")
    if config.vocabulary_size != len(tokenizer):
        sizes = f"{len(tokenizer)} words, the model {config.vocabulary_size}"
        raise BundleError(f"{folder} has a vocabulary of {sizes}; its files come from different trainings.")
    if (config.num_regions, config.feature_depth) != encoder.output_shape[1:]:
        raise BundleError(f"{folder} has a model for other grids than its encoder's; copy the bundle again.")


def _model(folder: Path, config: ModelConfig, encoder: keras.Model | None) -> CaptionModel:
    model = CaptionModel(config, encoder)
    model.build()
    try:
        validate_hdf5(folder / WEIGHTS, sum(math.prod(variable.shape) for variable in model.variables))
        model.load_weights(folder / WEIGHTS)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its config.json: {str(error).splitlines()[0]}") from error
    if not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.weights):
        raise BundleError(f"{folder}/{WEIGHTS} holds values that are not numbers; train it again.")
    return model
