"""One batch from its file to its outputs, as far as this keeper brings it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from switchyard.events.commands import RequestCancel
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import NotFoundError, RejectedError, SwitchyardError, UnavailableError
from switchyard.events.events import Unreadable
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.files import DamagedFileError, Files
from switchyard.services.keeper.batches.checking import Checker
from switchyard.services.keeper.batches.ends import ENDS, Ends, Open
from switchyard.services.keeper.batches.feeding import CHUNK, Feeder, LaterError
from switchyard.services.keeper.batches.hold import Hold
from switchyard.services.keeper.batches.outputs import Outputs, StillOpenError
from switchyard.services.keeper.batches.plans import Plan
from switchyard.services.records.batches.record import BatchState, Fault, line_job_id
from switchyard.services.records.batches.store import Batches
from switchyard.services.settings import Settings

log = structlog.get_logger()

AT_ONCE: Final = 32
LOOK_S: Final = 30.0
"""How often all open jobs are looked at: a hint may have been lost."""
HINT_S: Final = 0.2
HINT_TRIES: Final = 5
MOST_PAUSE_S: Final = 30.0
SPARE_S: Final = 86400.0
"""How much longer than the batch its plan is kept."""
EXPIRED: Final = "expired"
STOPS: Final = {"cancelled": BatchState.CANCELLED, EXPIRED: BatchState.EXPIRED}


@dataclass(frozen=True, slots=True)
class Tools:
    """What every batch is carried on with.

    Args:
        store: the batches.
        events: the log.
        files: where plans and outputs are.
        checker: checks files.
        feeder: submits lines.
        ends: hears of the ends of jobs.
        busy: how many batches may read, submit or write at once.
        settings: limits.
    """

    store: Batches
    events: EventStore
    files: Files
    checker: Checker
    feeder: Feeder
    ends: Ends
    busy: asyncio.Semaphore
    settings: Settings


class Carrier:
    """Carries one batch on.

    Args:
        hold: the batch.
        tools: what that takes.
    """

    def __init__(self, hold: Hold, tools: Tools) -> None:
        self._hold = hold
        self._tools = tools
        self._open = Open(hold.changed)
        self._maybe = 0
        self._looked_at = 0.0

    async def run(self) -> None:
        """Bring the batch to its end.

        Raises:
            LostError: another keeper has it.
            UnavailableError: the broker does not answer; it can be gone on with.
        """
        async with self._tools.ends.hinting(self._open):
            try:
                await self._carry()
            except (NotFoundError, DamagedFileError) as error:
                await self._give_up(error)

    async def _carry(self) -> None:
        if not self._hold.batch.plan and not await self._check():
            return
        batch, files = self._hold.batch, self._tools.files
        plan = Plan(files, await files.info(batch.tenant, batch.plan))
        await self._recover(plan)
        while True:
            await self._feed(plan)
            await self._drain()
            if await self._finish(plan):
                return

    # --- Its file

    async def _check(self) -> bool:
        """Make the plan; whether there is one."""
        hold, tools = self._hold, self._tools
        batch = hold.batch
        ttl_s = (batch.deadline_at - clock.now()).total_seconds() + SPARE_S
        # A name of its own for each try: one that is slow never replaces what another works on.
        file_id = f"batch.{batch.id}.plan.{clock.time_s() * 1000:.0f}"
        async with tools.busy, self._kept():
            checked = await tools.checker.check(batch, file_id=file_id, ttl_s=max(ttl_s, SPARE_S))
        if checked.plan is None:
            await hold.end(
                tools.settings.batch_keep_s, state=BatchState.FAILED, lines=checked.lines,
                faults=checked.faults,
            )  # fmt: skip
            log.info("batch_failed", tenant=batch.tenant, batch=batch.id, code=checked.faults[0].code)
            return False
        await hold.change(
            plan=checked.plan.id, lines=checked.lines, started_at=clock.now(),
            state=BatchState.CANCELLING if hold.batch.stopped else BatchState.IN_PROGRESS,
        )  # fmt: skip
        return True

    @contextlib.asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        """Keep the hold while the block lasts, which is left when it is lost."""
        lease_s = self._tools.settings.lease_s
        async with asyncio.timeout(None) as bound:
            lost: list[BaseException] = []

            async def keep() -> None:
                try:
                    while True:
                        await asyncio.sleep(lease_s / 3)
                        await self._hold.keep()
                except Exception as error:  # noqa: BLE001 - raised again below
                    lost.append(error)
                    bound.reschedule(0.0)

            keeping = asyncio.create_task(keep())
            try:
                yield
            except asyncio.CancelledError:
                if lost:
                    raise lost[0] from None
                raise
            finally:
                keeping.cancel()

    # --- Its jobs

    async def _recover(self, plan: Plan) -> None:
        """Find the jobs that have not ended, of lines that were submitted by whoever had the batch before."""
        batch = self._hold.batch
        numbers = list(range(batch.settled + 1, batch.cursor + 1))
        ahead = await plan.take(batch.cursor_bytes, CHUNK)
        numbers += [one.planned.n for one in ahead]  # it may have ended before it wrote down that it did
        self._maybe = numbers[-1] if numbers else batch.cursor
        for number in numbers:
            self._open.add(line_job_id(batch.tenant, batch.id, number), number)
        await self._look(list(self._open.lines))

    async def _look(self, jobs: list[JobId]) -> None:
        """Take those off the list that have ended, or are not there."""
        for first in range(0, len(jobs), 500):
            page = jobs[first : first + 500]
            found = await each(self._tools.events.last, page, at_once=AT_ONCE)
            for job_id, last in zip(page, found, strict=True):
                if last is None or _has_ended(last):
                    self._open.end(job_id)
            await self._hold.keep()

    async def _look_again(self) -> None:
        """Look at what is hinted, and now and then at all."""
        loop = asyncio.get_running_loop()
        hinted, self._open.hinted = self._open.hinted, {}
        asked: Collection[JobId] = hinted
        if loop.time() - self._looked_at >= LOOK_S:
            self._looked_at = loop.time()
            asked = self._open.lines
        await self._look([job_id for job_id in asked if job_id in self._open.lines])
        # The event may not be in the log yet when it is heard.
        for job_id, tries in hinted.items():
            if job_id in self._open.lines and tries < HINT_TRIES:
                self._open.hinted.setdefault(job_id, tries + 1)

    async def _feed(self, plan: Plan) -> None:
        """Submit lines until none is left, or the batch is to stop."""
        hold, tools = self._hold, self._tools
        while hold.batch.taken < hold.batch.lines and not await self._stops():
            hold.changed.clear()
            await self._look_again()
            batch = hold.batch
            room = min(CHUNK, batch.window - len(self._open.lines))
            # A window that is nearly full is waited for: each chunk costs a write of the record.
            if room < min(CHUNK, max(1, batch.window // 4)):
                await self._wait(HINT_S if self._open.hinted else LOOK_S)
                continue
            await hold.keep()
            ttl_s = max(0.0, (batch.deadline_at - clock.now()).total_seconds()) + tools.settings.batch_keep_s
            try:
                async with tools.busy:
                    chunk = await plan.take(batch.cursor_bytes, room)
                    await tools.feeder.feed(hold, chunk, self._open, ttl_s)
            except LaterError as later:
                await self._wait(min(max(later.after_s, 0.5), MOST_PAUSE_S), hinted=False)
            self._maybe = max(self._maybe, hold.batch.cursor)

    async def _stops(self) -> bool:
        """Whether no more lines are taken in."""
        batch = self._hold.batch
        if not batch.stopped and clock.now() >= batch.deadline_at:
            await self._hold.change(stopped=EXPIRED, waits_for="")
        return bool(self._hold.batch.stopped)

    async def _drain(self) -> None:
        """Wait until all jobs have ended; those of a batch that was stopped are cancelled."""
        hold = self._hold
        loop = asyncio.get_running_loop()
        asked: set[JobId] = set()
        stopped_at: float | None = None
        while self._open.lines:
            hold.changed.clear()
            await self._look_again()
            if not self._open.lines:
                break
            if await self._stops():
                stopped_at = stopped_at or loop.time()
                is_late = loop.time() - stopped_at >= LOOK_S
                # Most jobs have the batch's deadline themselves, and end by it.
                if hold.batch.stopped == EXPIRED and not is_late:
                    await self._wait(HINT_S if self._open.hinted else LOOK_S)
                    continue
                await self._cancel([one for one in self._open.lines if one not in asked])
                asked |= set(self._open.lines)
            settled = self._open.settled(hold.batch.cursor)
            if settled >= hold.batch.settled + hold.batch.window:
                await hold.change(settled=settled)
            await self._wait(HINT_S if self._open.hinted else LOOK_S)

    async def _cancel(self, jobs: list[JobId]) -> None:
        batch, settings = self._hold.batch, self._tools.settings
        actor = f"batch:{batch.id}"

        async def cancel(job_id: JobId) -> None:
            command = RequestCancel(
                now=clock.now(), by=batch.stopped_by or actor, grace_s=settings.cancel_grace_s,
                reason=f"the batch was {batch.stopped}",
            )  # fmt: skip
            with contextlib.suppress(RejectedError):  # it has ended by itself
                await self._tools.events.transition(job_id, command, actor=batch.stopped_by or actor)

        for first in range(0, len(jobs), 500):
            await each(cancel, jobs[first : first + 500], at_once=AT_ONCE)
            await self._hold.keep()

    async def _wait(self, most_s: float, *, hinted: bool = True) -> None:
        """Wait until something may have to be done, or for so long; the hold is kept meanwhile."""
        loop = asyncio.get_running_loop()
        batch = self._hold.batch
        until = loop.time() + most_s
        if not batch.stopped:
            until = min(until, loop.time() + max(0.0, (batch.deadline_at - clock.now()).total_seconds()))
        third_s = self._tools.settings.lease_s / 3
        while (left_s := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, third_s)):
                    await self._hold.changed.wait()
            await self._hold.keep()
            if self._hold.changed.is_set():
                if hinted or self._hold.batch.stopped:
                    return
                self._hold.changed.clear()

    # --- Its end

    async def _finish(self, plan: Plan) -> bool:
        """Write the outputs and the last of the record; False when a job runs again."""
        hold, tools = self._hold, self._tools
        if hold.batch.state is not BatchState.FINALIZING:
            await hold.change(state=BatchState.FINALIZING, settled=hold.batch.cursor)
        batch, keep_s = hold.batch, tools.settings.batch_keep_s
        stamp = f"{clock.time_s() * 1000:.0f}"
        names = (f"batch.{batch.id}.results.{stamp}", f"batch.{batch.id}.errors.{stamp}")
        refusals = await tools.store.refusals(batch)
        outputs = Outputs(batch, tools.events, tools.files, refusals, max(self._maybe, batch.cursor))
        try:
            async with tools.busy, self._kept():
                written = await outputs.write(
                    plan.pages(), names=names, ttl_s=keep_s, erasable=plan.info.lock is not None
                )
        except StillOpenError as still:
            for job_id, line in still.jobs.items():
                self._open.add(job_id, line)
            return False
        state = STOPS.get(hold.batch.stopped, BatchState.COMPLETED)
        if batch.taken >= batch.lines and not written.failed:
            state = BatchState.COMPLETED
        await hold.end(
            keep_s, state=state, succeeded=written.succeeded, failed=written.failed,
            results=written.results.id if written.results else "",
            errors=written.errors.id if written.errors else "",
        )  # fmt: skip
        log.info(
            "batch_ended", tenant=batch.tenant, batch=batch.id, state=state.value,
            succeeded=written.succeeded, failed=written.failed,
        )  # fmt: skip
        with contextlib.suppress(SwitchyardError):  # both go by themselves later
            await tools.files.delete(batch.tenant, batch.plan)
            await tools.store.forget_refusals(batch)
        return True

    async def _give_up(self, error: SwitchyardError) -> None:
        """End a batch whose plan is gone: what is in it nobody knows any more."""
        if isinstance(error, UnavailableError):
            raise error
        batch = self._hold.batch
        if not batch.stopped:
            await self._hold.change(stopped="cancelled", stopped_by="", state=BatchState.CANCELLING)
        await self._drain()
        fault = Fault(0, "plan_gone", f"the checked copy of its file cannot be read: {error}")
        await self._hold.end(self._tools.settings.batch_keep_s, state=BatchState.FAILED, faults=(fault,))
        log.warning("batch_failed", tenant=batch.tenant, batch=batch.id, code=fault.code)


def _has_ended(last: Recorded) -> bool:
    return last.name in ENDS or isinstance(last.event, Unreadable)
