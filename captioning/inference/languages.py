"""The further languages of a bundle: each has a vocabulary, the numbers of its decoder and a calibration.

They are added to the files of a bundle, all of which stay as they were. config.json lists them under "languages".
Where the bundle holds graphs for ONNX Runtime, each language has a start and a step among them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.tokenizer import Tokenizer
from captioning.errors import BundleError
from captioning.inference.bundle_files import WEIGHTS, check_files, read_listed
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.inference.engine_onnx import OnnxEngine, OnnxModel
from captioning.options import is_language

if TYPE_CHECKING:
    from captioning.decoder.model import CaptionModel

MOST_LANGUAGES = 20
MOST_RANK = 512


@dataclass(frozen=True)
class Language:
    """A further language of a captioner."""

    tokenizer: Tokenizer
    numbers: Mapping[str, np.ndarray]  # see decoder/languages.py
    calibration: Calibration | None = None

    def captioner(self, base: Captioner, code: str) -> Captioner:
        """The captioner of this language, with the encoder and the search of `base`."""
        from captioning.decoder.languages import decoder_of
        from captioning.inference.engine_keras import KerasEngine

        return Captioner(
            KerasEngine(decoder_of(base.model, dict(self.numbers)), base.encoder),
            self.tokenizer,
            image_size=base.image_size,
            options=replace(base.options, language=code),
            calibration=self.calibration,
            familiarity=base.familiarity,
        )

    @property
    def rank(self) -> int:
        """The rank of its changes to the decoder."""
        return next(value.shape[1] for name, value in self.numbers.items() if name.endswith("/a"))

    def record(self) -> dict[str, Any]:
        """Its entry in config.json."""
        return {"rank": self.rank, "calibration": asdict(self.calibration) if self.calibration else None}

    def files(self, base: "CaptionModel", code: str) -> dict[str, bytes | str]:
        """Its files by name."""
        from captioning.decoder.languages import shapes_of, to_bytes

        shapes = shapes_of(base, len(self.tokenizer), self.rank)
        return {
            vocabulary_file(code): self.tokenizer.to_json(),
            numbers_file(code): to_bytes(dict(self.numbers), shapes),
        }


def vocabulary_file(code: str) -> str:
    """The name of the file of a language's words."""
    return f"vocabulary-{code}.json"


def numbers_file(code: str) -> str:
    """The name of the file of a language's numbers."""
    return f"decoder-{code}.bin"


def graph_files(code: str) -> tuple[str, str]:
    """The names of a language's graphs: its start and its step."""
    return f"start-{code}.onnx", f"step-{code}.onnx"


def graph_builders(
    folder: Path,
    hashes: Mapping[str, str],
    calibrations: Mapping[str, Calibration | None],
    on_keras: Callable[[], Captioner],
) -> dict[str, Callable[[Captioner], Captioner]]:
    """What builds the captioner of each language when it is first asked for, by Keras where it has no graphs."""

    def build(code: str, base: Captioner) -> Captioner:
        if not set(graph_files(code)) <= hashes.keys():
            return on_keras().speaking(code)
        return _on_onnx(base, folder, code, hashes, calibrations[code])

    return {code: partial(build, code) for code in calibrations}


def _on_onnx(
    base: Captioner, folder: Path, code: str, hashes: Mapping[str, str], calibration: Calibration | None
) -> Captioner:
    """The captioner of a language on ONNX Runtime, with the encoder and the search of `base`."""
    assert isinstance(base.engine, OnnxEngine), "graphs belong to the engine of ONNX Runtime"
    numbers, words = numbers_file(code), vocabulary_file(code)
    names = (WEIGHTS, numbers, words, *graph_files(code))
    contents = check_files(folder, {name: hashes.get(name, "") for name in names}, needed=names, keep=names)
    if not np.isfinite(np.frombuffer(contents[numbers][: len(contents[numbers]) // 2 * 2], "<f2")).all():
        raise BundleError(f"{folder}/{numbers} holds NaN or infinite numbers; copy the bundle again.")
    tokenizer, model = Tokenizer.from_json(contents[words]), base.engine.model
    assert isinstance(model, OnnxModel), "an ensemble has no further languages"
    files = {name: contents[name] for name in (WEIGHTS, numbers)}
    own = model.speaking(len(tokenizer), {name: contents[name] for name in graph_files(code)}, files)
    own.prove(np.zeros((base.image_size, base.image_size, 3), "uint8"))
    return Captioner(
        OnnxEngine(own, [own]),
        tokenizer,
        image_size=base.image_size,
        options=replace(base.options, language=code),
        calibration=calibration,
        familiarity=base.familiarity,
    )


def check_records(records: Any) -> dict[str, dict[str, Any]]:
    """The languages that config.json lists; a ValueError where they cannot be ones."""
    if not isinstance(records, dict) or len(records) > MOST_LANGUAGES or not all(map(is_language, records)):
        raise ValueError(f"languages must be at most {MOST_LANGUAGES}, each under its code")
    for code, record in records.items():
        rank = record.get("rank") if isinstance(record, dict) else None
        if type(rank) is not int or not 1 <= rank <= MOST_RANK:
            raise ValueError(f"the language {code} needs a rank from 1 to {MOST_RANK}")
    return records


def read_languages(
    folder: Path,
    records: Mapping[str, dict[str, Any]],
    base: "CaptionModel",
    calibration_of: Callable[[dict[str, Any]], Calibration | None],
) -> dict[str, Language]:
    """The languages that a bundle lists, refused where their files do not fit."""
    return {
        code: _read(folder, code, base, rank=record["rank"], calibration=calibration_of(record))
        for code, record in records.items()
    }


def _read(folder: Path, code: str, base: "CaptionModel", *, rank: int, calibration: Calibration | None) -> Language:
    from captioning.decoder.languages import from_bytes, shapes_of

    tokenizer = Tokenizer.from_json(read_listed(folder, vocabulary_file(code)))
    try:
        numbers = from_bytes(read_listed(folder, numbers_file(code)), shapes_of(base, len(tokenizer), rank))
    except ValueError as error:
        raise BundleError(f"{folder}/{numbers_file(code)} does not fit ({error}); copy the bundle again.") from None
    return Language(tokenizer, numbers, calibration)
