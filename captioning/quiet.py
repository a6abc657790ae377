"""Keeps TensorFlow's start-up lines from the terminal, and its news of what it compiles; no setting of its own does."""

import logging
import os
import sys


def import_keras() -> None:
    """Imports Keras with standard error closed; what fails is still raised."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
