"""Imports Keras as a program wants it: without TensorFlow's start-up lines and news of what it compiles, which no
setting of its own silences, and with the memory of one training step kept for the next."""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator


def import_keras() -> None:
    """Imports Keras with standard error closed."""
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # else every step begs the system for its memory anew
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "keras" in sys.modules:
        return
    gc.disable()  # nothing of a million new objects is garbage: looking through them takes a sixth of the time
    atexit.register(gc.freeze)  # nor at the end, when it would take a second
    try:
        with hushed():
            import keras  # noqa: F401
    finally:
        gc.enable()


def import_keras_alone() -> None:
    """Imports Keras without the tables and plots that it loads for abilities of its own, which takes a second.

    For a program that wants its answer soon and has no other threads yet: these imports fail meanwhile.
    """
    spared = {"pandas", "matplotlib.pyplot"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]
    try:
        import_keras()
    finally:
        for name in spared:
            del sys.modules[name]


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Closes standard error to libraries that write past Python; what fails is still raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
