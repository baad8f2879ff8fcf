"""Where tests write: into memory where there is plenty.

A disk that frees what a broker has deleted may be stuck for seconds, and every broker on it with it. That
is what tests about outages bring about themselves, and others must not meet.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
GIB: Final = 2**30
NEEDED_BYTES: Final = 4 * GIB
LEFT_BYTES: Final = 8 * GIB
"""Memory that must be there beside."""
TEMPROOT: Final = "PYTEST_DEBUG_TEMPROOT"
"""Source: pytest's reference, environment variables."""


def write_into_memory() -> None:
    """Have pytest's directories in memory, unless something else is set or there is too little."""
    if TEMPROOT not in os.environ and _has_room():
        os.environ[TEMPROOT] = str(MEMORY)


def _has_room() -> bool:
    try:
        free_bytes = shutil.disk_usage(MEMORY).free
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    has_memory = kib.get("MemAvailable", 0) * 1024 > NEEDED_BYTES + LEFT_BYTES
    return has_memory and free_bytes > NEEDED_BYTES and os.access(MEMORY, os.W_OK | os.X_OK)
