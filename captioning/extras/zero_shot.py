"""Probabilities over a list of labels by CLIP: how well each fits a picture, as the model learnt from image-text pairs.

The labels are encoded once, in a sentence such as "a photo of a dog", and serve for all pictures.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.images import read_image
from captioning.errors import BundleError, CaptioningError
from captioning.extras.hf_files import check_folder
from captioning.extras.hf_hub import Consent, named_folder
from captioning.extras.hf_models import explain_memory, load_model, load_processor
from captioning.extras.published import Published
from captioning.inference.captioner import Image, source_of
from captioning.inference.labels import Label, Labels

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPProcessor

AT_ONCE = 64  # labels that are encoded together
LONGEST = 2048  # pixels of the longer side of a picture: more than the model takes
PROMPT = "a photo of a {}"
PUBLISHED_LABELLERS = {"clip": Published("openai/clip-vit-base-patch32", "", "MIT", 151_277_313)}


class ClipLabeller:
    """Labels pictures with CLIP."""

    unknown: tuple[str, ...] = ()  # it has no vocabulary that a label could be missing from

    def __init__(self, name: str, model: "CLIPModel", processor: "CLIPProcessor") -> None:
        self.name, self._model, self._processor = name, model, processor
        self._size = sum(each.numel() * each.element_size() for each in model.parameters())
        self._lock = threading.Lock()

    def encode(self, labels: Sequence[str], prompt: str = PROMPT) -> np.ndarray:
        """The directions (N, D) of labels, each in the prompt."""
        texts = [prompt.replace("{}", label) for label in labels]
        parts = [self._encode(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE)]
        return np.concatenate(parts)

    def label(self, image: Image, labels: Sequence[str], directions: np.ndarray) -> Labels:
        """The labels of an image with their probabilities among these; see Captioner.caption for images."""
        pixels = read_image(source_of(image), longest=LONGEST)
        inputs = self._processor.image_processor(pixels, return_tensors="pt", input_data_format="channels_last")
        [direction] = self._directions(self._model.get_image_features, inputs)
        logits = np.exp(float(self._model.logit_scale.detach())) * directions @ direction
        if not np.isfinite(logits).all():
            raise CaptioningError("The model produced NaN for this image; its weights may be corrupt, get it again.")
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")
        return Labels(tuple(Label(labels[place], float(shares[place])) for place in order))

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        longest = self._model.config.text_config.max_position_embeddings
        settings = {"padding": True, "truncation": True, "max_length": longest, "return_tensors": "pt"}
        return self._directions(self._model.get_text_features, self._processor.tokenizer(list(texts), **settings))

    def _directions(self, features: Any, inputs: Any) -> np.ndarray:
        import torch

        with self._lock, torch.inference_mode(), explain_memory(self.name, self._size):
            found = features(**inputs.to(self._model.device))
            vectors = getattr(found, "pooler_output", found).float().cpu().numpy()
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def check_prompt(prompt: str) -> str:
    """The sentence that labels are put into; refused where it has no place for one."""
    if prompt.count("{}") != 1 or not prompt.isprintable():
        raise CaptioningError(f'The prompt has no place for a label; write one {{}} in it, as in "{PROMPT}".')
    return prompt


def make_ready(name: str, *, offline: bool, consent: Consent | None = None) -> Path:
    """The folder of a CLIP model, downloaded after consent; refused where it is another kind of model."""
    folder = named_folder(name, PUBLISHED_LABELLERS, "model for labels", offline=offline, consent=consent)
    kind = check_folder(folder)["model_type"]
    if kind != "clip":
        raise BundleError(f"{name} is a model of type {kind}, which compares no labels with pictures; give a CLIP.")
    return folder


def load_clip(name: str, *, offline: bool, consent: Consent | None = None) -> ClipLabeller:
    """The CLIP model of a short name, of a name on the hub, or of a folder."""
    folder = make_ready(name, offline=offline, consent=consent)
    model = load_model("CLIPModel", str(folder), offline=True)
    processor = load_processor("CLIPProcessor", str(folder), offline=True)
    return ClipLabeller(name if name in PUBLISHED_LABELLERS else Path(name).name, model, processor)
