"""Stand-ins for models that need the extra hf: a translator into capitals, a model that answers every question."""

from captioning.errors import ImageError
from captioning.extras import translation
from captioning.extras.questions import Answer
from captioning.extras.translation import Translator
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
