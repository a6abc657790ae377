"""Stand-ins for models: a translator into capitals, a model that answers every question, a segmenter."""

import numpy as np

from captioning.errors import ImageError
from captioning.extras import translation
from captioning.extras.questions import Answer
from captioning.extras.segments import Segment
from captioning.extras.translation import Translator
from captioning.inference.caption import Caption, Word
from captioning.inference.protocol import Description
from captioning.options import DecodeOptions
from tests.extras.test_hf_files import tensors


def stand_in_marian(folder, monkeypatch):
    """Makes the folder a Marian model, whose translations are the texts in capitals; returns the sizes of batches."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "marian"}')
    (folder / "model.safetensors").write_bytes(tensors())
    for name in ("source.spm", "target.spm", "vocab.json"):
        (folder / name).write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    monkeypatch.setattr(translation, "NEEDED", ())
    asked = []
    monkeypatch.setattr(
        Translator, "_translate", lambda self, texts: asked.append(len(texts)) or [text.upper() for text in texts]
    )
    return asked


class Yes:
    """Answers yes to every question."""

    def answer(self, image, asked):
        if getattr(image, "name", "") == "none.png":
            raise ImageError("missing", f"{image} does not exist; check the name and the folder.")
        return [Answer(each, "=yes", 0.75, "stand-in", (("<no>", 0.2),)) for each in asked]


def left_half(size):
    """The mask of the left half of a picture of (height, width)."""
    mask = np.zeros(size, bool)
    mask[:, : size[1] // 2] = True
    return mask


class Halves:
    """Finds a dog on the left of every picture and the sky on its right; captions it, with attention to the left."""

    name, options = "halves", DecodeOptions()

    def __init__(self):
        self.regions = []

    def segments(self, image, *, threshold=0.5):
        left = left_half(image.shape[:2])
        return [each for each in (Segment("<dog>", 0.9, left), Segment("sky", 0.6, ~left)) if each.score >= threshold]

    def describe(self):
        return Description(self.name)

    def caption(self, image, options=None, *, region=None):
        self.regions.append(region)
        words = tuple(Word(text, 0.5, np.array([[0.4, 0.1], [0.4, 0.1]])) for text in ("a", "dog"))
        return Caption("a dog" if region is not None else "a dog under the sky", words, -1.0)
