"""Every option: one frozen record per stage, validated where it is made.

A field's `help` is its flag's help. flags.py makes the flags. Nothing heavy is imported, so that `--help` is fast.
"""

import math
import re
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from captioning.errors import CaptioningError

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("greedy", "beam", "sample")
ENGINES = ("auto", "onnx", "keras")
PLACES = ("local", "ray")
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple[str, ...]: "a list of words",
}

Record = TypeVar("Record")


@dataclass(frozen=True)
class EncoderSpec:
    """One image encoder; see ENCODERS."""

    image_size: int  # usual side of its square input
    depth: int  # numbers that it gives for a region
    application: str = ""  # module.constructor in keras.applications; empty: ours, in encoders/networks.py


ENCODERS = {  # a new encoder is a row; choices, sizes and help follow
    "resnet50": EncoderSpec(224, 2048, "resnet.ResNet50"),
    "resnet101": EncoderSpec(224, 2048, "resnet.ResNet101"),
    "mobilenetv2": EncoderSpec(224, 1280, "mobilenet_v2.MobileNetV2"),
    "efficientnetv2b0": EncoderSpec(224, 1280, "efficientnet_v2.EfficientNetV2B0"),
    "tiny": EncoderSpec(132, 128),
}
OTHER_SIZES = ", ".join(f"{name} {spec.image_size}" for name, spec in ENCODERS.items() if spec.image_size != 224)


def option(default: Any, help: str, *, choices: tuple[str, ...] = (), was: str = "") -> Any:
    """A field with its help text, the choices allowed for strings, and its name in the release before."""
    return field(default=default, metadata={"help": help, "choices": choices, "was": was})


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise CaptioningError(f"--{name.replace('_', '-')} {value} cannot be used: {expected} was expected.")


def _check(record: Any, expected: str, test: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        _require(test(value), name, value, expected)


def is_of_type(kind: Any, value: object) -> bool:
    """Whether a value is one that a field annotated as `kind` can hold."""
    if kind == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return type(value) is kind or (kind is float and type(value) is int)


def _check_types(record: Any) -> None:
    for entry in fields(record):
        value, kind = getattr(record, entry.name), entry.type
        if kind == tuple[str, ...] and isinstance(value, list):
            object.__setattr__(record, entry.name, value := tuple(value))
        _require(is_of_type(kind, value), entry.name, repr(value), TYPES[kind])


def _check_choices(record: Any) -> None:
    for name, entry in record.__dataclass_fields__.items():
        choices = entry.metadata.get("choices")
        if choices:
            _require(getattr(record, name) in choices, name, getattr(record, name), "one of " + ", ".join(choices))


def is_language(code: str) -> bool:
    """Whether a text is a language's code such as de or zh-hant, in lower case."""
    return re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,2}", code) is not None


def _at_least_one(value: int) -> bool:
    return value >= 1


def _not_negative(value: float) -> bool:
    return 0 <= value < math.inf


def _fraction(value: float) -> bool:
    return 0 <= value < 1


@dataclass(frozen=True)
class DataOptions:
    """Which captioned images."""

    dataset: str = option(
        "flickr8k",
        "known data set: fetched (flickr8k, coco, coco2014), drawn (scenes), or a folder you have (flickr30k)",
        choices=("flickr8k", "flickr30k", "coco", "coco2014", "scenes"),
    )
    data: str = option("", "your own captioned folder or captions file instead of --dataset; the folder of flickr30k")
    images: str = option("", "folder of the images, if it is not beside the captions")
    image_column: str = option("", "image column of a CSV or TSV, if its name is unusual")
    caption_column: str = option("", "caption column, if its name is unusual")

    def __post_init__(self) -> None:
        _check_choices(self)


@dataclass(frozen=True)
class WordOptions:
    """Vocabulary and word vectors."""

    min_count: int = option(5, "words seen fewer times in the training captions become <unk>")
    caption_length: int = option(16, "words of a training caption, the end token included; longer captions are cut")
    glove: str = option("auto", "word vectors: a glove.*.txt or .zip, auto (a file in glove/, else fit), fit, none")
    glove_frozen_epochs: int = option(2, "epochs in which the word vectors are not trained")
    sentences: str = option("", "text file of further sentences like the captions; the decoder learns from them too")

    def __post_init__(self) -> None:
        _check(self, "1 or more", _at_least_one, "min_count")
        _check(self, "2 or more", lambda value: value >= 2, "caption_length")
        _check(self, "0 or more", _not_negative, "glove_frozen_epochs")


