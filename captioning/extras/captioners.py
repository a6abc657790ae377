"""Every captioner that can be named: our bundles, published models, and cascades of them, separated by commas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import captioning
from captioning.errors import CaptioningError
from captioning.extras.hf_files import size_text, weight_bytes
from captioning.extras.hf_hub import Consent, cached_folder
from captioning.extras.published import PUBLISHED
from captioning.inference.bundle_files import describe
from captioning.inference.cascade import Cascade
from captioning.inference.protocol import AnyCaptioner
from captioning.runtime import strict_json

ARTIFACTS = Path("artifacts")


@dataclass(frozen=True)
class Listed:
    """A captioner that can be named; `is_here` tells whether it needs no download."""

    name: str
    licence: str
    size: int
    languages: tuple[str, ...]
    is_here: bool
    source: str  # where it is, or is downloaded from


def open_captioner(
    names: str,
    *,
    load: Callable[[Path], AnyCaptioner] = captioning.load,
    offline: bool = False,
    consent: Consent | None = None,
) -> AnyCaptioner:
    """The captioner of a name or a folder; of several with commas between them a cascade. `load` opens our bundles."""
    parts = [part.strip() for part in names.split(",")]
    if not all(parts):
        raise CaptioningError(f"--captioner {names} cannot be used: names with commas between them were expected.")
    found = [_open(part, load, offline, consent) for part in parts]
    return found[0] if len(found) == 1 else Cascade(found)


def _open(name: str, load: Callable[[Path], AnyCaptioner], offline: bool, consent: Consent | None) -> AnyCaptioner:
    if folder := bundle_folder(name):
        return load(folder)
    from captioning.extras.hf_captioners import load_published

    if is_model(ARTIFACTS / name):
        return load_published(str(ARTIFACTS / name), offline=True)
    if name not in PUBLISHED and "/" not in name and not Path(name).is_dir():
        known = ", ".join(each.name for each in list_captioners())
        raise CaptioningError(f"No captioner is called {name}; choose one of {known}, a folder, or OWNER/MODEL.")
    return load_published(name, offline=offline, consent=consent)


def make_ready(names: str, *, offline: bool) -> None:
    """Downloads what is missing of these captioners, after consent; refuses what could not be opened."""
    for name in (part.strip() for part in names.split(",")):
        if not bundle_folder(name):
            from captioning.extras.hf_hub import folder_of

            folder_of(PUBLISHED[name].address if name in PUBLISHED else name, offline=offline)


def short_name(names: str) -> str:
    """The name that a captioner, or each one of a cascade, is shown with: that of its folder or its model."""
    return ",".join(part.strip().rstrip("/").rpartition("/")[2] for part in names.split(","))


def sentence_of(names: str) -> str:
    """What is said of published captioners where one is chosen."""
    parts = short_name(names).split(",")
    if len(parts) > 1:
        return f"{parts[0]} answers where it is sure, else {' and then '.join(parts[1:])}."
    known = PUBLISHED.get(parts[0])
    facts = f" of {size_text(known.size)}, licence {known.licence}" if known else ""
    return f"A published model{facts}. Its confidence is not calibrated."


def bundle_folder(name: str) -> Path | None:
    """The folder of our bundle that a name or a path means; None where it means none."""
    for folder in (Path(name).expanduser(), ARTIFACTS / name):
        if is_bundle(folder):
            return folder
    return captioning.in_the_box() if name == captioning.IN_THE_BOX else None


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle of ours, not a model of transformers."""
    return (folder / "config.json").is_file() and not is_model(folder)


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model of transformers."""
    try:
        config = strict_json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config


def list_captioners(artifacts: Path = ARTIFACTS) -> list[Listed]:
    """All captioners with a name: our bundles first, then the published ones."""
    folders = sorted(path.parent for path in artifacts.glob("[!.]*/config.json") if is_bundle(path.parent))
    if not any(folder.name == captioning.IN_THE_BOX for folder in folders):
        folders.insert(0, captioning.in_the_box())
    ours = [(folder, describe(folder)) for folder in folders]
    found = [Listed(about.name, about.licence, about.size, about.languages, True, str(at)) for at, about in ours]
    for folder in sorted(path.parent for path in artifacts.glob("[!.]*/config.json") if is_model(path.parent)):
        found.append(Listed(folder.name, "", weight_bytes(folder), (), True, str(folder)))
    for name, each in PUBLISHED.items():
        is_here = _is_cached(each.source, each.revision)
        found.append(Listed(name, each.licence, each.size, each.languages, is_here, each.source))
    return found


def _is_cached(source: str, revision: str) -> bool:
    import importlib.util

    return importlib.util.find_spec("huggingface_hub") is not None and cached_folder(source, revision) is not None


def table(listed: Sequence[Listed]) -> str:
    """The list as text, a line for each."""
    rows: list[Sequence[Any]] = [("name", "size", "languages", "here", "licence", "from")]
    for each in listed:
        languages = " ".join(each.languages) or "not stated"
        here = "yes" if each.is_here else "no"
        rows.append((each.name, size_text(each.size), languages, here, each.licence or "not stated", each.source))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
