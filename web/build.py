"""Builds the static page: python -m web.build writes web/dist, a folder for any static host.

The weights are stored with few bits and computed with as float32. ONNX Runtime widens them once, when it opens a graph.
"""

import argparse
import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.tokenizer import normalise
from captioning.errors import CaptioningError
from captioning.extras.graphs import Graph, encoder_graph, start_graph, step_graph
from captioning.inference.confidence import SURE

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner
    from captioning.inference.familiarity import Familiarity

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ("index.html", "style.css", "app.js", "attention.js", "captioner.js", "pixels.js", "search.js", "icon.svg")
RUNTIME = HERE / "node_modules/onnxruntime-web/dist"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
BITS = {"encoder": 7, "start": 6, "step": 6}  # of a weight
SMALL = 1024  # numbers; fewer are stored as float16
LARGEST = 12_000_000  # bytes of the whole download


class FewBits:
    """Stores a weight as whole numbers of a few bits, with a scale for every row or column, whichever fits better."""

    def __init__(self, bits: int) -> None:
        self._most = 2 ** (bits - 1) - 1

    def __call__(self, graph: Graph, array: np.ndarray, order: Sequence[int]) -> str:
        array = (array.transpose(order) if order else array).astype("float32")
        if array.ndim < 2 or array.size < SMALL:
            return graph.op("Cast", graph.constant(array, "float16"), to=1)
        numbers, scale = min((self._rounded(array, axis) for axis in (0, -1)), key=lambda one: _error(array, *one))
        whole = graph.op("Cast", graph.constant(numbers, "int8"), to=1)
        return graph.op("Mul", whole, graph.op("Cast", graph.constant(scale, "float16"), to=1))

    def _rounded(self, array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        others = tuple(each for each in range(array.ndim) if each != axis % array.ndim)
        scale = (np.abs(array).max(axis=others, keepdims=True) / self._most).astype("float16")
        scale = np.maximum(scale, np.finfo("float16").smallest_subnormal)
        return np.clip(np.rint(array / scale.astype("float32")), -127, 127).astype("int8"), scale


def _error(array: np.ndarray, numbers: np.ndarray, scale: np.ndarray) -> float:
    return float(np.square(array - numbers * scale.astype("float32")).sum())


def graphs(captioner: "Captioner") -> dict[str, bytes]:
    """The ONNX graphs of a captioner: encoder, start and step."""
    written = {
        "encoder": encoder_graph(captioner.encoder, FewBits(BITS["encoder"])),
        "start": start_graph(captioner.model, FewBits(BITS["start"])),
        "step": step_graph(captioner.model, FewBits(BITS["step"])),
    }
    return {name: graph.SerializeToString() for name, graph in written.items()}


def settings(captioner: "Captioner", files: Mapping[str, bytes]) -> dict[str, object]:
    """What captioner.json holds: the large files, the vocabulary, the search options and the calibration."""
    options, tokenizer = captioner.options, captioner.tokenizer
    if options.strategy == "sample" or options.force:
        raise CaptioningError(
            "The page searches with beams or greedily and forces no words, which the options of this bundle ask for; "
            "train or save it without --strategy sample and --force."
        )
    decoding = asdict(options)
    if options.strategy == "greedy":
        decoding |= {"num_beams": 1, "length_penalty": 0.0}
    return {
        "files": [{"name": name, "bytes": len(content)} for name, content in files.items()],
        "image_size": captioner.image_size,
        "words": tokenizer.words,
        "decoding": decoding,
        "forbidden": [tokenizer.id(word) for phrase in options.forbid for word in normalise(phrase)],
        "calibration": captioner.calibration and asdict(captioner.calibration),
        "sure": SURE,
        "familiarity": captioner.familiarity and browser_familiarity(captioner.familiarity),
    }


def browser_familiarity(familiarity: "Familiarity") -> dict[str, object]:
    """The familiarity with its directions as whole numbers of 16 bits, which JavaScript reads."""
    numbers = np.rint(np.clip(familiarity.directions, -1, 1) * 32767).astype("<i2")
    text = base64.b64encode(numbers.tobytes()).decode()
    return {"limit": familiarity.limit, "depth": numbers.shape[1], "directions": text}


def large_files(graph_bytes: Mapping[str, bytes]) -> dict[str, bytes]:
    """The runtime and the graphs, gzipped, by names that change with their content."""
    sources = {WASM: (RUNTIME / WASM).read_bytes()} | {f"{name}.onnx": whole for name, whole in graph_bytes.items()}
    named = {}
    for name, whole in sources.items():
        stem, _, kind = name.rpartition(".")
        named[f"{stem}-{_digest(whole)}.{kind}.gz"] = gzip.compress(whole, 9, mtime=0)
    return named


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def build(captioner: "Captioner", output: Path) -> int:
    """Write the page of a captioner into a folder, which is emptied first; returns the bytes that a visitor loads."""
    install_runtime()
    large = large_files(graphs(captioner))
    page = {name: (HERE / name).read_bytes() for name in PAGE}
    page[SCRIPT] = (RUNTIME / SCRIPT).read_bytes()
    page["captioner.json"] = json.dumps(settings(captioner, large)).encode()
    version = _digest(b"".join(page.values()))
    constants = f"VERSION = 'captioning-{version}', PAGE = {json.dumps(['./', *page])}, LARGE = {json.dumps([*large])}"
    worker = (HERE / "service-worker.js").read_text(encoding="utf-8")
    page["service-worker.js"] = worker.replace("VERSION = '', PAGE = [], LARGE = []", constants).encode()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for name, content in (page | large | {"NOTICE.txt": (ROOT / "NOTICE").read_bytes()}).items():
        (output / name).write_bytes(content)
    return sum(len(gzip.compress(content)) for content in page.values()) + sum(map(len, large.values()))


def install_runtime() -> None:
    """Installs ONNX Runtime Web of package-lock.json, where it is not there yet."""
    if (RUNTIME / WASM).is_file():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise CaptioningError("npm was not found; install Node.js 20 or newer, then build the page again.")
    if subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=False).returncode:
        raise CaptioningError("npm could not install ONNX Runtime Web; go online once, then build the page again.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default=ROOT / "artifacts/flickr8k", help="captioner of the page (%(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "dist", help="folder to write (%(default)s)")
    options = parser.parse_args()
    from captioning.inference import bundle

    try:
        total = build(bundle.load(options.bundle, engine="keras"), options.output)
    except CaptioningError as error:
        sys.exit(str(error))
    print(
        f"{options.output}: a visitor downloads {total / 1e6:.2f} MB. Try it: python -m http.server -d {options.output}"
    )
    if total > LARGEST:
        sys.exit(f"That is more than {LARGEST / 1e6:.0f} MB; store the weights of web/build.py with fewer bits.")


if __name__ == "__main__":
    main()
