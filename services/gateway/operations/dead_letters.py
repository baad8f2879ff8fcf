"""Dead letters: a new start or the end for many dead jobs at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from switchyard.events.errors import ConflictError, InvalidError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.projections.dead_letters import DeadFilters
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.operations.jobs import Jobs

SHOWN_REFUSALS = 20


@dataclass(slots=True)
class Tally:
    """What a bulk call has come to.

    Args:
        done: how many it was done to.
        skipped: how many were dead no more.
        seq: that of the last event.
        refusals: how many were refused, by code.
        errors: job, code and message of the first of those.
        cursor: where to continue.
    """

    done: int = 0
    skipped: int = 0
    seq: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str, str]] = field(default_factory=list)
    cursor: str | None = None


class DeadLetters:
    """Does one thing to each of the selected, many at the same time.

    Each is decided on the job as the read model has it, and again if that was behind the log.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def list(
        self, filters: DeadFilters, *, cursor: str | None, limit: int, min_seq: int
    ) -> tuple[list[Job], str | None, int]:
        """A page of dead jobs, those that died last first, the next cursor, and the sequence it is as of."""
        seq = await self._jobs.freshness.wait(min_seq)
        page, more = self._jobs.read_model.dead_letters(filters, cursor=cursor, limit=limit)
        return page, more, seq

    async def redrive(
        self, caller: Caller, filters: DeadFilters, *, priority: int | None, cursor: str | None,
        limit: int | None, min_seq: int,
    ) -> Tally:  # fmt: skip
        """Start the selected again.

        Raises:
            RejectedError: the limit is too high.
            UnavailableError: the broker did not answer for one of them; the call may be repeated as it was.
        """

        async def one(job: Job) -> Job:
            return await self._jobs.redrive(caller, job, priority=priority)

        return await self._each(one, filters, cursor=cursor, limit=limit, min_seq=min_seq)

    async def discard(
        self, caller: Caller, filters: DeadFilters, *, reason: str, cursor: str | None,
        limit: int | None, min_seq: int,
    ) -> Tally:  # fmt: skip
        """Archive the selected; raises as `redrive`."""

        async def one(job: Job) -> Job:
            return await self._jobs.discard(caller, job, reason)

        return await self._each(one, filters, cursor=cursor, limit=limit, min_seq=min_seq)

    async def _each(
        self,
        one: Callable[[Job], Awaitable[Job]],
        filters: DeadFilters,
        *,
        cursor: str | None,
        limit: int | None,
        min_seq: int,
    ) -> Tally:
        settings = self._jobs.settings
        most = settings.dead_letters_at_once
        if limit is not None and limit > most:
            raise InvalidError(f"limit: at most {most} at once", field="limit")
        page, more, seq = await self.list(filters, cursor=cursor, limit=limit or most, min_seq=min_seq)
        tally = Tally(seq=seq, cursor=more)
        waiting = iter(page)
        unavailable: list[UnavailableError] = []

        async def work() -> None:
            for job in waiting:
                try:
                    after = await one(job)
                except ConflictError:
                    tally.skipped += 1  # somebody else was faster: it is dead no more
                except RejectedError as error:
                    tally.refusals[error.code] += 1
                    if len(tally.errors) < SHOWN_REFUSALS:
                        tally.errors.append((job.id, error.code, error.message))
                except UnavailableError as error:
                    unavailable.append(error)
                    return
                else:
                    tally.done += 1
                    tally.seq = max(tally.seq, after.seq)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(page), settings.dead_letters_in_flight)):
                group.create_task(work())
        if unavailable:
            raise unavailable[-1]
        return tally
