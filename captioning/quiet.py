"""Keeps TensorFlow's start-up lines from the terminal; no setting of its own does."""

import os
import sys


def import_keras() -> None:
    """Imports Keras with standard error closed; what fails is still raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
