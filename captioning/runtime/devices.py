"""Data-parallel training: each device computes its part of every batch, and all devices keep the same weights.

Only JAX is supported. There the result is that of one device, since random numbers, batch norms and means are those of
the whole batch. TensorFlow computes batch norms per device. On torch, Keras does not divide batches.
"""

import contextlib
from collections.abc import Iterator

from captioning.errors import CaptioningError


def data_parallel(count: int) -> contextlib.AbstractContextManager[None]:
    """A block in which models are built and trained on `count` devices. With one device it does nothing."""
    if count == 1:
        return contextlib.nullcontext()
    import keras

    backend = keras.backend.backend()
    if backend != "jax":
        raise CaptioningError(
            f"--devices {count} needs JAX, but the backend is {backend}: "
            "pip install '.[jax]' and set KERAS_BACKEND=jax, or leave --devices out."
        )
    found = keras.distribution.list_devices()
    if count > len(found):
        raise CaptioningError(
            f"--devices {count} is too many: JAX finds {len(found)} ({', '.join(found)}); set it to that or less."
        )
    return keras.distribution.DataParallel(devices=found[:count]).scope()


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """A block in which a model's predictions are compiled for undivided batches of any size.

    Otherwise Keras ties them to the weights that are trainable now, and a later phase may train others.
    """
    import keras

    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)
