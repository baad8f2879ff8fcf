"""Runs a driver's program, which may hang with its driver so that nothing ends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

log = structlog.get_logger()

ANSWER_S: Final = 10.0
END_S: Final = 1.0
OUTPUT_BYTES: Final = 1024 * 1024


class Answer(NamedTuple):
    """What a program has said: its exit code, and its output with that for errors, each cut at 1 MiB."""

    code: int
    output: str
    errors: str = ""


class Program:
    """A program of a driver's, run again and again.

    Args:
        name: looked for on PATH at each run, so that a driver may come later.
        answer_s: how long an answer is waited for.
    """

    def __init__(self, name: str, *, answer_s: float = ANSWER_S) -> None:
        self.name = name
        self._answer_s = answer_s
        self._hanging: subprocess.Popen[bytes] | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.name) is not None

    def run(self, arguments: Sequence[str]) -> Answer | None:
        """The program's answer; None where it does not answer in time, cannot be started, or still hangs.

        One that hangs in its driver cannot be ended. It is left, and no other is started beside it.
        """
        if self._hanging is not None and self._hanging.poll() is None:
            return None
        self._hanging = None
        path = shutil.which(self.name)
        if path is None:
            return None
        # Files, not pipes: what it has started may hold a pipe open after its end.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - a program of the driver's, without anything of others
                    [path, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                    env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                log.warning("hardware_program_failed", program=self.name, error=str(error))
                return None
            try:
                code = process.wait(self._answer_s)
            except subprocess.TimeoutExpired:
                self._give_up(process)
                return None
            read = []
            for file in (output, errors):
                file.seek(0)
                read.append(file.read(OUTPUT_BYTES).decode(errors="replace"))
            return Answer(code, *read)

    def _give_up(self, process: subprocess.Popen[bytes]) -> None:
        log.warning("hardware_program_hangs", program=self.name, after_s=self._answer_s)
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 9)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._hanging = process
