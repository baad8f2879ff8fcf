"""A deployment of which every part has a wall clock of its own, which a test may set while it runs."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests import forked
from tests.system.deployment import Deployment, Part

SOURCE = Path(__file__).with_name("shifted_clock.c")


class ShiftedDeployment(Deployment):
    """Processes with shifted clocks; the broker's is that of the machine.

    Args:
        directory: for data, logs, clocks and the broker's files.
        lease_s: seconds of a lease.
    """

    def __init__(self, directory: Path, *, lease_s: float = 3.0) -> None:
        super().__init__(directory, lease_s=lease_s)
        self._library = directory / "shifted_clock.so"
        self._clock: Path | None = None
        self.more: dict[str, str] = {}
        command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(self._library), str(SOURCE)]
        subprocess.run(command, check=True)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        if self._clock is None:
            return super().environment | self.more
        return (
            super().environment
            | self.more
            | {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._clock)}
        )

    def shift(self, name: str, seconds: float) -> None:
        """Set the clock of a part that runs or is to be started."""
        path = self.directory / f"{name}.clock"
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:  # mapped by the process: never replaced
            file.write(struct.pack("d", seconds))

    async def start(self, name: str, *arguments: str, module: str = forked.MODULE) -> Part:
        """Start a process on its own clock."""
        with self._on_clock(name):
            return await super().start(name, *arguments, module=module)

    async def command_on(self, name: str, *arguments: str) -> str:
        """Run a command to its end on the clock of a part."""
        with self._on_clock(name):
            return await self.command(*arguments)

    @contextlib.contextmanager
    def _on_clock(self, name: str) -> Iterator[None]:
        self._clock = self.directory / f"{name}.clock"
        if not self._clock.exists():
            self.shift(name, 0.0)
        try:
            yield
        finally:
            self._clock = None
