"""A `switchyard up` as a process of its own, and commands against it as a person types them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from tests import forked

READY_S = 60.0
STOP_S = 30.0
COMMAND_S = 60.0


@contextlib.contextmanager
def deadline(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """Kill the process if the block takes longer, so that reading from it ends."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def first_line(output: IO[str] | None, text: str) -> str:
    """The first line of a process's output that contains `text`."""
    assert output is not None
    seen = []
    for line in output:
        if text in line:
            return line
        seen.append(line)
    raise AssertionError(f"no {text!r} in {''.join(seen)}")


class Site:
    """A directory in which commands find the Switchyard that was started there.

    Args:
        directory: empty; the data directory is `.switchyard` in it.
        forks: whether commands that are read while they run may be forked from what has imported them.
        environment: for all commands.
    """

    def __init__(self, directory: Path, *, forks: bool = True, **environment: str) -> None:
        self._forks = forks
        self.directory = directory
        self.data_dir = directory / ".switchyard"
        self.log = directory / "up.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_")}
        self.environment = {**clean, "SWITCHYARD_LEASE_S": "3", **environment}
        self.process: subprocess.Popen[str] | None = None

    def open(self, *arguments: str, errors: IO[str] | int | None = None) -> subprocess.Popen[str]:
        """Start a command whose output is read while it runs."""
        if self._forks and forked.is_possible(self.environment):
            return forked.Spoken(arguments, self.directory, self.environment, errors)
        return subprocess.Popen(
            [sys.executable, "-m", forked.MODULE, *arguments],
            cwd=self.directory, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return forked.run(arguments, self.directory, self.environment | environment, COMMAND_S)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with `--json`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def up(self, *arguments: str) -> list[str]:
        """Start `switchyard up` and wait until it is ready; what it printed."""
        with self.log.open("a") as log:
            self.process = self.open("up", "--port", "0", *arguments, errors=log)
        said = []
        assert self.process.stdout is not None
        with deadline(self.process, READY_S):
            for line in self.process.stdout:
                said.append(line.strip())
                if line.startswith("ready"):
                    return said
        raise AssertionError(self.log.read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send `up` a signal and wait for its end; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        with deadline(self.process, STOP_S):
            self.process.communicate()
        return self.process.returncode

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def processes(self) -> list[psutil.Process]:
        """`up` and all that it has started."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    @property
    def connection(self) -> dict[str, Any]:
        """`connection.json`."""
        found: dict[str, Any] = json.loads((self.data_dir / "connection.json").read_text())
        return found
