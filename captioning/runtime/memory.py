"""How much memory this program holds."""

import os
from pathlib import Path

STATUS = Path("/proc/self/statm")  # of Linux


def resident_bytes() -> int | None:
    """Bytes of memory that this program holds now; None where the system does not say."""
    try:
        pages = int(STATUS.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
