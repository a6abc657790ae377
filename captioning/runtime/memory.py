"""How much memory this program holds, and that it gives back what it no longer needs."""

import ctypes
import os
import platform
from pathlib import Path

STATUS = Path("/proc/self/statm")  # of Linux
ARENAS = -8  # the number of M_ARENA_MAX


def resident_bytes() -> int | None:
    """Bytes of memory that this program holds now; None where the system does not say."""
    try:
        pages = int(STATUS.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def share_one_heap() -> None:
    """Let all threads take memory from one heap; call it before they start.

    With a heap for every thread, glibc keeps what each freed for that thread alone. Other systems stay as they are.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(ARENAS, 1)
