"""What segmentation finds in a picture: a label, a score and a mask for each object or region."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

OWN = "segmenter.json"  # the file that a folder of our own trained segmenter has


@dataclass(frozen=True)
class Segment:
    """One object or region. `mask` is (H, W) of bool, at the size of the picture; `score` is from 0 to 1."""

    label: str
    score: float
    mask: "np.ndarray"

    @property
    def area(self) -> int:
        """Its pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels, as COCO has them."""
        rows, columns = self.mask.nonzero()
        if not len(rows):
            return 0, 0, 0, 0
        left, top = int(columns.min()), int(rows.min())
        return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top


class Segmenter(Protocol):
    """Finds segments in pictures."""

    name: str

    def segments(self, image: "np.ndarray", *, threshold: float = 0.5) -> list[Segment]:
        """The segments of an RGB picture (H, W, 3) of uint8 with at least this score, the best first."""
        ...


def is_own(folder: Path) -> bool:
    """Whether a folder holds a segmenter that `captioning segment-train` has written."""
    return (folder / OWN).is_file()
