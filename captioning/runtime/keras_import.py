"""Imports Keras without TensorFlow's start-up and compilation messages, which no setting of TensorFlow silences.

Memory of one training step is reused by the next.
"""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator

from captioning.runtime.environment import explain_missing_packages


def import_keras() -> None:
    """Imports Keras with standard error suppressed."""
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # else every step allocates its memory again
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "keras" in sys.modules:
        return
    gc.disable()  # none of a million new objects is garbage: collecting takes a sixth of the time
    atexit.register(gc.freeze)  # collecting at exit would take a second
    try:
        with explain_missing_packages(), suppress_stderr():
            import keras  # noqa: F401
    finally:
        gc.enable()


def import_keras_alone() -> None:
    """Imports Keras without pandas and pyplot, which saves a second.

    Other threads cannot import those two meanwhile, so call it before threads start.
    """
    spared = {"pandas", "matplotlib.pyplot"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]
    try:
        import_keras()
    finally:
        for name in spared:
            del sys.modules[name]


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Sends standard error to /dev/null, also for libraries that bypass sys.stderr. Exceptions are still raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
