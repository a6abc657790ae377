"""Other formats of the graphs: OpenVINO's, converted from ONNX.

Each comes with a runner, so that what was converted is proven as it will be used.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from captioning.decoder.config import ModelConfig
from captioning.errors import MissingExtra
from captioning.inference.engine_onnx import GRAPHS, GraphModel, Runner


def to_openvino(files: Mapping[str, bytes], config: ModelConfig) -> tuple[dict[str, bytes], GraphModel]:
    """The graphs as OpenVINO's .xml and .bin, weights in float32, since batch norms are merged into them."""
    try:
        import openvino
    except ImportError:
        raise MissingExtra("--format openvino needs OpenVINO; install it: pip install openvino.") from None
    core, found, runners = openvino.Core(), {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for name in GRAPHS:
            source = Path(scratch, name)
            source.write_bytes(files[name])
            place = source.with_suffix(".xml")
            openvino.save_model(openvino.convert_model(source), place, compress_to_fp16=False)
            for part in (place, place.with_suffix(".bin")):
                found[part.name] = part.read_bytes()
            exact = {"INFERENCE_PRECISION_HINT": "f32"}
            runners.append(_openvino_runner(core.compile_model(core.read_model(place), "CPU", exact)))
    return found, GraphModel(config, *runners)


def _openvino_runner(compiled: "object") -> Runner:
    def run(outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = compiled(inputs)  # type: ignore[operator]
        return [np.array(results[name]) for name in outputs]

    return run


CONVERT = {"openvino": to_openvino}
