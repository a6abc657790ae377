"""One picture captioned by several captioners, one after the other, with the time and the memory of each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption
from captioning.serving.pool import CaptionerPool

MOST = 4  # captioners side by side


@dataclass(frozen=True)
class Seen:
    """What one captioner says of a picture, or the problem with it.

    `seconds` are those of captioning, without loading. `memory` is what loading the captioner took, in bytes; None
    where it is not known.
    """

    name: str
    caption: Caption | None = None
    seconds: float = 0.0
    memory: int | None = None
    problem: str = ""


def side_by_side(pool: CaptionerPool, names: Sequence[str], path: str | None) -> Iterator[Seen]:
    """The answer of each captioner, as soon as it is there."""
    if not path:
        raise CaptioningError("There is no picture yet; choose one.")
    if not 1 <= len(names) <= MOST:
        raise CaptioningError(f"{len(names)} captioners are chosen; choose one to {MOST}.")
    picture = read_image(path, longest=2048)  # refuses what is no picture before any captioner is opened
    for name in names:
        try:
            with pool.captioner(name) as captioner:
                begun = time.perf_counter()
                caption = captioner.caption(picture)
                seconds = time.perf_counter() - begun
            yield Seen(name, caption, seconds, pool.memory(name))
        except ImageError:
            raise
        except CaptioningError as error:
            yield Seen(name, problem=str(error))
