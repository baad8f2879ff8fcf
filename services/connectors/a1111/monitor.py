"""What goes on beside the attempts: is the server there, who uses it, what has it, what is to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from switchyard.services.connectors.a1111.api import Api, ForbiddenError
from switchyard.services.connectors.a1111.discovery import Inventory
from switchyard.services.connectors.a1111.section import A1111Section
from switchyard.services.connectors.a1111.tasks import State, Tasks
from switchyard.services.connectors.comfyui.api import AwayError
from switchyard.services.connectors.comfyui.health import Health

log = structlog.get_logger()

CONDEMNED: Final = 1_000
IDLE_LOOKS: Final = 3
"""How often in a row a server must be idle before a task that waits there is taken for none."""
WRONG: Final = 2
"""Looks in a row at which a server that answers otherwise than it should is down."""
OTHERS: Final = "others use the server: its work is not ours alone"
OTHERS_SEEN: Final = 2
"""In so many looks in a row."""
OTHERS_GONE_S: Final = 60.0


class Monitor:
    """Looks at the server until it is closed.

    Args:
        api, tasks: those of the server.
        health: hears of each look.
        section: the times.
        changed: called when what it has is another than before.
    """

    def __init__(
        self, api: Api, tasks: Tasks, health: Health, section: A1111Section, changed: Callable[[], None]
    ) -> None:
        self.inventory = Inventory(section.names_bytes)
        self.ours: set[str] = set()
        """The tasks of attempts that run here."""
        self.looked = asyncio.Event()
        """Set after the first look, whatever came of it."""
        self._api = api
        self._tasks = tasks
        self._health = health
        self._section = section
        self._changed = changed
        self._read_at_s: float | None = None
        self._restarts = 0
        self._wrong = 0
        self._condemned: dict[str, int] = {}
        self._others_looks = 0
        self._others_at_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether others use the server."""
        return self._others_at_s is not None

    def start(self) -> None:
        """Begin, if it has not yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def condemn(self, task_id: str) -> None:
        """Have a task interrupted as soon as it is at work: nobody waits for it any more."""
        self._condemned[task_id] = 0
        while len(self._condemned) > CONDEMNED:
            del self._condemned[next(iter(self._condemned))]

    async def _run(self) -> None:
        while True:
            began_s = time.monotonic()
            try:
                await self._look()
            except Exception:
                # Whatever a server makes of its answers, the next look is due.
                log.exception("a1111_not_looked_at", backend=self._section.id)
            self.looked.set()
            await asyncio.sleep(max(0.05, self._section.health_s - (time.monotonic() - began_s)))

    async def _look(self) -> None:
        try:
            state = await self._tasks.state()
            await self._read()
        except AwayError as error:
            self._wrong = self._wrong + 1 if error.answered else 0
            if self._wrong >= WRONG:
                self._health.is_wrong(str(error))
            elif not error.answered:
                self._health.is_missed(str(error), refused=error.refused)
            return
        self._wrong = 0
        self._health.is_well()
        await self._carry_out(state)
        await self._look_for_others(state)

    async def _read(self) -> None:
        """Read what it has, where that is due.

        Raises:
            AwayError: it could not be read, and never was.
        """
        now_s = time.monotonic()
        is_due = self._read_at_s is None or now_s - self._read_at_s >= self._section.refresh_s
        if not is_due and self._restarts == self._health.restarts:
            return
        before = self.inventory.found
        try:
            await self.inventory.read(self._api)
        except AwayError as error:
            if self._read_at_s is None or isinstance(error, ForbiddenError):
                raise
            log.info("a1111_not_read", backend=self._section.id, error=str(error))
            return
        self._read_at_s, self._restarts = time.monotonic(), self._health.restarts
        if self.inventory.found != before:
            self._changed()

    async def _carry_out(self, state: State) -> None:
        """Interrupt what is condemned and runs, and forget what is there no more."""
        for task_id, idle in list(self._condemned.items()):
            try:
                standing = await self._tasks.look(task_id)
                waits = standing.active or standing.queued
                if not waits or (not state.busy and idle + 1 >= IDLE_LOOKS):
                    self._condemned.pop(task_id, None)
                    continue
                self._condemned[task_id] = 0 if state.busy else idle + 1
                if standing.active and await self._tasks.interrupt(task_id):
                    log.info("a1111_task_interrupted", task=task_id, backend=self._section.id)
            except AwayError as error:
                log.info("a1111_task_not_interrupted", task=task_id, error=str(error))
                return

    async def _look_for_others(self, state: State) -> None:
        """Notice work that is none of ours."""
        try:
            seen = await self._tasks.others(self.ours) > 0
        except AwayError:
            return
        if state.busy and not self.ours and not self._condemned:
            seen = True
        self._others_looks = self._others_looks + 1 if seen else 0
        if self._others_looks >= OTHERS_SEEN:
            was, self._others_at_s = self._others_at_s, time.monotonic()
            if was is None:
                log.info("a1111_shared", backend=self._section.id)
                self._changed()
        elif self._others_at_s is not None and time.monotonic() - self._others_at_s >= OTHERS_GONE_S:
            self._others_at_s = None
            self._changed()
