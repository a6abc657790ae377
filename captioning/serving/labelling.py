"""Labels of a picture on the page: by a bundle of the pool, or by its CLIP model."""

import threading
from pathlib import Path

from captioning.errors import CaptioningError
from captioning.extras import zero_shot
from captioning.inference.labels import LONGEST_LABEL, Labeller, Labels, check_labels, read_scale
from captioning.serving.pool import CaptionerPool

MOST = 1_000  # labels at once
LONGEST_TEXT = MOST * (LONGEST_LABEL + 1)


class LabelService:
    """What labels pictures: each bundle that was calibrated for it, and CLIP where a model of it was named."""

    def __init__(self, pool: CaptionerPool, clip: str = "") -> None:
        self._pool, self._clip_name, self._lock = pool, clip, threading.Lock()
        self._clip: zero_shot.ClipLabeller | None = None

    @property
    def models(self) -> dict[str, str]:
        """What can be chosen: names, and what they are called on the page."""
        bundles = {name: label for name, label in self._pool.labels.items() if _is_scaled(self._pool, name)}
        return bundles | ({self._clip_name: f"CLIP: {Path(self._clip_name).name}"} if self._clip_name else {})

    def label(self, image: str, text: str, model: str) -> Labels:
        """The labels of a picture's file, among those of a text with one a line."""
        if not image:
            raise CaptioningError("No picture was chosen; choose one.")
        labels = check_labels(text.splitlines(), "The list", MOST)
        if model == self._clip_name and model:
            with self._lock:
                clip = self._clip = self._clip or zero_shot.load_clip(model, offline=True)
            return clip.label(image, labels, clip.encode(labels))
        with self._pool.captioner(model) as captioner:
            return Labeller(captioner, read_scale(self._pool.folder(model)), labels)(image)


def _is_scaled(pool: CaptionerPool, name: str) -> bool:
    """Whether a bundle was calibrated for labels; published captioners are not."""
    try:
        return not pool.is_published(name) and read_scale(pool.folder(name)) is not None
    except CaptioningError:
        return False
