"""The files of a bundle: opened without following links, read up to a limit, compared with their hashes.

config.json lists every other file with its SHA-256. Nothing here needs Keras.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Container, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from captioning.errors import BundleError
from captioning.inference.protocol import Description
from captioning.runtime import strict_json

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
VOCABULARY = "vocabulary.json"
LONGEST_TEXT = 4 * 2**20  # bytes of config.json and of vocabulary.json; 2,000 words take 0.03 MB
LARGEST_FILE = 64 * 2**20  # bytes of a file that is read whole, such as the scores or the predictions of a split
LICENCES = {  # of weights, by the data that they were learned from
    "flickr8k": "research and education (Flickr8k)",
    "flickr30k": "research and education (Flickr30k)",
    "scenes": "Apache-2.0",
}
LARGEST_BUNDLE = 2 * 2**30  # bytes of all files together


def config_text(config: dict[str, Any]) -> str:
    """The contents of config.json, with a checksum of its own.

    The checksum finds damage to config.json alone. It does not protect from changes on purpose: anyone can renew it.
    """
    config = strict_json.loads(strict_json.dumps(config))
    return strict_json.dumps(config | {"sum": _sum(config)}, indent=2)


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of config.json, refused where it is damaged or of another format."""
    with _explain_errors(folder):
        is_bundle = (folder / CONFIG).is_file()
    if not is_bundle:
        raise BundleError(f"{folder} is not a bundle: it has no {CONFIG}; a training writes one to artifacts/<name>/.")
    try:
        config = strict_json.loads(read_text(folder, CONFIG))
    except ValueError as error:
        raise BundleError(f"{folder}/{CONFIG} is not readable JSON ({error}); copy the bundle again.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else "none"
        raise BundleError(f"{folder} has format {found}, this version reads format {FORMAT}; train it again or update.")
    if config.pop("sum", None) not in (None, _sum(config)):  # the first bundles have no checksum
        raise BundleError(f"{folder}/{CONFIG} is not the file of this training; copy the whole folder again.")
    files = config.get("files")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise BundleError(f"{folder}/{CONFIG} does not describe a captioner (files lists no hashes); copy it again.")
    return config


def describe(folder: Path, *others: Path) -> Description:
    """The name of a bundle, the licence and the size of its weights; of an ensemble those of all its members."""
    folders = [folder, *others]
    config = read_config(folder)
    about = config.get("about")
    data = str(about.get("data")) if isinstance(about, dict) else ""
    size = sum((each / WEIGHTS).stat().st_size for each in folders if (each / WEIGHTS).is_file())
    name = " + ".join(each.resolve().name for each in folders)
    return Description(name, LICENCES.get(data, ""), size, tuple(config.get("languages") or ()))


def _sum(config: dict[str, Any]) -> str:
    return hashlib.sha256(strict_json.dumps(config, sort_keys=True).encode()).hexdigest()


def read_listed(folder: Path, name: str) -> bytes:
    """The contents of a file that config.json lists; empty where it lists no such file.

    A link, a file of more than 64 MB and one that has changed since the training are refused.
    """
    hashes = read_config(folder)["files"]
    if name not in hashes:
        return b""
    data = _read(folder, name, LARGEST_FILE)
    if hashlib.sha256(data).hexdigest() != hashes[name]:
        raise _altered(folder, name)
    return data


def read_text(folder: Path, name: str) -> bytes:
    """The contents of config.json or vocabulary.json."""
    return _read(folder, name, LONGEST_TEXT)


def check_files(
    folder: Path, hashes: dict[str, str], needed: Iterable[str], keep: Container[str] = ()
) -> dict[str, bytes]:
    """Refuses a bundle that lacks a listed or a needed file, or in which one has changed since the training.

    Returns the contents of the files to `keep`, which are those that were compared.
    """
    size, contents = 0, {}
    for name in {**dict.fromkeys(needed, ""), **hashes}:
        with open_own(folder, name) as file:
            size += os.fstat(file.fileno()).st_size
            if size > LARGEST_BUNDLE:
                raise _too_large(folder, LARGEST_BUNDLE)
            if name in keep:
                most = LONGEST_TEXT if name == VOCABULARY else LARGEST_BUNDLE
                contents[name] = file.read(most + 1)
                if len(contents[name]) > most:
                    raise _too_large(folder / name, most)
                digest = hashlib.sha256(contents[name])
            else:
                digest = hashlib.file_digest(file, "sha256")
            if digest.hexdigest() != hashes.get(name):
                raise _altered(folder, name)
    return contents


@contextlib.contextmanager
def open_own(folder: Path, name: str) -> Iterator[BufferedReader]:
    """A regular file of the folder itself, opened without following a link and without waiting for a pipe."""
    with _explain_errors(folder), os.fdopen(_handle(folder, name), "rb") as file:
        yield file


def _handle(folder: Path, name: str) -> int:
    outside = BundleError(f"{folder} names {name}, which is outside the bundle; copy the files themselves into it.")
    missing = BundleError(f"{folder} lacks {name}; copy the whole folder of the training again.")
    if Path(name).name != name:
        raise outside
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # no system has all three
        flags |= getattr(os, flag, 0)
    try:
        handle = os.open(folder / name, flags)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise missing from None
    except OSError as error:
        raise (outside if error.errno == errno.ELOOP else error) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise missing
    return handle


@contextlib.contextmanager
def _explain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(f"{folder} cannot be read ({error.strerror}); check its permissions.") from None


def _read(folder: Path, name: str, most: int) -> bytes:
    with open_own(folder, name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(folder / name, most)
    return data


def _too_large(path: Path, most: int) -> BundleError:
    return BundleError(f"{path} has more than {most // 2**20:,} MB, far more than a training writes; do not use it.")


def _altered(folder: Path, name: str) -> BundleError:
    return BundleError(f"{folder}/{name} is not the file of this training; copy the whole folder again.")
