"""Attempts from their work message to the slot that is free again: taken, run, settled.

The slot of one whose code does not end is lost until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from switchyard.events.commands import AnyCommand
from switchyard.services.connectors.protocol import BackendConnector, Connector
from switchyard.services.dispatch.leasing import Lease
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.work import Work
from switchyard.services.ending import Patience
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.worker.attempts.attempt_run import AttemptRun, Left, Means
from switchyard.services.worker.attempts.delegated import Delegated
from switchyard.services.worker.attempts.job_log import logged
from switchyard.services.worker.attempts.renewals import Renewals
from switchyard.services.worker.slots import Slots

log = structlog.get_logger()

SETTLES_S: Final = 1.0  # in which outcomes are recorded as a rule
LONG_S: Final = 60.0  # longer than other code may block the loop


class Attempts:
    """Runs attempts, each in a slot.

    Args:
        record: gives the worker's, as it is when a lease is taken.
        means: what the attempts share.
        slots: where each has its own.
        renewals: keeps their leases.
        tokens: takes back what they have of limits.
        patience: how long what the broker does not answer is waited for.
        freed: called when a slot can be used again, or has been lost.
        lost: called with how many slots are lost, whenever that has changed.
    """

    def __init__(
        self,
        record: Callable[[], WorkerRecord],
        means: Means,
        slots: Slots,
        renewals: Renewals,
        *,
        tokens: Tokens,
        patience: Patience,
        freed: Callable[[], None],
        lost: Callable[[int], None],
    ) -> None:
        self._record = record
        self._means = means
        self._slots = slots
        self._renewals = renewals
        self._tokens = tokens
        self._patience = patience
        self._freed = freed
        self._lost = lost

    async def run(self, work: Work, connector: Connector) -> None:
        """Take a lease, run what it is for and record how that ended; the slot is taken already.

        A job that does not fit this very connector, as it is now, is handed back.
        """
        lease, run = None, None
        try:
            async with self._patience.limited():
                lease = await self._means.leasing.take(work, self._record().only(connector.id))
            if lease is None:
                return
            run = AttemptRun(
                lease, connector, self._means, abandoned=self._slot_lost, left=self._renewals.left
            )
            self._renewals.begin(run, run.timeout_s + self._means.settings.cancel_grace_s)
            await self._until_settled(run)
        finally:
            # What a back end carries on keeps its places until its own end.
            if work.grant is not None and (run is None or run.delegated is None):
                await self._tokens.end(work.grant, started=lease is not None)
            if run is None or not run.is_abandoned:
                self._slots.end(connector.id)
                self._freed()

    async def watch(self, lease: Lease, found: Delegated, connector: BackendConnector) -> None:
        """Watch an attempt that is at its back end, and record how it ends; the slot is taken already."""
        run = AttemptRun(
            lease, connector, self._means, abandoned=self._slot_lost, left=self._renewals.left, found=found
        )
        self._renewals.left(run)
        try:
            await self._until_settled(run)
        finally:
            if not run.is_abandoned:
                self._slots.end(connector.id)
                self._freed()

    async def _until_settled(self, run: AttemptRun) -> None:
        try:
            with logged(run.lease) as ended:
                ended.command = command = await run.run()
                ended.without = run.end_without_command
            if command is not None:
                await self._settle(run, command)
        finally:
            self._renewals.end(run)

    async def _settle(self, run: AttemptRun, command: AnyCommand) -> None:
        """Record the outcome, and keep the lease until then, however long the broker is away."""
        lease = run.lease
        if run.delegated is not None:
            async with self._patience.limited():
                await run.settle(command)
            return
        if self._renewals.vigil.left_s(lease.fence) < LONG_S:
            self._renewals.keep(lease, None)
        # Nearly all are recorded within milliseconds: the vigil need not hear of those.
        later = asyncio.get_running_loop().call_later(SETTLES_S, self._renewals.keep, lease, None)
        try:
            async with self._patience.limited():
                await run.settle(command)
        finally:
            later.cancel()

    def _slot_lost(self, run: AttemptRun, left: Left) -> None:
        """Code runs beyond its attempt: its slot is lost until it ends."""
        self._slots.end(run.instance, lost=True)
        log.error(
            "slot_lost", job=run.lease.job.id, kind=run.kind, why=run.interruption,
            lost_slots=self._slots.lost, effect="its code did not stop, and still runs",
        )  # fmt: skip
        left.code.add_done_callback(lambda _: self._slot_regained(run, left))
        self._lost(self._slots.lost)
        self._freed()

    def _slot_regained(self, run: AttemptRun, left: Left) -> None:
        self._slots.regain(run.instance)
        log.info("slot_regained", job=run.lease.job.id, kind=run.kind, late=left.late())
        self._lost(self._slots.lost)
        self._freed()
