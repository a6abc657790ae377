"""Explains what to do when a required package is not installed."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from captioning.errors import CaptioningError

REQUIRED = {  # names of modules
    *("PIL", "fastapi", "gradio", "h5py", "httpx", "keras", "matplotlib", "multipart", "nltk", "numpy", "pandas"),
    *("starlette", "tensorflow", "tqdm", "uvicorn"),
}
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def explain_missing_packages() -> Iterator[None]:
    """Turns the failed import of a required package into one sentence. Any other failed import is raised unchanged."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in REQUIRED:
            raise
        raise CaptioningError(f"{name} is not installed for {sys.executable}; {_remedy(ROOT)}") from None


def _remedy(root: Path) -> str:
    venv, folder = root / ".venv", "" if root == Path.cwd() else f"{root}/"
    activate = f"source {folder}.venv/bin/activate"
    if (venv / "bin" / "activate").exists() and Path(sys.prefix) != venv:
        return f"activate the environment that has it: {activate}"
    if (root / "requirements.txt").exists():
        return f"install the requirements: {sys.executable} -m pip install -r {folder}requirements.txt"
    return f"install captioning again: {sys.executable} -m pip install captioning"
