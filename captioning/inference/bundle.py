"""A bundle, artifacts/<name>/: a trained captioner on the disk. Saves it, and is the only assembler that loads it.

config.json is written last and lists every other file with its hash, so a folder without it is no bundle.
No pickle is read and no code is run: the architecture is built here, the files hold numbers and words.
Keras is imported where a Keras model is asked for, or the bundle holds no graphs for ONNX Runtime.
"""

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.tokenizer import Tokenizer
from captioning.decoder.config import ModelConfig, count_weights
from captioning.decoder.ensemble import Ensemble
from captioning.encoders.registry import (
    PROBES,
    build_encoder,
    digest_of,
    earlier_weights,
    image_size_of,
    probe,
    probe_numbers,
    probe_picture,
)
from captioning.errors import BundleError, CaptioningError, MissingExtra
from captioning.inference import familiarity
from captioning.inference.bundle_files import (
    CONFIG,
    VOCABULARY,
    WEIGHTS,
    check_files,
    read_config,
    read_listed,
)
from captioning.inference.bundle_writer import aside, assign, calibrate, made_with, save, weights_bytes
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.inference.engine_onnx import GRAPHS, MISSING, OnnxEngine, OnnxModel, is_installed
from captioning.inference.familiarity import Familiarity
from captioning.inference.languages import Language, check_records, graph_builders, read_languages
from captioning.options import ENGINES, DecodeOptions, ModelOptions, is_of_type
from captioning.runtime.keras_import import import_keras

if TYPE_CHECKING:
    import keras

    from captioning.decoder.model import CaptionModel

__all__ = [
    "Parts",
    "Saved",
    "as_saved",
    "calibrate",
    "check",
    "load",
    "made_with",
    "read_listed",
    "save",
    "weights_bytes",
]
PROBE_TOLERANCE = 0.02  # of the largest value
STEEPEST = 1e9  # of a calibration's numbers; what is fitted stays far below


@dataclass(frozen=True)
class Parts:
    """The parts of a captioner, as a training ends with them."""

    model: "CaptionModel"
    tokenizer: Tokenizer
    encoder: "keras.Model | None"  # None where the model holds it
    model_options: ModelOptions  # which encoder, at which image size
    decoding: DecodeOptions
    calibration: Calibration | None = None
    whole: bool = True  # whether all of an encoder that the model holds is saved, or its last stage alone
    familiarity: Familiarity | None = None
    languages: Mapping[str, Language] = field(default_factory=dict)  # those beside its own, by code

    def captioner(self) -> Captioner:
        """The captioner of these parts."""
        from captioning.inference.engine_keras import KerasEngine

        size = image_size_of(self.model_options.encoder, self.model_options.image_size)
        return Captioner(
            KerasEngine(self.model, self.encoder),
            self.tokenizer,
            image_size=size,
            options=self.decoding,
            calibration=self.calibration,
            familiarity=self.familiarity,
            others={code: functools.partial(each.captioner, code=code) for code, each in self.languages.items()},
        )


def as_saved(parts: Parts) -> Parts:
    """The parts as `load` will build them: in float32, each weight rounded as in the file."""
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.inference.weights_file import to_float16

    keras.config.set_dtype_policy("float32")
    model_options = parts.model_options
    own = build_encoder(model_options.encoder, "none", model_options.image_size) if parts.encoder is None else None
    model = CaptionModel(parts.model.config, own)
    model.build()
    model.set_weights([to_float16(weight).astype(weight.dtype) for weight in parts.model.get_weights()])
    if not parts.whole:
        assign(earlier_weights(own), earlier_weights(parts.model.encoder))
    return replace(parts, model=model)


def load(path: str | Path, *others: str | Path, encoder_weights: str = "imagenet", engine: str = "auto") -> Captioner:
    """The captioner of a bundle, or an ensemble of several with the options of the first.

    Each member has its own encoder where these differ, as after fine-tuning. `encoder_weights` is a weights file for a
    frozen encoder, or "imagenet", which Keras downloads. `engine` is "onnx", "keras", or "auto": ONNX Runtime where
    every bundle holds its graphs.
    """
    if engine not in ENGINES:
        raise CaptioningError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}.")
    folders = [_current(Path(each)) for each in (path, *others)]
    if runs_on_onnx(folders, engine):
        return _load_graphs(folders)
    return _load_networks(folders, encoder_weights)


