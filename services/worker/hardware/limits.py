"""Processor cores and memory that this process may use: those of the machine, or of its control group.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GIB: Final = 1024**3
ROOT: Final = Path("/")
_MEMORY: Final = re.compile(r"MemTotal:\s+(\d{1,15}) kB")


def cores(root: Path = ROOT) -> float | None:
    """Cores that may be used at once, to a tenth; None where nothing says."""
    allowed: list[float] = []
    if hasattr(os, "sched_getaffinity"):
        allowed.append(float(len(os.sched_getaffinity(0))))
    elif (count := os.cpu_count()) is not None:
        allowed.append(float(count))
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # else `max`, or -1
            allowed.append(int(quota) / int(period))
    return _plain(max(0.1, min(allowed))) if allowed else None


def ram_gb(root: Path = ROOT) -> float | None:
    """GiB of memory, to a tenth; None where nothing says."""
    allowed: list[int] = []
    if (total := _MEMORY.search(_text(root / "proc/meminfo"))) is not None:
        allowed.append(int(total[1]) * 1024)
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(group / name)
            if limit.isdecimal() and int(limit):
                allowed.append(int(limit))
    return _plain(min(allowed) / GIB) if allowed else None


def _plain(number: float) -> float:
    rounded = round(number, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control groups that this process is in, for a controller, each with those above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if names else "")
        within = Path(*(part for part in path.split("/") if part not in ("", "..")))
        for group in (within, *within.parents):
            yield top / group


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:65536].strip()
    except OSError:
        return ""
