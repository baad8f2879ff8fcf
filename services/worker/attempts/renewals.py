"""The leases of the attempts under way: kept until each has ended, and what the log says of them obeyed.

The vigil, a process of its own, renews them; while it does not stand, this module does it on the loop.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.dispatch.leasing import Interruption, Lease, Leasing
from switchyard.services.dispatch.limit_tokens import Tokens, kept_while_running
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.attempt_run import AttemptRun
from switchyard.services.worker.vigil.process import Vigil

log = structlog.get_logger()

AT_ONCE: Final = 64


class Renewals:
    """Renews and interrupts attempts.

    Args:
        nc: an open connection.
        leasing: renews a lease.
        tokens: renews what a lease has of limits.
        settings: the times.
    """

    def __init__(self, nc: Client, leasing: Leasing, tokens: Tokens, settings: Settings) -> None:
        self._leasing = leasing
        self._tokens = tokens
        self._settings = settings
        self._running: dict[Fence, AttemptRun] = {}
        self.vigil = Vigil(nc, settings, self._look)

    def held(self) -> dict[Fence, JobId]:
        """Job id by fence of the leases that are held, and may be."""
        held = self._running.items()
        return {fence: running.lease.job.id for fence, running in held if self.vigil.may_renew(fence)}

    def begin(self, running: AttemptRun, for_s: float) -> None:
        """Keep the lease of an attempt that begins, for so many seconds at most."""
        self._running[running.lease.fence] = running
        self.keep(running.lease, for_s)

    def keep(self, lease: Lease, for_s: float | None) -> None:
        """Keep a lease for so long at most from now on; None for as long as it is held."""
        tokens = () if lease.work.grant is None else kept_while_running(lease.work.grant)
        self.vigil.holds(lease.fence, lease.job.id, lease.job.seq, lease.work.reply, tokens, for_s)

    def left(self, running: AttemptRun) -> None:
        """An attempt is a back end's: its lease is held no more, and prolonged while that is seen at work."""
        self._running[running.lease.fence] = running
        self.vigil.ended(running.lease.fence)

    def watches(self, fence: Fence) -> bool:
        """Whether the attempt of a lease is under way here."""
        return fence in self._running

    def end(self, running: AttemptRun) -> None:
        """Keep the lease no more: the attempt has ended."""
        self.vigil.ended(running.lease.fence)
        del self._running[running.lease.fence]

    def drain(self) -> None:
        """Have all attempts give their jobs back."""
        for running in list(self._running.values()):
            running.interrupt(Interruption.DRAIN)

    async def run(self) -> None:
        """Renew every held lease three times within its length, until cancelled."""
        gate = asyncio.Semaphore(AT_ONCE)
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            stands = self.vigil.stands()
            async with asyncio.TaskGroup() as group:
                for running in list(self._running.values()):
                    if stands and running.delegated is None:
                        continue
                    group.create_task(self._renew(running, gate))

    async def cancel_requested(self, job_id: str) -> None:
        """Look at once at a job that somebody wants to stop."""
        for running in list(self._running.values()):
            if running.lease.job.id == job_id:
                await self._renew(running, asyncio.Semaphore(1))

    async def _look(self, fence: Fence, lost: bool) -> None:  # noqa: FBT001 - as `Vigil` says it
        """The vigil has found that a handler has to stop."""
        running = self._running.get(fence)
        if running is None:
            return
        if lost:
            _interrupt(running, Interruption.LOST)
        else:
            await self._renew(running, asyncio.Semaphore(1))

    async def _renew(self, running: AttemptRun, gate: asyncio.Semaphore) -> None:
        lease = running.lease
        async with gate:
            if (left := running.delegated) is not None:
                if (stops := await left.look()) is not None and lease.fence in self._running:
                    _interrupt(running, stops)
                return
            if lease.fence not in self._running or not self.vigil.may_renew(lease.fence):
                return
            why = await self._leasing.renew(lease)
            if lease.work.grant is not None and why is not Interruption.LOST:
                await self._tokens.renew(lease.work.grant)
        if why is not None and lease.fence in self._running:
            _interrupt(running, why)


def _interrupt(running: AttemptRun, why: Interruption) -> None:
    log.info("attempt_interrupted", job=running.lease.job.id, why=why.value)
    running.interrupt(why)
