"""The devices that share one training: each learns from its part of every batch, and all keep the same weights.

Knows nothing of models. On JAX it is the training that one device would do: chance, norms and means are those of the
whole batch. On TensorFlow batch norms would see only their part of it, and on torch Keras does not divide batches.
"""

import contextlib
from collections.abc import Iterator

from captioning.errors import CaptioningError


def data_parallel(count: int) -> contextlib.AbstractContextManager[None]:
    """The block in which models are built and trained on so many devices; with one, all is as outside of it."""
    if count == 1:
        return contextlib.nullcontext()
    import keras

    backend = keras.backend.backend()
    if backend != "jax":
        raise CaptioningError(
            f"--devices {count} needs JAX, and this is {backend}: "
            "pip install '.[jax]' and set KERAS_BACKEND=jax, or leave --devices out."
        )
    found = keras.distribution.list_devices()
    if count > len(found):
        raise CaptioningError(
            f"--devices {count} cannot be used: JAX finds {len(found)} here ({', '.join(found)}); ask for no more."
        )
    return keras.distribution.DataParallel(devices=found[:count]).scope()


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """The block in which a model's predictions are compiled for batches of any size, seen whole by every device.

    Keras would else hold them to the weights that are trainable now, and a later phase may train others.
    """
    import keras

    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)
