"""Finds the folder of a published model, and downloads it after consent.

A name on the Hugging Face hub may end in @REVISION. Which commit was downloaded is kept, and loaded from then on.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from captioning.errors import BundleError, CaptioningError, DownloadError
from captioning.extras.hf_files import PICKLES, check_folder, remote_code, size_text
from captioning.extras.published import Published
from captioning.runtime.environment import explain_missing_packages

WANTED = ["*.json", "*.jinja", "*.model", "*.safetensors", "*.spm", "*.txt"]  # files that are downloaded
UNWANTED = ["*/*"]  # files in folders: other formats of the same weights

CONVERTER = "SFconvertbot"  # the account of the hub that converts pickles to safetensors, in pull requests

Consent = Callable[[str], bool]  # a sentence with the size -> whether the download may begin


def named_folder(
    name: str, known: Mapping[str, Published], what: str, *, offline: bool, consent: Consent | None = None
) -> Path:
    """The folder of a model by one of the known short names, by its name on the hub, or by its path; see folder_of."""
    if name not in known and "/" not in name and not os.path.isdir(os.path.expanduser(name)):
        names = f"{'one of ' if len(known) > 1 else ''}{', '.join(known)}"
        raise CaptioningError(f"No {what} is called {name}; choose {names}, a folder, or OWNER/MODEL.")
    return folder_of(known[name].address if name in known else name, offline=offline, consent=consent)


def folder_of(name_or_folder: str, *, offline: bool, consent: Consent | None = None) -> Path:
    """The folder of a model, checked; a model of the hub is downloaded first, after consent, unless `offline`."""
    folder = Path(os.path.expanduser(name_or_folder))
    if os.path.isdir(folder):  # which, unlike Path's, takes a name that is too long
        check_folder(folder)
        return folder
    name, _, revision = name_or_folder.partition("@")
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise BundleError(f"There is no folder {name_or_folder}; give a model's folder, or its name as OWNER/MODEL.")
    if kept := cached_folder(name, revision):
        try:
            check_folder(kept)
            return kept
        except BundleError as error:
            if offline or is_offline() or not _is_incomplete(kept):
                raise BundleError(f"{name} is not whole on this computer: {error}") from None
    if offline or is_offline():
        raise DownloadError(
            f"{name} is not on this computer and nothing is downloaded offline; "
            f"fetch it where there is a network with: python -m captioning captioners --download {name_or_folder}"
        )
    folder = _download(name, revision, consent or ask)
    check_folder(folder)
    return folder


def is_offline() -> bool:
    """Whether the environment forbids downloads."""
    given = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in given)


def _require_hub() -> None:
    """Refuses where transformers is missing, which brings the client of the hub."""
    with explain_missing_packages():
        if importlib.util.find_spec("huggingface_hub") is None:
            raise ModuleNotFoundError("the client of the hub comes with transformers", name="transformers")


def cached_folder(name: str, revision: str = "") -> Path | None:
    """The folder of a model of the hub that was downloaded before; None where there is none."""
    _require_hub()
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=WANTED, local_files_only=True
            )
        )
    except HFValidationError:
        raise BundleError(f"{name} cannot be a model's name; OWNER/MODEL was expected.") from None
    except OSError:
        return None


def _is_incomplete(folder: Path) -> bool:
    """Whether a download may repair this folder."""
    return not any(file.suffix in PICKLES for file in folder.iterdir()) and not remote_code(folder)


def _download(name: str, revision: str, consent: Consent) -> Path:
    """Downloads the files of a model at one commit, which is asked for first."""
    import huggingface_hub

    with _explain_network(name, revision):
        commit, wanted = _wanted_files(name, revision)
        if not revision and not _has_weights(wanted) and (other := _converted(name)):
            commit, wanted = _wanted_files(name, other)
        if not _has_weights(wanted):
            raise BundleError(
                f"{name} has no weights in safetensors files, and other formats are not loaded, since they can run "
                "code; choose another model, or another revision of it as OWNER/MODEL@REVISION."
            )
        size = size_text(sum(wanted.values()))
        if not consent(f"{name} ({size}, revision {commit[:8]}) has to be downloaded from huggingface.co."):
            raise DownloadError(f"{name} was not downloaded; the folder of a model that you have can be given instead.")
        folder = huggingface_hub.snapshot_download(
            name, revision=commit, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    _remember(Path(folder), revision or "main", commit)
    return Path(folder)


def _wanted_files(name: str, revision: str) -> tuple[str, dict[str, int]]:
    """The commit of a revision, and the sizes of its files that would be downloaded."""
    import huggingface_hub

    about = huggingface_hub.HfApi().model_info(name, revision=revision or None, files_metadata=True, timeout=20)
    files = {each.rfilename: each.size or 0 for each in about.siblings or () if "/" not in each.rfilename}
    ends = tuple(end[1:] for end in WANTED)
    return str(about.sha), {file: size for file, size in files.items() if file.endswith(ends)}


def _has_weights(files: dict[str, int]) -> bool:
    return any(file.endswith(".safetensors") for file in files)


def _converted(name: str) -> str:
    """The revision in which the hub's own converter proposes safetensors files of a model's pickles; "" for none."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    numbers = []
    with contextlib.suppress(HfHubHTTPError):  # where a model takes no proposals
        found = huggingface_hub.HfApi().get_repo_discussions(name, author=CONVERTER, discussion_type="pull_request")
        numbers = [each.num for each in found if each.author == CONVERTER and each.status != "closed"]
    return f"refs/pr/{max(numbers)}" if numbers else ""


def _remember(folder: Path, revision: str, commit: str) -> None:
    """Notes which commit a revision stands for, so that it is loaded from now on whatever the hub has then."""
    place = folder.parents[1] / "refs" / revision
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(commit, encoding="utf-8")


def ask(question: str) -> bool:
    """Asks on the terminal; where there is none, the error says how to consent beforehand."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise DownloadError(
            f"{question} Nobody can be asked here; download it first with: python -m captioning captioners --download"
        )
    print(f"{question} Download it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def _explain_network(name: str, revision: str) -> Iterator[None]:
    from huggingface_hub import errors, utils

    httpx = getattr(utils, "httpx", None) or importlib.import_module("httpx")  # client 2 of the hub has httpx2

    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(f"{name} is given to people who accepted its terms on huggingface.co alone.") from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{name} has no revision {revision}; name another one, or none.") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"huggingface.co has no model {name}; check the name, or give a folder.") from None
    except (OSError, httpx.HTTPError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DownloadError(
            f"{name} could not be fetched ({reason}); check the network, or give the folder of a model you have."
        ) from None