@dataclass(frozen=True)
class ModelOptions:
    """Encoder and widths of the model."""

    encoder: str = option("resnet50", "image encoder", choices=tuple(ENCODERS))
    encoder_weights: str = option("imagenet", "imagenet (fetched by Keras), none, or a weights file")
    image_size: int = option(0, f"input size in pixels; 0: 224, {OTHER_SIZES}")
    feature_units: int = option(384, "width of the projected features")
    attention_units: int = option(128, "width of the additive attention")
    lstm_units: int = option(384, "width of the LSTM")
    embedding_units: int = option(300, "width of the word vectors")
    dropout: float = option(0.25, "dropout rate of features, embeddings and outputs")
    attention_penalty: float = option(0.0, "weight of the doubly stochastic attention penalty")

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self, "1 or more", _at_least_one, "feature_units", "attention_units", "lstm_units", "embedding_units")
        _check(self, "0 up to 1", _fraction, "dropout")
        _check(self, "0 or more", _not_negative, "attention_penalty")
        _check(self, "0, or 32 to 1024", lambda value: value == 0 or 32 <= value <= 1024, "image_size")


@dataclass(frozen=True)
class TrainOptions:
    """Training."""

    epochs: int = option(10, "epochs of cross-entropy; with --bundle 0 skips to the phases below")
    batch_size: int = option(16, "images per step, each with its captions")
    views: int = option(1, "views of every training image: itself, mirrored, cropped; each epoch uses one")
    captions_per_image: int = option(5, "captions per image and step; more are rotated over the epochs")
    learning_rate: float = option(2e-3, "peak learning rate: warm-up, then cosine decay")
    warmup: float = option(0.03, "fraction of the steps spent warming up")
    weight_decay: float = option(1e-2, "AdamW's weight decay")
    label_smoothing: float = option(0.1, "label smoothing")
    clip_norm: float = option(5.0, "gradients are clipped to this norm")
    fine_tune_epochs: int = option(0, "epochs from images afterwards, with the encoder trained too")
    fine_tune_stages: int = option(1, "stages of the encoder trained in that phase, counted from the last; 0: all")
    fine_tune_rate: float = option(3e-4, "peak learning rate of that phase, halved with every stage before the last")
    fine_tune_crop: float = option(0.75, "smallest side of that phase's random crops, as a fraction; 1: whole images")
    reinforce_epochs: int = option(2, "epochs of self-critical training at the end, rewarded with CIDEr-D")
    reinforce_rate: float = option(1e-4, "peak learning rate of self-critical training")
    reinforce_samples: int = option(5, "sampled captions per image")
    reinforce_temperature: float = option(0.6, "temperature of the samples")
    reinforce_anchor: float = option(0.0, "weight of cross-entropy on the references in that phase")
    reinforce_bleu: float = option(0.0, "weight of BLEU-4 in the reward, beside CIDEr-D")
    keep_base: float = option(
        0.0, "with --bundle: fraction of the base model's weights to mix back in after training", was="remember"
    )
    patience: int = option(0, "epochs without a better validation score before stopping; 0: never")
    lora_rank: int = option(0, "with --captioner: rank of the matrices that are trained instead of all weights; 0: all")
    precision: str = option("auto", "precision of the layers; weights and losses stay float32", choices=PRECISIONS)
    seed: int = option(0, "random seed; two runs with the same seed give the same captioner")
    tensorboard: bool = option(False, "also write TensorBoard logs")

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self, "1 or more", _at_least_one, "batch_size", "views", "captions_per_image")
        _check(self, "2 or more", lambda value: value >= 2, "reinforce_samples")
        rates = "learning_rate", "fine_tune_rate", "reinforce_rate"
        _check(self, "more than 0", lambda value: value > 0, *rates, "reinforce_temperature", "clip_norm")
        _check(self, "0 or more", _not_negative, "epochs", "weight_decay", "patience", "lora_rank")
        _check(self, "0 or more", _not_negative, "fine_tune_epochs", "fine_tune_stages")
        _check(self, "more than 0, up to 1", lambda value: 0 < value <= 1, "fine_tune_crop")
        _check(self, "0 or more", _not_negative, "reinforce_epochs", "reinforce_anchor", "reinforce_bleu")
        _check(self, "0 up to 1", _fraction, "label_smoothing", "warmup", "keep_base")


