"""What goes on beside the attempts: is the server there, what has it, and what is to be stopped there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from switchyard.services.connectors.comfyui.api import Api, AwayError
from switchyard.services.connectors.comfyui.discovery import Inventory, has_jobs, stats
from switchyard.services.connectors.comfyui.health import Health
from switchyard.services.connectors.comfyui.prompts import Prompts
from switchyard.services.connectors.comfyui.section import ComfySection

log = structlog.get_logger()

CONDEMNED: Final = 1_000
STOP_S: Final = 10.0


class Monitor:
    """Looks at the server until it is closed.

    Args:
        api: that of the server.
        prompts: those that are there.
        health: hears of each look.
        section: the times.
        changed: called when what it has is another than before.
        has_read: called with the models by folder, whenever they were read.
    """

    def __init__(
        self,
        api: Api,
        prompts: Prompts,
        health: Health,
        section: ComfySection,
        changed: Callable[[], None],
        has_read: Callable[[dict[str, Any]], None],
    ) -> None:
        self._has_read = has_read
        self.inventory = Inventory(section.names_bytes)
        self._api = api
        self._prompts = prompts
        self._health = health
        self._section = section
        self._changed = changed
        self._stats: dict[str, Any] = {}
        self._read_at_s: float | None = None
        self._restarts = 0
        self._condemned: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def look_soon(self) -> None:
        """Read again what it has, without waiting until that is due."""
        self._read_at_s = None
        self._wake.set()

    def found(self) -> dict[str, Any]:
        """What was found of it so far."""
        return {**self._stats, **self.inventory.found}

    def start(self) -> None:
        """Begin, if it has not yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def condemn(self, prompt_id: str) -> None:
        """Have a prompt stopped as soon as the server answers: nobody waits for it any more."""
        self._condemned[prompt_id] = None
        while len(self._condemned) > CONDEMNED:
            del self._condemned[next(iter(self._condemned))]

    def pardon(self, prompt_id: str) -> None:
        """Leave a prompt alone: somebody waits for it again."""
        self._condemned.pop(prompt_id, None)

    async def _run(self) -> None:
        while True:
            began_s = time.monotonic()
            try:
                await self._look()
            except Exception:
                # Whatever a server makes of its answers, the next look is due.
                log.exception("comfyui_not_looked_at", backend=self._section.id)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._section.health_s - (time.monotonic() - began_s)):
                    await self._wake.wait()
            await asyncio.sleep(0.05)

    async def _look(self) -> None:
        section = self._section
        try:
            found = await stats(self._api, answer_s=min(section.answer_s, section.silent_s / 2))
            if not self._stats or found["version"] != self._stats["version"]:
                found["jobs_api"] = await has_jobs(self._api)
            else:
                found["jobs_api"] = self._stats["jobs_api"]
        except AwayError as error:
            self._health.is_missed(str(error), refused=error.refused)
            return
        if found != self._stats:
            self._stats = found
            self._changed()
        self._health.is_well()
        await self._carry_out()
        await self._refresh()

    async def _refresh(self) -> None:
        now_s = time.monotonic()
        is_due = self._read_at_s is None or now_s - self._read_at_s >= self._section.refresh_s
        if not is_due and self._restarts == self._health.restarts:
            return
        before = self.inventory.found
        self._read_at_s = time.monotonic()
        try:
            await self.inventory.read(self._api)
        except AwayError as error:
            log.info("comfyui_not_read", backend=self._section.id, error=str(error))
            self._read_at_s = None
            return
        self._restarts = self._health.restarts
        self._has_read(self.inventory.found.get("models", {}))
        if self.inventory.found != before:
            self._changed()

    async def _carry_out(self) -> None:
        """Stop what was condemned while the server was away."""
        for prompt_id in list(self._condemned):
            try:
                async with asyncio.timeout(STOP_S):
                    await self._prompts.stop(prompt_id)
            except (AwayError, TimeoutError) as error:
                log.info("comfyui_prompt_not_stopped", prompt=prompt_id, error=str(error))
                return
            self._condemned.pop(prompt_id, None)
