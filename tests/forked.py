"""Programs of `switchyard`, each in a process of its own that is forked from one which has imported it.

What a command costs is above all its import; a test of a hundred commands need not pay it a hundred times,
nor one that starts, kills and starts the parts of a deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import multiprocessing.process
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Final

from switchyard.services.cli import lazy, main, root

MODULE: Final = "switchyard.services.cli"
LOADED: Final = "LD_PRELOAD"
for _command in root.COMMANDS.values():  # here, so that none has to import itself
    import_module(f"{lazy.PACKAGE}.{_command.where.partition(':')[0]}")
for _module in ("cli.errors", "settings.loading"):  # what they import later
    import_module(f"switchyard.services.{_module}")
import_module("switchyard._client.live")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "pytest"])
_STARTING: Final = threading.Lock()


class Program:
    """A running `switchyard`, with the hands that a subprocess of asyncio has.

    Args:
        arguments: those of the command line.
        directory: that it runs in.
        environment: all of it.
        output: descriptor of its standard output.
        errors: that of its standard error.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        output: int,
        errors: int,
    ) -> None:
        with (
            Connection(os.dup(output), readable=False) as one,
            Connection(os.dup(errors), readable=False) as two,
            _STARTING,
        ):
            self._process = FORKS.Process(
                target=_run, args=(tuple(arguments), directory, dict(environment), one, two)
            )
            self._process.start()
            # Else every later start looks whether it has ended, in whatever thread, and takes its exit code.
            multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]
        self.pid: Final[int] = self._process.pid or 0
        self._looking = threading.Lock()  # the exit code can be taken once

    @property
    def returncode(self) -> int | None:
        """Its exit code as `subprocess` has it; None while it runs."""
        with self._looking:
            return self._process.exitcode

    async def wait(self) -> int:
        """Wait for its end; its exit code."""
        loop = asyncio.get_running_loop()
        while (code := self.returncode) is None:
            ended = asyncio.Event()
            descriptor = os.dup(self._process.sentinel)  # several may wait
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return code

    def join(self, timeout_s: float | None) -> int | None:
        """Wait for its end in this thread; its exit code, or None if it has not come."""
        wait([self._process.sentinel], timeout_s)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send any signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)


class Spoken(subprocess.Popen[str]):
    """A running `switchyard` whose output is read while it runs, with the hands of `subprocess.Popen`.

    Args:
        arguments: those of the command line.
        directory: that it runs in.
        environment: all of it.
        errors: what its standard error is, as `Popen` takes it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        errors: IO[str] | int | None,
    ) -> None:
        with contextlib.ExitStack() as ours:
            self.args = ["switchyard", *arguments]
            self.stdin, self.stderr = None, None
            self.stdout, output = _pipe(ours)
            match errors:
                case None:
                    second = 2
                case subprocess.STDOUT:
                    second = output
                case subprocess.PIPE:
                    self.stderr, second = _pipe(ours)
                case subprocess.DEVNULL:
                    second = ours.enter_context(open(os.devnull, "w")).fileno()  # noqa: PTH123
                case int():
                    second = errors
                case _:
                    second = errors.fileno()
            self._program = Program(arguments, directory, environment, output, second)
        self.pid = self._program.pid
        self.returncode = None

    def __del__(self) -> None:
        """Its end is not waited for."""

    def __exit__(self, *_: object) -> None:
        """Wait for its end."""
        self.communicate()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.returncode is None and (code := self._program.returncode) is not None:
            self.returncode = code
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code.

        Raises:
            TimeoutExpired: it has not come.
        """
        if self._program.join(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.poll()
        return self.returncode

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002, ARG002 -- there is none
        """Wait for its end; what it has printed since it was last read.

        Raises:
            TimeoutExpired: it has not come.
        """
        said = ["", ""]

        def read(number: int, file: IO[str]) -> None:
            said[number] = file.read()
            file.close()

        until = None if timeout is None else time.monotonic() + timeout
        files = [(number, file) for number, file in enumerate((self.stdout, self.stderr)) if file is not None]
        readers = [
            threading.Thread(target=read, args=each, daemon=True) for each in files if not each[1].closed
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(until and max(0.0, until - time.monotonic()))
        if any(reader.is_alive() for reader in readers):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(until and max(0.0, until - time.monotonic()))
        return said[0], said[1]

    def send_signal(self, sig: int) -> None:
        """Send any signal, unless it has ended."""
        self._program.send_signal(sig)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)


def _pipe(ours: contextlib.ExitStack) -> tuple[IO[str], int]:
    """What is read from, and the descriptor of what is written to, which is closed with `ours`."""
    reading, writing = os.pipe()
    ours.callback(os.close, writing)
    return os.fdopen(reading), writing


def is_possible(environment: Mapping[str, str]) -> bool:
    """Whether it would be the same program: not if something else is loaded beside the interpreter."""
    return environment.get(LOADED) == os.environ.get(LOADED)


def run(
    arguments: tuple[str, ...], directory: Path, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it printed, and its exit code as `subprocess` has it.

    One whose environment says what is loaded beside the interpreter is started by itself.

    Raises:
        TimeoutExpired: it took longer, and was killed.
    """
    if not is_possible(environment):
        return subprocess.run(
            [sys.executable, "-m", MODULE, *arguments],
            cwd=directory, env=dict(environment), text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s,
        )  # fmt: skip
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        program = Program(arguments, directory, environment, output.fileno(), errors.fileno())
        code = program.join(timeout_s)
        if code is None:
            program.kill()
            program.join(timeout_s)
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read())
        if code is None:
            raise subprocess.TimeoutExpired(arguments, timeout_s, *said)
        return subprocess.CompletedProcess(arguments, code, *said)


def _run(
    arguments: tuple[str, ...],
    directory: Path,
    environment: dict[str, str],
    output: Connection,
    errors: Connection,
) -> None:
    gc.freeze()  # what was there before the fork is nobody's rubbish
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [str(directory), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    with output, errors, open(os.devnull) as nothing:  # noqa: PTH123
        for number, place in enumerate((nothing.fileno(), output.fileno(), errors.fileno())):
            os.dup2(place, number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    sys.argv = ["switchyard", *arguments]
    main()