@dataclass(frozen=True)
class DecodeOptions:
    """Search for a caption.

    `strategy` is "beam", "greedy" or "sample". `num_beams` and `force` belong to beam search, `temperature`, `top_k`,
    `top_p` and `sampling_seed` to sampling, the other fields to all three. Every bundle has options of its own,
    `captioner.options`: `captioner.caption(image, num_beams=5)` changes single fields of them,
    `captioner.caption(image, DecodeOptions(...))` replaces them all.
    """

    strategy: str = option("beam", "search strategy", choices=STRATEGIES)
    num_beams: int = option(3, "number of beams")
    num_captions: int = option(1, "captions returned, best first")
    max_length: int = option(20, "most words, the end token not counted")
    min_length: int = option(0, "fewest words")
    length_penalty: float = option(0.7, "log-probability is divided by length to this power")
    repetition_penalty: float = option(1.0, "divides the probability of words already used; 1: off")
    no_repeat_ngram_size: int = option(2, "no n-gram of this size appears twice, no word follows itself; 0: off")
    temperature: float = option(1.0, "sampling temperature")
    top_k: int = option(0, "sampling: only the k most likely words; 0: all")
    top_p: float = option(1.0, "sampling: only the most likely words that make up this probability")
    force: tuple[str, ...] = option((), "words every caption must contain")
    forbid: tuple[str, ...] = option((), "words no caption may contain")
    sampling_seed: int = option(0, "seed of the sampling")
    mirrored: bool = option(False, "average the features with those of the mirror image, at twice the encoding time")
    language: str = option("", "language of the caption, such as de, where the captioner has several; default: its own")

    def __post_init__(self) -> None:
        _check_types(self)
        _check_choices(self)
        _check(self, "1 to 50", lambda value: 1 <= value <= 50, "num_beams")
        _check(self, "1 to 100", lambda value: 1 <= value <= 100, "num_captions", "max_length")
        _check(self, "0 or more", _not_negative, "min_length", "length_penalty", "no_repeat_ngram_size")
        _check(self, "0 or more", _not_negative, "top_k", "sampling_seed")
        _check(self, "more than 0", lambda value: 0 < value < math.inf, "temperature", "repetition_penalty")
        _check(self, "more than 0, up to 1", lambda value: 0 < value <= 1, "top_p")
        is_code = "a code such as de or zh-hant, in lower case,"
        _check(self, is_code, lambda code: not code or is_language(code), "language")
        _check(self, f"at most --max-length {self.max_length}", lambda value: value <= self.max_length, "min_length")
        room = self.num_beams if self.strategy == "beam" else 1 if self.strategy == "greedy" else self.num_captions
        _check(self, f"at most {room} with this strategy", lambda value: value <= room, "num_captions")
        _require(len(self.force) <= self.max_length, "force", len(self.force), "no more words than --max-length")
        _require(self.strategy == "beam" or not self.force, "force", " ".join(self.force), "--strategy beam")


@dataclass(frozen=True)
class RunOptions:
    """Folders, resuming, devices."""

    from_feedback: str = option("", "feedback database; --bundle is fine-tuned on its corrections")
    bundle: str = option("", "bundle to start from; it is left unchanged; prints the defaults that few images get")
    captioner: str = option(
        "", "fine-tune this published model instead: blip, blip2, git, vit-gpt2, florence-2, a folder or a hub name"
    )
    offline: bool = option(False, "never ask, never download a published model")
    decoder_from: str = option("", "bundle whose decoder is copied; its encoder may be another one")
    add_languages: tuple[str, ...] = option((), "languages of the data to add to --bundle; all else in it is kept")
    name: str = option("", "name of the new bundle; default: names of data and encoder")
    artifacts: str = option("artifacts", "folder of the bundles")
    downloads: str = option("data", "folder of downloaded and drawn data sets")
    cache: str = option("data/cache", "folder of cached features")
    glove_folder: str = option("glove", "folder of GloVe files")
    resume: bool = option(False, "continue an interrupted training")
    overwrite: bool = option(False, "start again, and replace a bundle of this name at the end")
    without_data: bool = option(False, "keep no picture and no caption of the data in the bundle, to give it away")
    without_encoder: bool = option(
        False, "of a published encoder keep the fine-tuned last stage only; whoever opens the bundle fetches the rest"
    )
    max_unreadable: float = option(0.1, "fraction of images that may be unreadable before training is refused")
    smoke: bool = option(False, "tiny sizes: the whole recipe in under a minute")
    devices: int = option(1, "data-parallel training on N GPUs (JAX)")

    def __post_init__(self) -> None:
        _check(self, "1 or more", _at_least_one, "devices")
        _check(self, "0 to 1", lambda value: 0 <= value <= 1, "max_unreadable")
        is_alone = not (self.bundle or self.decoder_from or self.from_feedback)
        _require(
            is_alone or not self.captioner, "captioner", self.captioner, "no --bundle, --decoder-from, --from-feedback"
        )
        _require(not self.decoder_from or not self.bundle, "decoder_from", self.decoder_from, "no --bundle beside it")
        _require(not self.from_feedback or self.bundle != "", "from_feedback", self.from_feedback, "--bundle FOLDER")
        needs = "codes such as de, with --bundle and without --from-feedback,"
        can_add = self.bundle != "" and not self.from_feedback and all(map(is_language, self.add_languages))
        _require(can_add or not self.add_languages, "add_languages", " ".join(self.add_languages), needs)


