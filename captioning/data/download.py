"""Fetch, resume, verify, unpack, with progress; Flickr8k and GloVe.

A file or folder bears its name only once it is whole: until then it is `name.part` or `name.unpacking`.
Knows nothing of captions or vectors.
"""

import errno
import hashlib
import http.client
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from captioning.errors import DownloadError, StorageError
from captioning.runtime.files import one_at_a_time, require_space

TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1_000  # bytes a second, on average of each minute
MINUTE = 60.0
LARGEST = 4 * 1024**3  # bytes of a file whose size neither we nor the server tell
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new attempt that got no further
CHUNK = 1 << 16
LARGEST_UNPACKED = 4 * 1024**3  # bytes
LARGEST_RATIO = 100  # unpacked bytes to packed ones

_PASSING = {408, 425, 429, 500, 502, 503, 504}
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}

Archive = tuple[str, str, int]  # URL, checksum as in `fetch`, size in bytes or 0

# Checksum and size as torchtext (GloVe) and torchvision for R (Flickr8k) publish them
_FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
FLICKR8K_TEXTS = (f"{_FLICKR8K}/Flickr8k_text.zip", "md5:bf6c1abcb8e4a833b7f922104de18627", 0)
FLICKR8K_IMAGES = (f"{_FLICKR8K}/Flickr8k_Dataset.zip", "md5:f18a1e2920de5bd84dae7cf08ec78978", 0)
FLICKR8K_FILES = [f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")] + ["Flickr8k.token.txt"]
GLOVE = (
    "https://nlp.stanford.edu/data/glove.6B.zip",
    "sha256:617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
    862182613,
)


def fetch_flickr8k(folder: Path) -> Path:
    """Fetch Flickr8k (1 GB) into `Images/`, `Flickr8k.token.txt` and the three split lists, unless they are there.

    Both archives are checked against their published MD5, and every unpacked file against its CRC.
    """
    with advise("both Flickr8k_text.zip and Flickr8k_Dataset.zip belong there"), _disk_faults(folder):
        if not (folder / FLICKR8K_FILES[-1]).exists():
            archive = fetch_archive(FLICKR8K_TEXTS, folder)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                texts = unpack(archive, Path(scratch, "texts"), members={name: name for name in FLICKR8K_FILES}.get)
                for name in FLICKR8K_FILES:  # the captions last: where they are, all are
                    os.replace(texts / name, folder / name)
        if not any((folder / name).is_dir() for name in ("Images", "Flicker8k_Dataset")):
            unpack(fetch_archive(FLICKR8K_IMAGES, folder), folder / "Images", members=picture_name)
    return folder


def fetch_glove(folder: Path) -> Path:
    """Fetch glove.6B.zip (822 MB), unless it is there; its published size and SHA-256 are checked."""
    with advise("vectors can be fitted on the captions instead"):
        return fetch_archive(GLOVE, folder)


def fetch(url: str, target: Path, *, checksum: str = "", size: int = 0) -> Path:
    """Fetch a file whole or not at all, going on where an earlier attempt was cut.

    A file that is there already is only checked. `checksum` reads "md5:..." or "sha256:...", `size` is in bytes;
    without them, the length that the server announced and a zip's directory are all that is checked.
    """
    if not target.exists():
        with _disk_faults(target.parent), one_at_a_time(target.parent):
            if not target.exists():  # another program may have fetched it meanwhile
                _fetch(url, target, checksum, size)
                return target
    if fault := _fault(target, target.suffix, checksum, size):
        raise DownloadError(f"{target} is not the file of {url}: {fault}; delete it and run again.")
    return target


def _fetch(url: str, target: Path, checksum: str, size: int) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        _persist(url, part, size)
        if fault := _fault(part, target.suffix, checksum, size):
            _forget(part)
            raise _FinalError(f"what came is not the file expected: {fault}")
    except _FinalError as error:
        raise DownloadError(f"{url} could not be fetched ({error}): save it by hand as {target}.") from error
    os.replace(part, target)
    _note(part).unlink(missing_ok=True)


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Fetch an archive into a folder, under its own name, unless it is there."""
    url, checksum, size = archive
    return fetch(url, folder / url.rpartition("/")[2], checksum=checksum, size=size)


@contextmanager
def advise(advice: str) -> Iterator[None]:
    """Add to the message of a DownloadError what else a person can do."""
    try:
        yield
    except DownloadError as error:
        message = f"{str(error).rstrip('.')}; {advice}, and `--dataset scenes` needs no download."
        raise DownloadError(message) from error


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        advice = "what is there already is kept, so free some space or choose another folder and run again"
        raise StorageError(f"{folder} cannot be written to ({error.strerror}): {advice}.") from error


class _FinalError(Exception):
    """Trying again would not help."""


def _fault(path: Path, suffix: str, checksum: str, size: int) -> str:
    if size and path.stat().st_size != size:
        return f"it has {path.stat().st_size:,} bytes where {size:,} were expected"
    if suffix == ".zip" and not zipfile.is_zipfile(path):
        return "it is no whole zip archive"
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, algorithm).hexdigest() if checksum else ""
    return f"its {algorithm} is {found} where {expected} was expected" if found != expected else ""


def _persist(url: str, part: Path, size: int) -> None:
    """Attempt until the part is whole; only attempts that got next to no further are counted."""
    furthest, waits = 0, iter(WAITS)
    while True:
        since = time.monotonic()
        try:
            return _attempt(url, part, size)
        except (OSError, http.client.HTTPException) as error:
            reason = _passing_reason(error)
        reached = part.stat().st_size if part.exists() else 0
        if reached > furthest + SLOWEST * (time.monotonic() - since):
            furthest, waits = reached, iter(WAITS)
        elif (wait := next(waits, None)) is None:
            raise _FinalError(reason)
        else:
            time.sleep(wait)


def _passing_reason(error: OSError | http.client.HTTPException) -> str:
    """Say what went wrong, or raise where trying again would not help."""
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        raise error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answered {error.code} {error.reason}"
        if error.code not in _PASSING:
            raise _FinalError(reason)
        return reason
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        raise _FinalError("no network, or no such server")
    return "the server stopped answering" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__


def _attempt(url: str, part: Path, size: int) -> None:
    have, total, validator = _kept(part)
    if have and have == total:
        return
    resume = {"Range": f"bytes={have}-", "If-Range": validator} if have and validator else {}
    request = urllib.request.Request(url, headers={"User-Agent": "captioning", **resume})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _forget(part)
            raise ConnectionError("the file on the server became shorter") from error
        raise
    with response:
        start = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        total = _announced(response, part, start)
        _check_offer(response, total, size)
        _append(response, part, start, total, size)
    expected, fetched = total or size, part.stat().st_size
    if fetched >= LARGEST > expected:
        raise _FinalError(f"the server sent more than {LARGEST:,} bytes")
    if expected and fetched != expected:
        raise ConnectionError(f"the connection broke after {fetched:,} of {expected:,} bytes")


def _announced(response: http.client.HTTPResponse, part: Path, start: int) -> int:
    """Give the length of the whole file, 0 if unknown, having checked that this is the rest of what is there."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return response.length or 0
    extent = re.fullmatch(rf"bytes {start}-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if extent is None or _kept(part)[1:] != (int(extent[1]), _validator(response)):
        _forget(part)
        raise ConnectionError("the server went on with another file or at another place")
    return int(extent[1])


def _check_offer(response: http.client.HTTPResponse, total: int, size: int) -> None:
    if response.headers.get_content_type() == "text/html":
        raise _FinalError("the server sent a web page instead, as a login asks for")
    if total and size and total != size:
        raise _FinalError(f"the server offers {total:,} bytes where {size:,} were expected")


def _append(response: http.client.HTTPResponse, part: Path, start: int, total: int, size: int) -> None:
    """Write what the server sends, up to the length that is known; one that sends next to nothing is left."""
    if start == 0:
        part.write_bytes(b"")  # before the note, which would vouch for the old bytes
        _note(part).write_text(f"{total} {_validator(response)}")
    most = total or size
    progress = tqdm(desc=part.stem, initial=start, total=most or None, unit="B", unit_scale=True, disable=None)
    with part.open("ab") as content, progress:
        since, had = time.monotonic(), content.tell()
        while chunk := response.read1(min(CHUNK, (most or LARGEST) - content.tell())):
            content.write(chunk)
            progress.update(len(chunk))
            if (now := time.monotonic()) - since > MINUTE:
                if content.tell() - had < SLOWEST * MINUTE:
                    raise _FinalError(f"the server sent less than {SLOWEST:,} bytes a second")
                since, had = now, content.tell()
        content.flush()
        os.fsync(content.fileno())


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.note")


def _kept(part: Path) -> tuple[int, int, str]:
    """What an earlier attempt left: bytes, announced length, and what the server calls this version of the file."""
    if not part.exists() or not _note(part).exists():
        return 0, 0, ""
    total, _, validator = _note(part).read_text().partition(" ")
    return part.stat().st_size, int(total or 0), validator


def _validator(response: http.client.HTTPResponse) -> str:
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if tag.startswith("W/") else tag


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def unpack(
    archive: Path,
    folder: Path,
    *,
    members: Callable[[str], str | None] = lambda name: name,
    largest: int = 0,
) -> Path:
    """Unpack a zip into a new folder, whole or not at all; a folder that is there already is left as it is.

    `members` gives for a name in the archive its place in the folder, or None to leave it out. Archives with names
    that lead elsewhere, links, or more than `largest` bytes (0: 4 GB) or 100 times their own size are refused; CRCs
    are checked.
    """
    if not folder.exists():
        with one_at_a_time(folder.parent):
            if not folder.exists():  # another program may have unpacked it meanwhile
                _unpack(archive, folder, members, largest)
    return folder


def _unpack(archive: Path, folder: Path, members: Callable[[str], str | None], largest: int) -> None:
    scratch = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with _disk_faults(folder.parent), zipfile.ZipFile(archive) as source:
            _check_archive(source, archive, largest)
            chosen = [info.file_size for info in source.infolist() if members(info.filename) is not None]
            require_space(folder.parent, sum(chosen), flag="--downloads")
            _extract(source, scratch, members)
            os.rename(scratch, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is damaged ({error}): delete it and fetch it again.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_archive(source: zipfile.ZipFile, archive: Path, largest: int) -> None:
    infos = source.infolist()
    files = {info.filename for info in infos if not info.is_dir()}
    for info in infos:
        if fault := _member_fault(info, files):
            raise DownloadError(f"{archive} is not safe to unpack: {info.filename[:80]!r} {fault}.")
    unpacked, packed = sum(info.file_size for info in infos), archive.stat().st_size
    if unpacked > min(largest or LARGEST_UNPACKED, LARGEST_RATIO * packed):
        raise DownloadError(f"{archive} is not safe to unpack: its {packed:,} bytes would become {unpacked:,}.")


def _member_fault(info: zipfile.ZipInfo, files: set[str]) -> str:
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        return "leads out of its folder"
    if len(info.filename.encode()) > 1000 or any(len(name.encode()) > 255 for name in path.parts):
        return "is too long a name"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither file nor folder"
    if not path.parts or any(str(parent) in files for parent in path.parents):
        return "is file and folder at once"
    return "is encrypted" if info.flag_bits & 1 else ""


def _extract(source: zipfile.ZipFile, scratch: Path, members: Callable[[str], str | None]) -> None:
    scratch.mkdir(parents=True)
    for info in tqdm(source.infolist(), desc=scratch.stem, unit="file", disable=None):
        place = None if info.is_dir() else members(info.filename)
        if place is not None:
            target = scratch / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(info) as packed, target.open("wb") as content:
                shutil.copyfileobj(packed, content)


def picture_name(name: str) -> str | None:
    """Return the file name of a picture in an archive, None for any other member."""
    path = PurePosixPath(name)
    return path.name if path.suffix == ".jpg" and "__MACOSX" not in path.parts else None
