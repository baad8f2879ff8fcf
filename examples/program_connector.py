"""A connector in one file: kind `program` gives a job's text to a program of the worker's machine."""

from __future__ import annotations

import os
import shutil
import signal
from asyncio import CancelledError, create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Callable
from typing import Any

import pydantic

from switchyard.connectors import Attempt, BusyError, FatalError, Outcome, RetryableError, Section


class ProgramSection(Section):
    """The settings of an instance: `{"kind": "program", "command": ["wc", "-w"]}`."""

    command: tuple[str, ...] = ("cat",)


class ProgramPayload(pydantic.BaseModel, extra="forbid", strict=True):
    """What a job says."""

    text: str


class Program:
    """Runs the program once for each attempt."""

    kind = "program"
    payload_model: type[pydantic.BaseModel] = ProgramPayload
    section_model = ProgramSection

    def __init__(self, section: ProgramSection) -> None:
        self.id, self.slots, self._command = section.id, section.slots, section.command

    @classmethod
    def make(cls, section: ProgramSection, /) -> Program:
        """An instance."""
        return cls(section)

    def capabilities(self) -> dict[str, Any]:
        """Which program it is, and whether it is there."""
        return {"program": {"name": self._command[0], "found": shutil.which(self._command[0]) is not None}}

    def watch(self, changed: Callable[[], None]) -> None:
        """What is installed does not change while the worker runs."""

    async def run(self, attempt: Attempt) -> Outcome:
        """Give the program the text; what it prints is the artifact `output.txt`."""
        try:
            text = ProgramPayload.model_validate(attempt.payload).text
        except pydantic.ValidationError as error:
            raise FatalError("invalid_payload", error.errors()[0]["msg"]) from error
        attempt.progress(0.0, stage="program", message=self._command[0])
        try:
            program = await create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, process_group=0)
        except OSError as error:
            raise BusyError("no_program", str(error)) from error
        try:
            output, _ = await program.communicate(text.encode())
        except CancelledError:  # it ends when the program has, with what that has started
            if program.returncode is None:
                os.killpg(program.pid, signal.SIGKILL)
            await program.communicate()
            raise
        if program.returncode != 0:
            raise RetryableError("program_failed", f"it ended with {program.returncode}")
        artifact = await attempt.save("output.txt", output, media_type="text/plain")
        attempt.progress(1.0, stage="program")
        return Outcome({"bytes": len(output)}, artifacts=(artifact,))

    async def close(self) -> None:
        """It holds nothing."""
