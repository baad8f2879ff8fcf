"""The scratch directory of an attempt goes with it, whatever the handler has made of it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def remove(path: Path) -> None:
    """Remove what is at the path; a link there is removed and not followed."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    path.chmod(0o700)  # a directory that nobody may look into
    for directory, below, _ in os.walk(path):
        for name in below:
            inside = Path(directory, name)
            if not inside.is_symlink():
                inside.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