def runs_on_onnx(folders: Sequence[Path], engine: str = "auto") -> bool:
    """Whether `load` takes ONNX Runtime for these bundles; also true where it will refuse one of them."""
    if engine != "auto":
        return engine == "onnx"
    try:
        have_graphs = all("graphs" in read_config(_current(folder)) for folder in folders)
    except BundleError:
        return True
    if have_graphs and not is_installed() and importlib.util.find_spec("keras") is None:
        raise MissingExtra(MISSING)
    return have_graphs and is_installed()


def _current(folder: Path) -> Path:
    """The folder, or the older bundle where a save was killed during its swap."""
    return aside(folder) if not folder.exists() and aside(folder).exists() else folder


def _load_graphs(folders: Sequence[Path]) -> Captioner:
    members = [_load_graph(folder) for folder in folders]
    saved, tokenizer, _, first = members[0]
    for folder, (own, words, _, _) in zip(folders[1:], members[1:], strict=True):
        _check_alike(folder, own, words, folders[0], saved, tokenizer)
    models = [model for *_, model in members]
    separate = any(not np.array_equal(grid, members[0][2]) for _, _, grid, _ in members)
    engine = OnnxEngine(
        first if len(models) == 1 else Ensemble(models, separate_encoders=separate), models if separate else [first]
    )
    return Captioner(
        engine,
        tokenizer,
        image_size=image_size_of(saved.model_options.encoder, saved.model_options.image_size),
        options=saved.decoding,
        calibration=saved.calibration if len(models) == 1 else None,
        familiarity=saved.familiarity if len(models) == 1 else None,
        others=_languages(folders[0], saved) if len(models) == 1 else {},
    )


def _languages(folder: Path, saved: "Saved") -> dict[str, Callable[[Captioner], Captioner]]:
    on_keras = functools.cache(lambda: _load_networks([folder], "imagenet"))
    calibrations = {code: _calibration(record) for code, record in saved.languages.items()}
    return graph_builders(folder, saved.files, calibrations, on_keras)


def _load_graph(folder: Path) -> tuple["Saved", Tokenizer, np.ndarray, OnnxModel]:
    """What a bundle describes, its words, the encoder's answer to a fixed picture, and its graphs."""
    saved, tokenizer, contents = _opened(folder, keep=(WEIGHTS, *GRAPHS))
    if not saved.graphs:
        raise BundleError(f"{folder} holds no graphs for ONNX Runtime; write them with captioning export {folder}.")
    if saved.graphs.get("weights") != saved.files[WEIGHTS]:
        raise BundleError(f"{folder} holds graphs of other weights; write them again with captioning export {folder}.")
    model = OnnxModel(contents, saved.model, {WEIGHTS: contents[WEIGHTS]})
    size = image_size_of(saved.model_options.encoder, saved.model_options.image_size)
    grid = model.prove(probe_picture(size))
    if not _matches(probe_numbers(grid), saved.probe):
        raise BundleError(
            f"{folder} holds graphs of another encoder; write them again with captioning export {folder}."
        )
    return saved, tokenizer, grid, model


def _opened(folder: Path, keep: Sequence[str] = ()) -> tuple["Saved", Tokenizer, dict[str, bytes]]:
    """What a bundle describes, its words, and the contents of the files to `keep`."""
    saved = _understood(folder)
    needed = (WEIGHTS, VOCABULARY, *(GRAPHS if saved.graphs else ()))
    contents = check_files(folder, saved.files, needed=needed, keep=(VOCABULARY, *keep))
    tokenizer = Tokenizer.from_json(contents[VOCABULARY])
    _check_sizes(folder, saved.model, tokenizer)
    return saved, tokenizer, contents


def _load_networks(folders: Sequence[Path], encoder_weights: str) -> Captioner:
    import_keras()
    first, *more = members = [_load(folder, encoder_weights) for folder in folders]
    if not more:
        return first.captioner()
    from captioning.decoder.keras_ensemble import ConcatenatedEncoders, KerasEnsemble

    encoders = [parts.encoder or parts.model.encoder for parts in members]
    separate_encoders = len(set(map(digest_of, encoders))) > 1
    for folder, parts in zip(folders[1:], more, strict=True):
        _check_alike(folder, parts, parts.tokenizer, folders[0], first, first.tokenizer)
    ensemble = KerasEnsemble([parts.model for parts in members], separate_encoders=separate_encoders)
    encoder = ConcatenatedEncoders(encoders) if separate_encoders else encoders[0]
    # a calibration holds for the captioner it was fitted on alone, and so do the further languages
    return replace(first, model=ensemble, encoder=encoder, calibration=None, familiarity=None, languages={}).captioner()


