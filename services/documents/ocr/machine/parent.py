"""Programs that end with the process that started them."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>

_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends; a `preexec_fn`."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
