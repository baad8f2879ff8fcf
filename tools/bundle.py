"""Builds one file that is a whole worker: `make bundle`.

    python -m tools.bundle [--extra documents] [--target dist]

The file runs wherever a Python 3.11 of this platform is, without the internet and without anything installed.
At its first run it lays its libraries out below PEX_ROOT, by default a folder of the user's cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PEX: Final = "pex>=2.105,<3"
NAME: Final = "switchyard-worker.pyz"
BUILD_S: Final = 1200.0
PYTHON: Final = "3.11"


def build(target: Path, extras: list[str]) -> Path:
    """Build the file, with the libraries that requirements.lock names; its path.

    Args:
        target: the folder that it is put into.
        extras: what it has beside a worker's.

    Raises:
        subprocess.CalledProcessError: pip or pex fails, and has said why.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        _run(python, "-m", "pip", "install", "--quiet", PEX)
        file = target / NAME
        _run(
            python, "-m", "pex", f"{ROOT}[{','.join(['worker', *extras])}]",
            "--constraints", str(_constraints(Path(folder))), "--python", sys.executable,
            "--python-shebang", f"/usr/bin/env python{PYTHON}",
            # With an environment of its own its processes find what they need as those of an install do.
            "--venv", "prepend", "--console-script", "switchyard", "--output-file", str(file),
        )  # fmt: skip
    return file


def _constraints(folder: Path) -> Path:
    """The versions of the lock, without hashes: our own wheel has none there, and pip wants all or none."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    wanted = [line.partition("\\")[0].strip() for line in lines if line[:1].isalnum()]
    file = folder / "constraints.txt"
    file.write_text("\n".join(wanted) + "\n")
    return file


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=BUILD_S)


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build one file that is a whole worker.")
    parser.add_argument("--target", type=Path, default=ROOT / "dist")
    parser.add_argument("--extra", action="append", default=[], choices=["documents"])
    chosen = parser.parse_args()
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        parser.error(f"Python {PYTHON} is needed, not {sys.version.split()[0]}")
    file = build(chosen.target, chosen.extra)
    sys.stdout.write(f"{file}: {file.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
