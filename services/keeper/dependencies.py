"""Jobs that wait for others: released, or ended, when those have ended.

A blocked job's waits are written first and its parents are read after; a job's end is in the log before its
waits are read. So one of the two sides sees the other, whichever comes first and whichever keeper does it,
and the guard lets only one decision stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from switchyard.events.commands import FailDependency, Unblock
from switchyard.events.encoding.codec import event_name
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import (
    ConflictError,
    LimitError,
    NewerVersionError,
    NotFoundError,
    SwitchyardError,
)
from switchyard.events.events import (
    Accepted,
    AnyEvent,
    Archived,
    Blocked,
    Cancelled,
    Dead,
    Expired,
    Parted,
    Repaired,
    Succeeded,
    Unreadable,
)
from switchyard.events.job import Job, evolve
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.causes import DependencyFailure, JoinPolicy
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.keeper.fan_out.parts import Parts
from switchyard.services.keeper.timers import ACTOR
from switchyard.services.keeper.waits import Waits
from switchyard.services.records.lanes import Lanes, key_of

log = structlog.get_logger()

JOBS_AT_ONCE: Final = 32
PARENTS_AT_ONCE: Final = 16
ENDS_OF_BLOCKED: Final = frozenset({"cancelled", "expired", "dead"})


class Dependencies:
    """Decides about blocked jobs.

    Args:
        store: the log.
        lanes: the queues that released jobs go to.
        waits: which jobs wait for which.
        parts: cancels those of jobs that have ended.
    """

    def __init__(self, store: EventStore, lanes: Lanes, waits: Waits, parts: Parts) -> None:
        self._store = store
        self._lanes = lanes
        self._waits = waits
        self._parts = parts

    async def on_event(self, job_id: JobId, event: AnyEvent) -> None:
        """Note what a blocked job waits for, and decide about it at once if that has ended already."""
        if isinstance(event, Blocked | Repaired):
            job = evolve(Job(id=job_id), event, Seq(1))
            if job.status is Status.BLOCKED:
                await self._waits.add(job_id, job.waits_for)
                await self.settle(job_id, job.waits_for)

    async def on_ends(self, ended: Mapping[JobId, str]) -> None:
        """Decide about all jobs that wait for one of these, which have ended and wait no more themselves.

        Args:
            ended: the name of the event that ended it, by job.
        """
        await self._forget([job_id for job_id, name in ended.items() if name in ENDS_OF_BLOCKED])
        waiting: defaultdict[JobId, list[JobId]] = defaultdict(list)
        for parent, child in await self._waits.of(ended):
            waiting[JobId(child)].append(JobId(parent))
        errors: list[SwitchyardError] = []

        async def settle(child: JobId) -> None:
            try:
                if child in waiting[child]:  # it has ended itself, and had parts
                    await self._parts.on_end(child)
                else:
                    await self.settle(child, waiting[child])
            except NewerVersionError as error:  # whoever can read it looks at it again
                log.warning("dependency_put_off", job=child, error=str(error))
            except SwitchyardError as error:  # the others are not to wait for this one
                errors.append(error)

        await each(settle, waiting, at_once=JOBS_AT_ONCE)
        if errors:  # what only an upgrade can help may wait longer than the others
            raise min(errors, key=lambda error: isinstance(error, NewerVersionError))

    async def _forget(self, ended: Sequence[JobId]) -> None:
        """Forget what jobs waited for that may have ended while they did."""
        if not ended or not await self._waits.are_there():
            return

        async def forget(job_id: JobId) -> None:
            await self._waits.remove(job_id, await self._waited_for(job_id, ()))

        await each(forget, ended, at_once=JOBS_AT_ONCE)

    async def settle(self, job_id: JobId, ended: Sequence[JobId]) -> AnyEvent | None:
        """Release or end a blocked job if it is time; the event, or None when nothing was decided.

        Args:
            job_id: the job that waits.
            ended: which of the jobs that it waits for may have ended.

        Raises:
            SwitchyardError: it is to be tried again.
        """
        job = await self._blocked(job_id)
        if job is None:
            await self._waits.remove(job_id, await self._waited_for(job_id, ended))
            return None
        command = await self._verdict(job, ended)
        if command is None:
            return None
        if isinstance(command, Unblock) and not self._lanes.ready(job.lane, job.priority):
            key = key_of(await self._store.spec(job_id), job.lane)
            try:
                await self._lanes.ensure(key, job.lane, job.priority, job.tenant)
            except LimitError as error:  # the sweep looks at it again; nobody else is to wait for it
                log.warning("release_put_off", job=job_id, error=error.message)
                return None
        _, event = await self._store.transition(job, command, actor=ACTOR)
        is_joined = job.parted_by and isinstance(command, Unblock)
        await self._waits.remove(job_id, (*job.waits_for, *([job_id] if is_joined else ())))
        if event is not None:
            log.info("dependencies_settled", job=job_id, recorded=event_name(event))
        return event

    async def _blocked(self, job_id: JobId) -> Job | None:
        """The job, if it is blocked."""
        last = await self._store.last(job_id) or await self._store.last_of_leader(job_id)
        if last is None:
            return None  # a stranger's wait: that of a job is written after its first event
        match last.event:
            case Blocked(job=None) | Parted():
                return await self._store.load(job_id, at_least=last.seq)
            case Blocked():
                return evolve(Job(id=job_id), last.event, last.seq)
            case Repaired() | Unreadable():
                job = await self._store.load(job_id, at_least=last.seq)
                return job if job.status is Status.BLOCKED else None
            case _:
                return None

    async def _waited_for(self, job_id: JobId, known: Sequence[JobId]) -> Collection[JobId]:
        try:
            return {*(await self._store.spec(job_id)).depends_on, *known}
        except (NotFoundError, ConflictError, NewerVersionError):  # archived meanwhile, or not to be read
            return known

    async def _verdict(self, job: Job, ended: Sequence[JobId]) -> Unblock | FailDependency | None:
        """What is to become of a blocked job.

        Those that may have ended are looked at first. One of the others that has not is enough to go on
        waiting: when it ends, the job is looked at again. The last of them is the likeliest to be late.
        """
        runs, waits = _policy(job)
        wanted, known = set(job.waits_for), set(ended)
        others = [parent for parent in reversed(job.waits_for) if parent not in known]
        parts = [others[first : first + PARENTS_AT_ONCE] for first in range(0, len(others), PARENTS_AT_ONCE)]
        now = clock.now()
        for parents in ([one for one in ended if one in wanted], *parts):
            outcomes = await each(self._outcome, parents, at_once=PARENTS_AT_ONCE)
            for parent, outcome in zip(parents, outcomes, strict=True):
                if outcome in (None, Status.SUCCEEDED) or runs:
                    continue
                if waits:  # it may be redriven
                    return None
                return FailDependency(now=now, dependency=parent, outcome=outcome)
            if None in outcomes:
                return None
        return Unblock(now=now)

    async def _outcome(self, job_id: JobId) -> Status | None:
        """How a job ended; None while it has not."""
        outcome = _outcome_of(await self._store.last(job_id))
        # A replica that lags may not know of the end yet, and nobody would report it again.
        return outcome or _outcome_of(await self._store.last_of_leader(job_id))


def _outcome_of(last: Recorded | None) -> Status | None:
    """How a job ended by its last event; None while it has not, or nobody can say."""
    match last and last.event:
        case Succeeded() | Accepted():
            return Status.SUCCEEDED
        case Dead():
            return Status.DEAD
        case Cancelled():
            return Status.CANCELLED
        case Expired():
            return Status.EXPIRED
        case Archived(status=status):
            return status
        case Repaired() as repaired:
            status = evolve(Job(), repaired, Seq(1)).status
            return status if status in FINAL else None
        case _:
            return None


def _policy(job: Job) -> tuple[bool, bool]:
    """Whether a job goes on however those end that it waits for, and whether it waits until all succeed."""
    if job.parted_by:
        return job.join_policy != JoinPolicy.ALL, False
    on_failure = job.on_dependency_failure
    return on_failure is DependencyFailure.RUN, on_failure is DependencyFailure.WAIT


def overdue(job: Job, read_model: ReadModel, before: datetime) -> bool:
    """Whether a blocked job should have been released or ended before a time, by the read model."""
    runs, waits = _policy(job)
    all_ended = True
    for parent_id in job.waits_for:
        parent = read_model.job(parent_id)
        if parent is None or parent.ended_at is None or parent.ended_at > before:
            all_ended = False
        elif (parent.archived_as or parent.status) is not Status.SUCCEEDED and not runs:
            if not waits:
                return True
            all_ended = False
    return all_ended
