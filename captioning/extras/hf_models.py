"""Loads published models with transformers, safely.

A model is a folder, or a name on the Hugging Face hub (see hf_hub.py). Weights are read from safetensors files alone, a
model never runs code of its own, and nothing is fetched while loading: its folder was checked before (see hf_files.py).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from captioning.errors import BundleError, CaptioningError
from captioning.extras.hf_files import size_text, weight_bytes
from captioning.extras.hf_hub import Consent, folder_of
from captioning.runtime.environment import explain_missing_packages

QUIET = {  # defaults of environment variables, set before transformers is imported
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
CLOSED = {"local_files_only": True, "trust_remote_code": False}  # arguments of every from_pretrained
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in a RuntimeError of torch


def import_transformers() -> ModuleType:
    """Imports torch and transformers; where one is missing, the error names the command that installs them."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with explain_missing_packages():
        import torch  # noqa: F401
        import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def load_model(
    task_class_name: str,
    name_or_folder: str,
    *,
    offline: bool,
    consent: Consent | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """A model of this class of transformers, ready for inference; in half precision on a GPU.

    `settings` are further arguments of from_pretrained, such as attn_implementation.
    """
    transformers = import_transformers()
    import torch

    folder = folder_of(name_or_folder, offline=offline, consent=consent)
    device = device_name()
    precision = torch.float16 if device == "cuda" else torch.float32
    size = weight_bytes(folder)
    require_memory(name_or_folder, size, device)
    with explain_memory(name_or_folder, size), explain_loading(name_or_folder):
        model = getattr(transformers, task_class_name).from_pretrained(
            folder, dtype=precision, use_safetensors=True, **CLOSED, **(settings or {})
        )
        return model.to(device).eval()


def load_processor(class_name: str, name_or_folder: str, *, offline: bool, consent: Consent | None = None) -> Any:
    """A processor, an image processor or a tokenizer of this class of transformers."""
    transformers = import_transformers()
    folder = folder_of(name_or_folder, offline=offline, consent=consent)
    with explain_loading(name_or_folder):
        return getattr(transformers, class_name).from_pretrained(folder, **CLOSED)


def device_name() -> str:
    """Where models of torch run: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def free_memory() -> int | None:
    """Bytes of memory that are available; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def require_memory(name: str, size: int, device: str) -> None:
    """Refuses a model whose weights are larger than the memory, before the system ends the program for it."""
    free = free_memory()
    if device == "cpu" and free is not None and size > free:
        raise CaptioningError(
            f"{name} does not fit into memory: its weights have {size_text(size)}, {size_text(free)} are available; "
            "choose a smaller model."
        )


@contextlib.contextmanager
def explain_memory(name: str, size: int) -> Iterator[None]:
    """Turns a lack of memory into one sentence; `size` is that of the model's weights in bytes."""
    import torch

    lacks = CaptioningError(
        f"There is not enough memory for {name}, whose weights have {size_text(size)}; choose a smaller model."
    )
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise lacks from None
    except RuntimeError as error:
        if any(sign in str(error) for sign in NO_MEMORY):
            raise lacks from None
        raise


@contextlib.contextmanager
def explain_loading(name: str) -> Iterator[None]:
    """Turns what transformers raises for files that do not fit together into one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, CaptioningError):
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        raise BundleError(
            f"{name} cannot be loaded ({type(error).__name__}: {reason}); choose another model."
        ) from None
