"""Explains what to do when a package is not installed: one of all, or one of an optional part."""

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from captioning.errors import MissingExtra

BASE = {"PIL", "nltk", "numpy", "onnxruntime", "tqdm"}  # names of modules
SERVER = {"fastapi", "matplotlib", "multipart", "starlette", "uvicorn"}
EXTRAS = {  # what an optional part needs, by the name of its extra
    "plots": ("matplotlib", {"matplotlib"}),
    "app": ("Gradio", SERVER | {"gradio", "httpx", "pandas"}),
    "serve": ("FastAPI and Uvicorn", SERVER | {"anyio", "jwt", "prometheus_client", "pydantic"}),
    "train": ("TensorFlow and Keras", {"h5py", "keras", "matplotlib", "onnx", "tensorflow"}),
    "hf": ("PyTorch and transformers", {"sacremoses", "scipy", "sentencepiece", "torch", "transformers"}),
    "lora": ("peft", {"peft"}),
    "speech": ("eSpeak NG", {"espeakng_loader"}),
}
_COMMAND = ContextVar("command", default="")  # of the command line
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def explain_missing_packages(command: str = "") -> Iterator[None]:
    """Turns the failed import of a package of ours into one sentence. Any other failed import is raised unchanged.

    A block within another one takes its `command`.
    """
    token = _COMMAND.set(command or _COMMAND.get())
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        needed_by = [extra for extra, (_, modules) in EXTRAS.items() if name in modules]
        extra = next((extra for extra in needed_by if extra == _COMMAND.get()), (needed_by or [""])[0])
        if name not in BASE and not extra:
            raise
        who = f"captioning {_COMMAND.get()}".strip()
        reason = f"{who} needs {EXTRAS[extra][0]}" if extra else f"{name} is not installed for {sys.executable}"
        raise MissingExtra(f"{reason}; {_remedy(ROOT, extra)}") from None
    finally:
        _COMMAND.reset(token)


def _remedy(root: Path, extra: str) -> str:
    venv, folder = root / ".venv", "" if root == Path.cwd() else f"{root}/"
    activate = f"source {folder}.venv/bin/activate"
    if (venv / "bin" / "activate").exists() and Path(sys.prefix) != venv:
        return f"activate the environment that has it: {activate}"
    is_checkout, install = (root / "requirements.txt").exists(), f"{sys.executable} -m pip install"
    if extra:
        return f"install that part: {install} '{(folder or '.') if is_checkout else 'captioning'}[{extra}]'"
    if is_checkout:
        return f"install the requirements: {install} -r {folder}requirements.txt"
    return f"install captioning again: {install} captioning"
