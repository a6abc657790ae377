"""Peak memory of training and of captioning a folder, for 1,000 to 64,000 images, by vocabulary and caption length.

python -m benchmarks.memory              each size in its own process; also draws benchmarks/memory.png

Anonymous memory belongs to the process alone. The peak VmHWM also counts memory-mapped files, which the system can drop
when memory is short.
"""

import os
import re
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import steps
from benchmarks.drawn import draw_photographs
from benchmarks.measure import MB, ROOT, Contender, Row, Tables, Worker, run_script
from captioning.errors import CaptioningError

IMAGES = 1_000, 8_000, 64_000
WORDS, LENGTHS = (20_000,), (40,)
STEPS = 8  # training steps; a whole epoch needs no more memory
STATUS = Path("/proc/self/status")
INTERVAL = 0.02  # seconds between two samples of the memory


def status_of(name: str) -> float:
    """A size from this process's status in MB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1]) * 1024 / MB


class Peak:
    """The peak anonymous memory of this process during a block, sampled by a thread."""

    def __enter__(self) -> "Peak":
        self.anonymous, self.done = 0.0, threading.Event()
        self.watch = threading.Thread(target=self._sample, daemon=True)
        self.watch.start()
        return self

    def _sample(self) -> None:
        while True:
            self.anonymous = max(self.anonymous, status_of("RssAnon"))
            if self.done.wait(INTERVAL):
                return

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.watch.join()


def prepare(task: dict[str, Any]) -> tuple[dict[str, Any], Contender]:
    """Trains or captions. Facts: the peaks and the seconds per caption."""
    act = train if task["kind"] == "training" else caption
    with Peak() as peak:
        seconds = act(task)
    return {"seconds": seconds, "anonymous": peak.anonymous, "whole": status_of("VmHWM")}, lambda: 0.0


def make_cache(folder: Path, images: int, size: steps.Size) -> dict[Path, str]:
    """A feature cache of `images` images, as `read_features` writes it. The file is sparse and needs no disk space."""
    names = {Path(f"{number:08d}.jpg"): f"{number:064x}" for number in range(images)}
    folder.mkdir()
    with open(folder / "rows.bin", "wb") as rows:
        rows.truncate(images * size.regions * size.depth * 2)
    (folder / "index.txt").write_text("".join(f"{digest}\n" for digest in names.values()))
    return names


def train(task: dict[str, Any]) -> float:
    """A few training steps on a cache of `images` images, and a checkpoint. Returns the seconds per caption."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.encoders.features import Features, Rows
    from captioning.training.batches import Batches, epoch_order, examples_of
    from captioning.training.checkpoint import Progress, save_checkpoint

    size = steps.Size(**task["size"])
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "grids")
        images = make_cache(cache, task["images"], size)
        rows = Rows(cache, (size.regions, size.depth), "float16")
        features = Features(rows.open(), {image: rows.index[digest] for image, digest in images.items()})
        ids = steps.draw_examples(size).tokens
        split = {image: [f"{number} {row}" for row in range(size.captions)] for number, image in enumerate(images)}
        encode = lambda captions: ids[int(captions[0].split()[0]) % len(ids)].copy()  # noqa: E731
        examples = examples_of(features, split, encode)
        model = CaptionModel(steps.config_of(size))
        model.build()
        steps.compile_as_ours(model, examples, size)
        options = {"batch_size": size.images, "captions_per_image": size.captions}
        batches = Batches(examples, order=epoch_order(0, 0), **options)
        ends: list[float] = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        model.fit(batches, steps_per_epoch=min(STEPS, len(batches)), shuffle=False, verbose=0, callbacks=[clock])
        values = [keras.ops.convert_to_numpy(each) for each in (*model.variables, *model.optimizer.variables)]
        best = Progress(best_weights=model.get_weights())
        save_checkpoint(Path(folder, "checkpoint.npz"), {}, best, values)
    return float(np.median(np.diff(ends))) / (size.images * size.captions)


def caption(task: dict[str, Any]) -> float:
    """`captioning caption` on a folder of `images` links to a few images. Returns the seconds per caption."""
    from captioning.cli import main

    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_photographs(Path(folder, "drawn"), 8, size=(160, 120))
        photographs = Path(folder, "photographs")
        photographs.mkdir()
        for number in range(task["images"]):
            os.link(drawn[number % len(drawn)], photographs / f"{number:08d}.jpg")
        main(["caption", str(drawn[0]), "--output", f"{folder}/first.csv"])  # imports
        started = time.perf_counter()
        output = f"{folder}/captions.csv"
        bundle = str(ROOT / "artifacts" / "flickr8k")
        assert main(["caption", str(photographs), "--output", output, "--bundle", bundle, "--strategy", "greedy"]) == 0
        return (time.perf_counter() - started) / task["images"]


def measure(quick: bool) -> Tables:
    """One table of all sizes."""
    if not STATUS.is_file():
        raise CaptioningError(f"{STATUS} does not exist: memory can only be measured on Linux; run this script there.")
    sizes, size = ((64, 128), steps.QUICK) if quick else (IMAGES, steps.Size())
    tasks: list[dict[str, Any]] = [{"kind": "captioning", "images": images} for images in sizes]
    tasks += [{"kind": "training", "images": images, "size": asdict(size)} for images in sizes]
    if not quick:
        others = [replace(size, words=words) for words in WORDS] + [replace(size, steps=length) for length in LENGTHS]
        tasks += [{"kind": "training", "images": sizes[0], "size": asdict(other)} for other in others]
    return {"Peak memory": [row_of(task) for task in tasks]}


def row_of(task: dict[str, Any]) -> Row:
    """Measures one size and returns its row."""
    worker = Worker("memory", task)
    worker.close()
    size = steps.Size(**task["size"]) if "size" in task else None
    row: Row = {"": task["kind"], "images": task["images"]}
    row |= {"vocabulary": size.words if size else "", "caption length": size.steps if size else ""}
    row |= {"anonymous, MB": worker.facts["anonymous"], "with mapped files, MB": worker.facts["whole"]}
    return row | {"ms a caption": 1000 * worker.facts["seconds"]}


def plot(tables: Tables, path: Path) -> None:
    """Draws peak anonymous memory over the number of images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="images", ylabel="peak anonymous memory, MB")
    (rows,) = tables.values()
    for kind in ("training", "captioning"):
        first = next(row for row in rows if row[""] == kind)
        alike = [row for row in rows if row[""] == kind and row["vocabulary"] == first["vocabulary"]]
        alike = [row for row in alike if row["caption length"] == first["caption length"]]
        axes.plot([row["images"] for row in alike], [row["anonymous, MB"] for row in alike], "o-", label=kind)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare, draw=plot)
