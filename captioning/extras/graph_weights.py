"""Where the weights of a graph lie: in the bundle's own weights file, or in the graph itself.

A graph of a bundle holds no copy of the weights: each is a place in model.weights.h5, where it lies as plain float16
numbers, followed by a cast to float32, which ONNX Runtime computes once when it loads the graph.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.errors import CaptioningError
from captioning.inference.weights_file import to_float16

if TYPE_CHECKING:
    from captioning.extras.graphs import Graph

SMALL = 64  # numbers; fewer are written into the graph
MANY = 4096  # numbers; fewer are not worth 8 bits
FLOAT, FLOAT16 = 1, 10  # element types of ONNX


class InFile:
    """Refers to the weights of a bundle's files, each found by its values."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._name = path.name
        self._places: dict[tuple[tuple[int, ...], bytes], tuple[str, int]] = {}  # file, offset
        with h5py.File(path) as file:
            file.visititems(self._note)

    def _note(self, name: str, entry: Any) -> None:
        place = entry.id.get_offset() if hasattr(entry, "dtype") else None  # none for zeros, which are not stored
        if place is not None and entry.dtype == np.float16:
            self._places.setdefault((entry.shape, entry[()].tobytes()), (self._name, place))

    def add(self, name: str, arrays: "Iterable[np.ndarray]") -> "InFile":
        """Refers to these too, which lie in half precision one after the other in a file of that name."""
        offset = 0
        for array in arrays:
            half = to_float16(array)
            self._places.setdefault((half.shape, half.tobytes()), (name, offset))
            offset += half.nbytes
        return self

    def __call__(self, graph: "Graph", array: np.ndarray, order: Sequence[int]) -> str:
        from onnx import TensorProto

        if array.size < SMALL or not array.any():
            return graph.constant(_turned(array, order))
        half = to_float16(array)
        file, place = self._places.get((half.shape, half.tobytes()), ("", 0))
        if not file:
            raise CaptioningError(
                f"A weight of shape {array.shape} is not in {self._name}, so the graph cannot refer to it; "
                "save the bundle again with this version."
            )
        tensor = TensorProto(name=graph.name("weight"), data_type=FLOAT16, dims=half.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", place), ("length", half.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        graph.tensors.append(tensor)
        cast = graph.op("Cast", tensor.name, to=FLOAT)
        return graph.op("Transpose", cast, perm=order) if order else cast


def inside(graph: "Graph", array: np.ndarray, order: Sequence[int]) -> str:
    """Writes a weight into the graph as float32."""
    return graph.constant(_turned(array, order))


def inside_as_bytes(graph: "Graph", array: np.ndarray, order: Sequence[int]) -> str:
    """Writes a kernel as int8 numbers with a scale for each output, which are its first or last axis; others as half.

    ONNX Runtime multiplies them once, when it loads the graph, so that everything is computed in float32.
    """
    if array.ndim < 2 or array.size < MANY:
        return inside_as_half(graph, array, order)
    turned = _turned(array, order)
    outputs = 0 if order else turned.ndim - 1
    others = tuple(axis for axis in range(turned.ndim) if axis != outputs)
    scale = np.maximum(np.abs(turned).max(axis=others, keepdims=True), 1e-12) / 127
    whole = graph.op("Cast", graph.constant(np.rint(turned / scale), "int8"), to=FLOAT)
    return graph.op("Mul", whole, graph.constant(scale))


def inside_as_half(graph: "Graph", array: np.ndarray, order: Sequence[int]) -> str:
    """Writes a weight into the graph as float16, followed by a cast to float32."""
    half = to_float16(_turned(array, order))
    return graph.op("Cast", graph.constant(half, "float16"), to=FLOAT)


def _turned(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    return array.transpose(order) if order else array
