"""Virtual environments that hold a wheel of ours and what an extra of it requires, and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packaging.metadata import Metadata
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
INSTALL_S: Final = 300.0
COMMAND_S: Final = 120.0


class Environment:
    """An installed Switchyard.

    Its libraries are links to those of this environment, distribution by distribution with their metadata, so
    that nothing has to be fetched and what an extra does not require cannot be imported.

    Args:
        folder: that of the virtual environment.
        wheel: what is installed.
        extras: with which.
    """

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.packages = next(folder.glob("lib/python*/site-packages"))
        self.python = folder / "bin" / "python"
        for name in needed(wheel, *extras):
            self._link(importlib.metadata.distribution(name))
        subprocess.run(
            [
                sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet",
                "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", str(wheel),
            ],
            check=True, capture_output=True, timeout=INSTALL_S,
        )  # fmt: skip

    def _link(self, distribution: importlib.metadata.Distribution) -> None:
        here = Path(sysconfig.get_paths()["purelib"])
        for file in distribution.files or []:
            parts = file.parts
            if parts[0] == "..":
                if parts[-2] == "bin":
                    (self.folder / "bin" / parts[-1]).symlink_to(Path(sys.executable).with_name(parts[-1]))
            elif not (self.packages / parts[0]).is_symlink() and parts[0] != "__pycache__":
                (self.packages / parts[0]).symlink_to(here / parts[0])

    def command(self, *arguments: str) -> list[str]:
        """The command as the environment has installed it."""
        return [str(self.folder / "bin" / "switchyard"), *arguments]

    def variables(self, **more: str) -> dict[str, str]:
        """Those of a process of the environment, without the settings of this one."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SWITCHYARD_", "PYTHON", "VIRTUAL_ENV"))
        }
        path = os.pathsep.join([str(self.folder / "bin"), "/usr/bin", "/bin"])
        return {**kept, "PATH": path, "SWITCHYARD_LEASE_S": "3", **more}

    def run(self, *arguments: str, within: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self._run(self.command(*arguments), within, variables)

    def script(self, text: str, *, within: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return self._run([str(self.python), "-c", text], within, variables)

    def _run(
        self, command: list[str], within: Path, variables: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=within, env=self.variables(**variables), text=True, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=False,
        )  # fmt: skip


def needed(wheel: Path, *extras: str) -> Iterator[str]:
    """The distributions that an installation of the wheel brings with it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        lines = Metadata.from_email(archive.read(name), validate=False).requires_dist or []
    waiting = [(line, extras) for line in lines]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted, chosen = waiting.pop()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": each}) for each in chosen or [""]):
            continue
        key = (wanted.name, frozenset(wanted.extras))
        if key in seen:
            continue
        if wanted.name not in {name for name, _ in seen}:
            yield wanted.name
        seen.add(key)
        further = importlib.metadata.requires(wanted.name) or []
        waiting += [(Requirement(line), tuple(wanted.extras)) for line in further]