@dataclass(frozen=True)
class EngineOptions:
    """Where images are encoded."""

    engine: str = option("local", "this process, or the workers of a Ray cluster", choices=PLACES)
    workers: int = option(0, "Ray workers; 0: one per two cores")

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self, "0 or more", _not_negative, "workers")
        _require(self.engine == "ray" or not self.workers, "workers", self.workers, "--engine ray")


@dataclass(frozen=True)
class CaptionEngineOptions(EngineOptions):
    """What computes captions."""

    engine: str = option(
        "auto",
        "ONNX Runtime, Keras, auto: ONNX Runtime where the bundle holds its graphs; or the workers of a Ray cluster",
        choices=(*ENGINES, "ray"),
    )


@dataclass(frozen=True)
class ServeOptions:
    """How requests are gathered, how many may wait, and what stays in memory."""

    window: float = option(5.0, "milliseconds that a picture waits for others to be captioned with it")
    batch_size: int = option(16, "most pictures captioned together")
    queue: int = option(64, "most pictures that wait or are captioned; more are refused with status 503")
    answers: int = option(1000, "answers kept for identical pictures; 0: none")
    idle: float = option(900.0, "seconds without a request after which a captioner is unloaded; 0: never")
    split: str = option("", "shares of captioners in an experiment, as in flickr8k=80,other=20; see docs/rest.md")
    jobs: bool = option(True, "take jobs, which one process alone can run")
    memory: int = option(0, "MB of the process above which captioners used longest ago are unloaded; 0: no limit")

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "0 up to 1000", lambda value: 0 <= value < 1000, "window")
        _check(self, "1 to 64", lambda value: 1 <= value <= 64, "batch_size")
        _check(self, "16 or more", lambda value: value >= 16, "queue")
        _check(self, "0 or more", _not_negative, "answers", "idle", "memory")


@dataclass(frozen=True)
class RecipeOptions:
    """All options of a training, one record per stage."""

    data: DataOptions = DataOptions()
    words: WordOptions = WordOptions()
    model: ModelOptions = ModelOptions()
    training: TrainOptions = TrainOptions()
    decoding: DecodeOptions = DecodeOptions()
    run: RunOptions = RunOptions()
    engine: EngineOptions = EngineOptions()
    unset: frozenset[str] = frozenset()  # the options that no flag set: with --bundle the base and the data decide

    def __post_init__(self) -> None:
        training, run = self.training, self.run
        has_base = run.bundle != "" and not run.from_feedback
        trains_after = has_base and bool(training.fine_tune_epochs or training.reinforce_epochs)
        _require(training.epochs > 0 or trains_after, "epochs", 0, "1 or more, or --bundle and epochs of another kind,")
        is_kept = training.fine_tune_stages == 1 or not run.without_encoder
        expected = "1 with --without-encoder, which keeps the last stage only,"
        _require(is_kept, "fine_tune_stages", training.fine_tune_stages, expected)
        shared = f"a multiple of --devices {run.devices}"
        _require(training.batch_size % run.devices == 0, "batch_size", training.batch_size, shared)
        _require(has_base or not training.keep_base, "keep_base", training.keep_base, "--bundle BUNDLE")
        _require(not run.bundle or self.engine.engine == "local", "engine", self.engine.engine, "local with --bundle")


def changed(options: Record, /, **changes: Any) -> Record:
    """The options with some fields changed; an unknown name is refused with the nearest ones."""
    names = [entry.name for entry in fields(options)]  # type: ignore[arg-type]
    for name in changes:
        if name not in names:
            nearest = get_close_matches(name, names, cutoff=0.5) or names
            raise CaptioningError(f"There is no option {name}; did you mean {' or '.join(nearest)}?")
    return replace(options, **changes) if changes else options  # type: ignore[type-var]


RECORDS = (DataOptions, WordOptions, ModelOptions, TrainOptions, DecodeOptions, RunOptions, EngineOptions)  # its types


DECODER = ("feature_units", "attention_units", "lstm_units", "embedding_units")
NETWORK = ("encoder", "image_size", *DECODER)
