"""The folder of what people upload: swept while the app runs, removed when it ends."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator

SWEEP, KEPT = 300.0, 3600.0  # seconds between two sweeps, and how old a file may become
EMPTY = 60.0  # seconds after which an empty folder is removed
BLOCK = 4096  # bytes that the smallest file takes


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder for uploads and what is made of them; removed afterwards with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="captioning-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        os.environ |= {"GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000"}  # else it sums up all requests at every one
        yield folder


def swept(folder: str) -> int:
    """Bytes that a folder holds, once old files and empty folders are removed.

    Gradio's own sweep leaves the folders, and ends for good if somebody uploads while it goes through its list.
    """
    held, now = 0, time.time()
    for place, folders, files in os.walk(folder, topdown=False):
        for path in (os.path.join(place, name) for name in files):
            with contextlib.suppress(OSError):  # gone meanwhile
                found = os.lstat(path)
                if found.st_mtime < now - KEPT:
                    os.remove(path)
                else:
                    held += max(found.st_size, BLOCK)
        with contextlib.suppress(OSError):
            if place != folder and not (folders or files) and os.stat(place).st_mtime < now - EMPTY:
                os.rmdir(place)
    return held


def keep_swept(folder: str) -> None:
    """Sweeps a folder from time to time, as long as the program runs."""

    def sweep() -> None:
        while True:
            time.sleep(SWEEP)
            swept(folder)

    threading.Thread(target=sweep, daemon=True).start()
