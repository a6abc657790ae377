"""The array operations of the search: those of Keras, or within `on_numpy()` the same ones on NumPy arrays."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

_ON_NUMPY: ContextVar[bool] = ContextVar("on_numpy", default=False)  # of a thread


class _Operations:
    def __getattr__(self, name: str) -> Callable[..., Any]:
        if _ON_NUMPY.get():
            return NUMPY.get(name) or getattr(np, name)
        from keras import ops

        return getattr(ops, name)


ops: Any = _Operations()


@contextlib.contextmanager
def on_numpy() -> Iterator[None]:
    """A block in which this thread's `ops` compute on NumPy arrays."""
    token = _ON_NUMPY.set(True)
    try:
        yield
    finally:
        _ON_NUMPY.reset(token)


def _top_k(array: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest values and their places; of equal values the first, as in Keras."""
    left = array.copy()
    places = np.empty((*array.shape[:-1], count), "int32")
    for rank in range(count):
        places[..., rank] = best = left.argmax(axis=-1)
        np.put_along_axis(left, best[..., None], -np.inf, axis=-1)
    return np.take_along_axis(array, places, axis=-1), places


def _softmax(array: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(array - array.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def _logsumexp(array: np.ndarray, axis: int = -1) -> np.ndarray:
    largest = array.max(axis=axis, keepdims=True)
    return np.log(np.exp(array - largest).sum(axis=axis)) + largest.squeeze(axis)


def _scatter_update(array: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[places[:, 0]] = values
    return changed


def _while_loop(condition: Callable[..., Any], body: Callable[..., Any], values: Sequence[Any]) -> Sequence[Any]:
    while condition(*values):
        values = body(*values)
    return values


NUMPY: dict[str, Callable[..., Any]] = {  # where NumPy's own name or result differs
    "arange": lambda count, dtype="int32": np.arange(count, dtype=dtype),
    "cast": lambda array, dtype: np.asarray(array).astype(dtype, copy=False),
    "convert_to_tensor": np.asarray,
    "logsumexp": _logsumexp,
    "scatter_update": _scatter_update,
    "softmax": _softmax,
    "top_k": _top_k,
    "while_loop": _while_loop,
}
