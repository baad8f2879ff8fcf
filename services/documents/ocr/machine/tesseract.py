"""Which OCR program this machine has."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Final

PROBE_TIMEOUT_S: Final = 20.0
ORIENTATION: Final = "osd"  # data about how a page is turned, listed among the languages


@dataclass(frozen=True, slots=True)
class Installed:
    """The tesseract program, and the languages it has data for."""

    program: str
    version: str
    languages: tuple[str, ...]
    finds_orientation: bool


@cache
def installed() -> Installed | None:
    """Look for tesseract and ask it what it can do, once; None without one that works."""
    program = shutil.which("tesseract")
    if program is None:
        return None
    try:
        version = _output(program, "--version").split()
        listed = _output(program, "--list-langs").splitlines()[1:]  # the first line says where they are
    except (OSError, subprocess.SubprocessError):
        return None
    languages = tuple(sorted(set(listed) - {ORIENTATION}))
    return Installed(program, version[1] if len(version) > 1 else "", languages, ORIENTATION in listed)


def _output(program: str, option: str) -> str:
    done = subprocess.run(  # noqa: S603 - found on PATH, fixed arguments
        [program, option], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
    )
    return done.stdout or done.stderr  # old versions answer on stderr
