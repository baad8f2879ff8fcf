"""A machine of a test: a directory in which the pages' commands run, and what they leave running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cli.site import COMMAND_S, READY_S, STOP_S, deadline, first_line

ROOT: Final = Path(__file__).parents[2]


class Machine:
    """Commands of pages, in `sh`, with programs of this Python.

    Args:
        directory: empty.
        environment: what all commands are given.
    """

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.programs = directory / "bin"
        self.programs.mkdir(parents=True)
        self.program("switchyard", "-m switchyard.services.cli")
        self.program("python", "")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_")}
        path = f"{self.programs}:{Path(sys.executable).parent}:{clean['PATH']}"
        self.environment = {
            **clean,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "SWITCHYARD_LEASE_S": "3",
            **environment,
        }
        self.running: list[subprocess.Popen[str]] = []

    def program(self, name: str, arguments: str) -> Path:
        """A program that is this Python with some arguments."""
        path = self.programs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        path.chmod(0o755)
        return path

    def run(self, text: str, *, code: int = 0, **environment: str) -> str:
        """What commands print, which end with this status."""
        done = subprocess.run(
            ["sh", "-euc", text], cwd=self.directory, env=self.environment | environment, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def start(self, text: str, says: str, **environment: str) -> subprocess.Popen[str]:
        """Start one command that lasts, and wait until it says that it is up."""
        text = text if "exec " in text else f"exec {text.strip()}"
        log = self.directory / f"{len(self.running)}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                ["sh", "-euc", text.strip()], cwd=self.directory, env=self.environment | environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        if says:
            with deadline(process, READY_S):
                try:
                    first_line(process.stdout, says)
                except AssertionError as error:
                    raise AssertionError(f"{error}: {log.read_text()[-3000:]}") from None
        return process

    def stop(self, process: subprocess.Popen[str]) -> int:
        """End one as systemd does; its status."""
        self.running.remove(process)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            process.communicate()
        return process.returncode

    def close(self) -> None:
        """End all, the last first."""
        for process in reversed(self.running.copy()):
            self.stop(process)
