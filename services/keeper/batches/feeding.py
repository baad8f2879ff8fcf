"""Submits the lines of a batch, in order and some at a time."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from switchyard.events.errors import (
    LimitError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.values import FINAL
from switchyard.services import clock
from switchyard.services.access.principal import Caller, Grant
from switchyard.services.intake.batches.plan import fields_of, refusal_of, request_of
from switchyard.services.intake.submitter import Pending, Submitted, Submitter
from switchyard.services.keeper.batches.ends import Open
from switchyard.services.keeper.batches.hold import Hold
from switchyard.services.keeper.batches.plans import Placed
from switchyard.services.records.batches.record import Batch, Refusal, line_job_id, line_key
from switchyard.services.records.batches.store import Batches

log = structlog.get_logger()

CHUNK: Final = 100
"""Lines that are submitted before it is written down how far the batch has come."""
SLOW: Final = "it took too long to submit the lines before"
BATCH: Final = "batch"
"""The operation by which jobs of batches come, as the ledger has it."""
LATER: Final = frozenset({402, 429})
"""The refusals that time may lift."""


class LaterError(Exception):
    """No line can be taken in now.

    Args:
        why: what is in the way.
        after_s: when to try again.
    """

    def __init__(self, why: str, after_s: float) -> None:
        super().__init__(why)
        self.why = why
        self.after_s = after_s


class Feeder:
    """Submits lines.

    Args:
        submitter: takes them in.
        store: the batches, for lines that are refused.
    """

    def __init__(self, submitter: Submitter, store: Batches) -> None:
        self._submitter = submitter
        self._store = store

    async def feed(self, hold: Hold, chunk: list[Placed], jobs: Open, ttl_s: float) -> None:
        """Submit a chunk, and write down how far the batch has come.

        Args:
            hold: the batch.
            chunk: the lines after its cursor.
            jobs: those of the batch that have not ended.
            ttl_s: how long it is kept why a line was refused.

        Raises:
            LaterError: not all were taken in.
            LostError: another keeper has the batch.
        """
        batch = hold.batch
        caller = caller_of(batch)
        begun: list[tuple[int, Pending | Submitted]] = []
        refusals: list[Refusal] = []
        planned_out = 0
        taken = len(chunk)
        later: LaterError | None = None
        for index, (planned, _) in enumerate(chunk):
            if planned.refusal is not None:
                planned_out += 1
            else:
                if not hold.is_sure:
                    later, taken = LaterError(SLOW, 0.0), index
                    break
                body = bytes(planned.request)
                # Before it is submitted: it may end before its submission is acknowledged.
                job_id = line_job_id(batch.tenant, batch.id, planned.n)
                jobs.add(job_id, planned.n)
                try:
                    request = request_of(batch, fields_of(planned), planned.n)
                    key = line_key(batch.id, planned.n)
                    begun.append((
                        planned.n, await self._submitter.begin(request, body, caller, key, clock.now()),
                    ))  # fmt: skip
                except (RejectedError, UnavailableError, VersionConflictError) as error:
                    if (later := later_of(error)) is not None:
                        if isinstance(error, RejectedError):  # it is not there: nobody waits for its end
                            jobs.end(job_id)
                        taken = index
                        break
                    refusals.append(self._refusal(planned.n, error, batch, jobs))
        failed, ends = await self._finish(batch, begun, jobs)
        refusals += ends
        if failed is not None:
            later, line = failed
            taken = next(index for index, one in enumerate(chunk) if one.planned.n == line)
            planned_out = sum(one.planned.refusal is not None for one in chunk[:taken])
            refusals = [one for one in refusals if one.line < line]
        if refusals:
            await self._store.note_refusals(batch, sorted(refusals, key=lambda one: one.line), ttl_s)
        if taken:
            last, end = chunk[taken - 1]
            await hold.change(
                cursor=last.n, cursor_bytes=end, taken=batch.taken + taken,
                refused=batch.refused + planned_out + len(refusals), settled=jobs.settled(last.n),
                waits_for=later.why if later else "",
            )  # fmt: skip
        elif later is not None and later.why != batch.waits_for:
            await hold.change(waits_for=later.why)
        if later is not None:
            raise later

    async def _finish(
        self, batch: Batch, begun: list[tuple[int, Pending | Submitted]], jobs: Open
    ) -> tuple[tuple[LaterError, int] | None, list[Refusal]]:
        """Wait for the appends: the first line that has to be submitted again, and lines that are refused."""

        async def finished(one: Pending | Submitted) -> Submitted | SwitchyardError:
            try:
                return await self._submitter.finish(one) if isinstance(one, Pending) else one
            except SwitchyardError as error:
                return error

        again: tuple[LaterError, int] | None = None
        refusals: list[Refusal] = []
        found = await asyncio.gather(*(finished(one) for _, one in begun))
        for (line, _), done in zip(begun, found, strict=True):
            if isinstance(done, Submitted):
                if done.job.status in FINAL:  # of a keeper before this one
                    jobs.end(done.job.id)
            elif (later := later_of(done)) is not None:
                again = again or (later, line)
            else:
                refusals.append(self._refusal(line, done, batch, jobs))
        return again, refusals

    def _refusal(self, line: int, error: SwitchyardError, batch: Batch, jobs: Open) -> Refusal:
        jobs.end(line_job_id(batch.tenant, batch.id, line))
        if isinstance(error, RejectedError):
            return refusal_of(line, error)
        return Refusal(line, "rejected", str(error))


def later_of(error: SwitchyardError) -> LaterError | None:
    """When to try again after an error; None where that would change nothing."""
    if isinstance(error, UnavailableError):
        return LaterError(str(error), error.retry_after_s)
    if isinstance(error, VersionConflictError):
        return LaterError(str(error), 1.0)
    if isinstance(error, LimitError) and error.status in LATER:
        return LaterError(f"{error.code}: {error.message}", error.retry_after_s or 5.0)
    return None


def caller_of(batch: Batch) -> Caller:
    """By whom the jobs of a batch are submitted: it, with what the key allows by which it was made."""
    grant = None
    if batch.key and (batch.kinds is not None or batch.jobs_per_day is not None):
        kinds = None if batch.kinds is None else frozenset(batch.kinds)
        grant = Grant(batch.key, kinds, jobs_per_day=batch.jobs_per_day)
    return Caller(batch.tenant, f"batch:{batch.id}", key=batch.key, grant=grant, operation=BATCH)
