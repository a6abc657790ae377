"""Dynamic quantisation of a graph: matrix products of 8-bit whole numbers, their scales computed at every call."""

import logging
import tempfile
from pathlib import Path

FLOAT = 1  # element type of ONNX


def quantized(graph: bytes) -> bytes:
    """The graph with its matrix products and its table of words in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises on a preprocessing that these graphs do not need
    try:
        with tempfile.TemporaryDirectory() as scratch:
            before, after = Path(scratch, "before.onnx"), Path(scratch, "after.onnx")
            before.write_bytes(graph)
            quantize_dynamic(
                before,
                after,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["MatMul", "Gather"],
                extra_options={"DefaultTensorType": FLOAT},
            )
            return after.read_bytes()
    finally:
        root.setLevel(level)