def _load(folder: Path, encoder_weights: str) -> Parts:
    import keras

    saved, tokenizer, _ = _opened(folder)
    model_options = saved.model_options
    is_here = saved.is_trained and saved.is_whole
    encoder = build_encoder(model_options.encoder, "none" if is_here else encoder_weights, model_options.image_size)
    _check_shape(folder, saved.model, encoder.output_shape[1:])
    earlier = [] if saved.is_whole else earlier_weights(encoder)
    fetched = [keras.ops.copy(weight) for weight in earlier]
    model = _model(folder, saved.model, encoder if saved.is_trained else None)
    assign(earlier, fetched)
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
        languages=read_languages(folder, saved.languages, model, _calibration),
    )


def load_decoder(folder: str | Path) -> Parts:
    """The vocabulary and the decoder of a bundle. Its encoder has no weights, so nothing is downloaded."""
    folder = Path(folder)
    saved, tokenizer, _ = _opened(folder)
    options = saved.model_options
    encoder = build_encoder(options.encoder, "none", options.image_size)
    _check_shape(folder, saved.model, encoder.output_shape[1:])
    model = _model(folder, saved.model, encoder if saved.is_trained else None)
    return Parts(model, tokenizer, encoder, options, saved.decoding)


def _matches(answers: Any, saved: np.ndarray) -> bool:
    return bool(np.abs(answers - saved).max() <= PROBE_TOLERANCE * np.abs(saved).max())


def _check_alike(
    folder: Path, own: "Saved | Parts", words: Tokenizer, whose: Path, first: "Saved | Parts", first_words: Tokenizer
) -> None:
    if words.words != first_words.words:
        raise BundleError(f"{folder} and {whose} have different words; choose trainings on the same captions.")
    sizes = [image_size_of(each.model_options.encoder, each.model_options.image_size) for each in (own, first)]
    configs = [each.model.config if isinstance(each, Parts) else each.model for each in (own, first)]
    regions = [config.num_regions for config in configs]
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
    graphs: dict[str, Any]  # what the graphs for ONNX Runtime belong to, and their proof; empty where it has none
    languages: dict[str, dict[str, Any]]  # what it says of each further language


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
    about, languages = config.get("about", {}), check_records(config.get("languages", {}))
    list(map(_calibration, languages.values()))  # refused here if at all
    directions = config.get("familiarity")
    known = familiarity.read(directions) if directions else None
    if known and known.directions.shape[1] != model.feature_depth:
        raise ValueError("its familiarity is for features of another depth")
    graphs = config.get("graphs", {})
    if not isinstance(about, dict) or not isinstance(graphs, dict):
        raise TypeError("about and graphs should hold names and values")
    return Saved(
        model=model,
        model_options=_record(ModelOptions, shared | options),
        is_trained=is_trained,
        is_whole=is_whole,
        probe=np.asarray(answers, "float64"),
        decoding=_record(DecodeOptions, config["decoding"]),
        calibration=_calibration(config),
        familiarity=known,
        about=about,
        files=config["files"],
        graphs=graphs,
        languages=languages,
    )


def _calibration(record: dict[str, Any]) -> Calibration | None:
    curve = record.get("calibration")
    calibration = _record(Calibration, curve) if curve else None
    if calibration and max(map(abs, asdict(calibration).values())) > STEEPEST:
        raise ValueError("a number of its calibration is too large")
    return calibration


def _record(kind: type, saved: dict[str, Any]) -> Any:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    types = {entry.name: entry.type for entry in fields(kind)}
    for name, value in values.items():
        if not is_of_type(types[name], value):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)


def _check_sizes(folder: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    if count_weights(config) > (folder / WEIGHTS).stat().st_size:  # two bytes each, but for those that are zeros
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its config.json: it is too small for such a network.")
    if config.vocabulary_size != len(tokenizer):
        sizes = f"{len(tokenizer)} words, the model {config.vocabulary_size}"
        raise BundleError(f"{folder} has a vocabulary of {sizes}; its files come from different trainings.")


def _check_shape(folder: Path, config: ModelConfig, shape: Sequence[int]) -> None:
    if (config.num_regions, config.feature_depth) != tuple(shape):
        raise BundleError(
            f"{folder} has a model for features of another shape than its encoder's; copy the bundle again."
        )


def _model(folder: Path, config: ModelConfig, encoder: "keras.Model | None") -> "CaptionModel":
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.inference.weights_file import validate_hdf5

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
