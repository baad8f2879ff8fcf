"""Removing the directory of an attempt, whatever its handler has made of it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final
from uuid import uuid4

BELOW: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove(scratch: Path) -> None:
    """Remove a directory with all that is in it, or what stands in its place; what cannot go stays.

    What is in a directory below is moved up before the directory goes: however deep they are, two descriptors
    are open at once, and no call goes deeper.
    """
    try:
        at = _opened(scratch.name, os.open(scratch.parent, BELOW & ~os.O_NOFOLLOW))
    except OSError:
        with contextlib.suppress(OSError):  # a file or a link; what it points to is not the attempt's
            scratch.unlink()
        return
    try:
        stays: set[str] = set()
        while names := set(os.listdir(at)) - stays:  # noqa: PTH208 - of a descriptor
            for name in names:
                if not _removed(name, at):
                    stays.add(name)
    except OSError:
        pass
    finally:
        os.close(at)
    with contextlib.suppress(OSError):
        scratch.rmdir()


def _opened(name: str, above: int) -> int:
    """A directory, which its owner may have locked; `above` is closed."""
    try:
        return _open(name, above)
    finally:
        os.close(above)


def _open(name: str, above: int) -> int:
    try:
        below = os.open(name, BELOW, dir_fd=above)
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise
        os.chmod(name, stat.S_IRWXU, dir_fd=above)
        below = os.open(name, BELOW, dir_fd=above)
    with contextlib.suppress(OSError):
        os.fchmod(below, stat.S_IRWXU)
    return below


def _removed(name: str, above: int) -> bool:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=above)
        return True
    try:
        below = _open(name, above)
        try:
            for each in os.listdir(below):  # noqa: PTH208 - as above
                try:
                    os.unlink(each, dir_fd=below)
                except OSError:
                    os.rename(each, uuid4().hex, src_dir_fd=below, dst_dir_fd=above)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=above)
    except OSError:
        return False
    return True
