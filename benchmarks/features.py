"""Images per second from JPEG files to cached grids, against the encoder alone; and a second run from the cache.

python -m benchmarks.features            alternates with the encoder on tensors that are already in memory
"""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.drawn import draw_photographs
from benchmarks.measure import Row, Tables, ratio, run_script, span, take_turns, timed

ENCODERS = {"resnet50": 96, "mobilenetv2": 192, "efficientnetv2b0": 192}  # images per round
ROUNDS = 4


def measure(quick: bool) -> Tables:
    """One table, a row per encoder. Weights are random, which does not change the time."""
    counts, rounds = ({"tiny": 40}, 2) if quick else (ENCODERS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), max(counts.values()))
        rows = [measure_encoder(name, photographs[:count], rounds) for name, count in counts.items()]
    return {"From files to cached grids": rows}


def measure_encoder(name: str, photographs: list[Path], rounds: int) -> Row:
    """The row of one encoder."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.data.images import read_image
    from captioning.encoders.features import BATCH
    from captioning.encoders.registry import build_encoder, image_size_of

    size, encoder = image_size_of(name), build_encoder(name, "none")
    ready = np.stack([read_image(path, size=size) for path in photographs[:BATCH]])
    encoder.predict_on_batch(ready)  # compiles
    count = len(photographs) // BATCH * BATCH
    with tempfile.TemporaryDirectory() as folder:
        fresh, again = readers(photographs[:count], Path(folder), size, encoder)
        bare = lambda: [encoder.predict_on_batch(ready) for _ in range(count // BATCH)]  # noqa: E731
        contenders = {"read": timed(fresh), "bare": timed(bare), "cached": timed(again)}
        seconds = take_turns(contenders, rounds)
    read, bare_seconds = np.median(seconds["read"]), np.median(seconds["bare"])
    row: Row = {"": name, "images": count, "files to cache, images/s": float(count / read)}
    row["encoder alone, images/s"] = float(count / bare_seconds)
    row["share of the encoder's rate"] = ratio(seconds["bare"], seconds["read"])
    row["in all rounds"] = span(seconds["bare"], seconds["read"])
    return row | {"second run, s": float(np.median(seconds["cached"]))}


def readers(photographs: list[Path], folder: Path, size: int, encoder: object) -> tuple[Callable, Callable]:
    """Two functions: one fills a new cache each time, one reads the newest cache again."""
    from captioning.encoders.features import read_features

    images = {path: f"{number:064x}" for number, path in enumerate(photographs)}
    numbers = itertools.count()
    made: list[Path] = []

    def fresh() -> None:
        made.append(folder / str(next(numbers)))
        read_features(images, made[-1], image_size=size, encoder=encoder)

    return fresh, lambda: read_features(images, made[-1], image_size=size, encoder=encoder)


if __name__ == "__main__":
    run_script(__doc__, measure)
