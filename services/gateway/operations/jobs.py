"""What may be asked of one job, or done with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from switchyard.events.commands import (
    AnyCommand,
    Archive,
    Discard,
    Redrive,
    Repair,
    Reprioritise,
    RequestCancel,
    Retry,
)
from switchyard.events.encoding.codec import place_of
from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import ConflictError, NotFoundError, UnavailableError
from switchyard.events.job import Job, decide, evolve
from switchyard.events.subjects import JOB_ID
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.lists.brief import Brief
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.event_store import EventStore, Transition
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.intake.erasing import Eraser
from switchyard.services.intake.request import JobRequest
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.submitter import Submitted, Submitter
from switchyard.services.records.lanes import Lanes, key_of
from switchyard.services.records.workers import is_deaf
from switchyard.services.settings import Settings

RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING})


class Jobs:
    """Reads and changes jobs for callers.

    Where a method takes `tenant`, it is the one whose jobs are meant; None stands for those of all.

    Args:
        store: the log.
        submitter: takes new jobs.
        lanes: the queues.
        shares: what each tenant's jobs may take.
        read_model: that of this host.
        live: knows of progress, and of ends as they come.
        freshness: waits for the read model.
        metrics: counts what is written.
        eraser: erases them.
        settings: limits.
    """

    def __init__(
        self,
        store: EventStore,
        submitter: Submitter,
        lanes: Lanes,
        shares: Shares,
        read_model: ReadModel,
        live: LiveFeed,
        freshness: Freshness,
        metrics: Metrics,
        eraser: Eraser,
        settings: Settings,
    ) -> None:
        self.store = store
        self.submitter = submitter
        self.shares = shares
        self.read_model = read_model
        self.freshness = freshness
        self.settings = settings
        self._lanes = lanes
        self._live = live
        self._metrics = metrics
        self._eraser = eraser

    # --- Reads

    async def last_seq(self, job_id: str, tenant: str | None) -> int:
        """The sequence of a job's last event.

        Raises:
            NotFoundError: there is no such job, or it is another tenant's: both look alike.
        """
        if JOB_ID.fullmatch(job_id):
            last = await self.store.last(JobId(job_id))
            if last is not None and tenant in (None, await self.store.owner(last)):
                return last.seq
        raise NotFoundError(f"there is no job {job_id[:36]}", field="id")

    async def load(self, job_id: str, tenant: str | None) -> Job:
        """The job from its log.

        Raises:
            NotFoundError: as for `last_seq`.
            UnavailableError: the broker does not answer.
        """
        return await self.store.load(JobId(job_id), at_least=await self.last_seq(job_id, tenant))

    async def current(self, job_id: str, tenant: str | None) -> Job:
        """The job as it is now: from the read model if that has come so far, else from the log.

        Raises:
            NotFoundError: as for `last_seq`.
            UnavailableError: the broker does not answer.
        """
        last_seq = await self.last_seq(job_id, tenant)
        with contextlib.suppress(UnavailableError):  # it is only quicker
            row = self.read_model.job(JobId(job_id))
            if row is not None and row.seq == last_seq:
                return row
        return await self.store.load(JobId(job_id), at_least=last_seq)

    async def until(self, job_id: str, tenant: str | None, until: int | datetime) -> Job:
        """The job as it was at a sequence or a time.

        Raises:
            NotFoundError: as for `last_seq`, or it did not exist then.
        """
        await self.last_seq(job_id, tenant)
        job = Job(id=JobId(job_id))
        is_before = True
        while is_before and (page := await self.store.history(job.id, after=job.seq)):
            for entry in page:
                is_before = (entry.seq if isinstance(until, int) else entry.at) <= until  # type: ignore[operator]
                if not is_before:
                    break
                job = evolve(job, entry.event, entry.seq)
        if not job.seq:
            at = until if isinstance(until, int) else until.isoformat()
            raise NotFoundError(f"there was no job {job_id} at {at}, or that part is archived", field="at")
        return job

    async def history(
        self, job_id: str, tenant: str | None, *, after: int, limit: int
    ) -> tuple[list[Recorded], int]:
        """The job's events with a sequence over `after`, oldest first, and the sequence of its last.

        Raises:
            NotFoundError: as for `last_seq`.
        """
        last_seq = await self.last_seq(job_id, tenant)
        return await self.store.history(JobId(job_id), after=after, limit=limit), last_seq

    async def list(
        self, tenant: str | None, filters: Mapping[str, Any], *, min_seq: int
    ) -> tuple[list[Job], str | None, int]:
        """A page of jobs, newest first, the cursor of the next, and the sequence that it is as of.

        Args:
            tenant: whose.
            filters: as for `ReadModel.jobs`.
            min_seq: a sequence that the read model is to have come to.

        Raises:
            UnavailableError: it does not in time.
        """
        seq = await self.freshness.wait(min_seq)
        page, cursor = self.read_model.jobs(tenant=tenant, **filters)
        return page, cursor, seq

    def progress(self, job: Job | Brief) -> dict[str, Any] | None:
        """The latest report of the attempt that runs, or how far the parts are that the job waits for."""
        if job.status is Status.BLOCKED and job.parted_by:
            parts, found = self._live.parts, None
            with contextlib.suppress(UnavailableError):  # the job is shown while lists cannot be
                found = parts.of_job(job) if isinstance(job, Job) else parts.of(job.id)
            return None if found is None else found.fields
        progress = self._live.progress(job.id) if job.status in RUNNING else None
        return None if progress is None or progress.get("attempt") != job.attempt else progress

    def reported(self, job_id: str) -> dict[str, Any] | None:
        """What was last reported of a job, or how far the parts are that it waits for."""
        with contextlib.suppress(UnavailableError):
            if (found := self._live.parts.of(job_id)) is not None:
                return found.fields
        return self._live.progress(job_id)

    async def ended(self, job: Job, wait_s: float | None) -> Job:
        """The job at its end, or as it is when the time is over."""
        if not wait_s or job.status in FINAL or job.damage is not None:
            return job
        await self._live.wait_final(job.id, job.seq, wait_s)
        return await self.store.load(job.id, at_least=job.seq)

    # --- Changes

    async def submit(
        self, caller: Caller, asked: JobRequest, raw: bytes, key: str | None, job_id: JobId | None = None
    ) -> Submitted:
        """The job that a submission stands for, written if it is new.

        Args:
            caller: whose job it is.
            asked: the job.
            raw: its body as it came.
            key: its idempotency key.
            job_id: the id that it is to have, where neither the key stands for one nor a new one is drawn.

        Raises:
            RejectedError: it breaks a rule, or a limit of the tenant.
            UnavailableError: the broker does not answer.
        """
        started = time.perf_counter()
        submitted = await self.submitter.submit(asked, raw, caller, key, job_id)
        self._metrics.submit_seconds.observe(time.perf_counter() - started)
        return submitted

    async def again(self, caller: Caller, job: Job, key: str | None) -> Submitted:
        """Submit once more what a job runs with, as it does by now; only its times are not taken over.

        Raises:
            ConflictError: code `not_repeatable`, nothing is known of that any more; or `damaged`.
            RejectedError: as for `submit`.
            UnavailableError: the broker does not answer.
        """
        if job.damage is not None:
            raise refuse_damaged(job)
        if job.status is Status.ARCHIVED:
            message = f"job {job.id} is archived: what it ran with is gone"
            raise ConflictError(message, code="not_repeatable")
        if job.erasable:
            message = f"job {job.id} can be erased, and what it ran with goes with it: submit that again"
            raise ConflictError(message, code="not_repeatable")
        spec = await self.store.current_spec(job)
        return await self.submitter.again(job.id, spec, caller, key)

    async def cancel(self, caller: Caller, job: Job, reason: str) -> Job:
        """End a job, at once or as soon as its worker has stopped."""
        grace_s = self.settings.cancel_grace_s
        if job.lease is not None and is_deaf(job.lease.worker):
            grace_s += job.attempt_timeout_s or self.settings.attempt_timeout_s
        command = RequestCancel(now=clock.now(), by=caller.actor, grace_s=grace_s, reason=reason)
        return (await self.transition(caller, job, command)).job

    async def reprioritise(self, caller: Caller, job: Job, priority: int) -> Job:
        """Move a queued job to another priority."""
        command = Reprioritise(now=clock.now(), priority=priority)
        decide(job, command)  # refused before a lane is made for it
        self.shares.room.take(0)
        await self.ensure_lane(job, priority)
        return (await self.transition(caller, job, command)).job

    async def retry(self, caller: Caller, job: Job) -> Transition:
        """Have the next attempt of a job that failed at once, by any worker; nothing for one that runs.

        Raises:
            ConflictError: it is in no state that has a next attempt.
            RejectedError: there is no room for it.
            UnavailableError: the broker does not answer.
        """
        command = Retry(now=clock.now())
        event = decide(job, command)
        if event is not None:
            self.shares.room.take(0)
            ahead = evolve(job, event, job.seq)
            await self.ensure_lane(ahead, ahead.priority)
        return await self.transition(caller, job, command)

    async def redrive(
        self, caller: Caller, job: Job, payload: dict[str, Any] | None = None, priority: int | None = None
    ) -> Job:
        """Start a dead job again, with another payload if one is given."""
        decide(job, Redrive(now=clock.now()))
        checked = None if payload is None else await self.submitter.payload(job, payload)
        size_bytes = 0 if checked is None else len(bytes(checked))
        command = Redrive(now=clock.now(), payload=checked, priority=priority, size_bytes=size_bytes)
        await self.ensure_lane(job, job.own_priority if priority is None else priority)
        return (await self.transition(caller, job, command)).job

    async def discard(self, caller: Caller, job: Job, reason: str) -> Job:
        """Archive a dead job."""
        command = Discard(now=clock.now(), by=caller.actor, reason=reason)
        return (await self.transition(caller, job, command)).job

    async def archive(self, caller: Caller, job: Job) -> Job:
        """Archive a job that has ended: a summary stays, its history goes."""
        command = Archive(now=clock.now(), by=caller.actor)
        return (await self.transition(caller, job, command)).job

    async def erase(self, caller: Caller, job: Job, reason: str = "") -> Job:
        """Erase a job that has ended, and archive it.

        Raises:
            ConflictError, UnavailableError: as for `Eraser.erase`.
        """
        await self._eraser.erase(job, by=caller.actor, reason=reason, trace=caller.trace, key=caller.key)
        return await self.store.load(job.id, at_least=job.seq)

    async def repair(self, caller: Caller, job: Job, to: Status | None, reason: str) -> Job:
        """Give a damaged job a state again."""
        command = Repair(now=clock.now(), by=caller.actor, reason=reason, to=to)
        event = decide(job, command)
        place = None if event is None else place_of(event)
        if place is not None:  # a lane that does not exist yet is not made by the event alone
            await self.ensure_lane(job, place[1])
        return (await self.transition(caller, job, command)).job

    async def transition(
        self, caller: Caller, job: Job, command: AnyCommand, *, actor: str | None = None
    ) -> Transition:
        """Append what a command comes to, and count it; a new start takes of the tenant's share.

        Args:
            caller: who wants it.
            job: as last known.
            command: what is wanted.
            actor: who stands in the event, where that is not the caller.

        Raises:
            ConflictError: the job's state does not allow it.
            LimitError: the tenant has as many jobs as it may.
            UnavailableError: the broker does not answer.
        """
        share, size_bytes = None, job.size_bytes
        if isinstance(command, Redrive):
            decide(job, command)  # a conflict is reported before a limit
            size_bytes += command.size_bytes
            share = self.shares.take(job.tenant, size_bytes)
        try:
            done = await self.store.transition(
                job, command, actor=actor or caller.actor, trace=caller.trace, key=caller.key,
                home="" if actor else caller.home,
            )  # fmt: skip
        except BaseException:
            if share is not None:
                share.back(size_bytes)
            raise
        if share is not None:
            share.stored(done.job.seq, size_bytes)
        return done

    async def ensure_lane(self, job: Job, priority: int, *, checked: bool = True) -> None:
        """Make the job's lane at a priority, unless it is known to be there.

        Args:
            job: as last known.
            priority: which it is to have.
            checked: whether limits count.

        Raises:
            LimitError: no more lanes, or priorities in this lane, may be in use.
            UnavailableError: the broker does not answer.
        """
        if not self._lanes.ready(job.lane, priority):
            key = key_of(await self.store.spec(job.id), job.lane)
            await self._lanes.ensure(key, job.lane, priority, job.tenant, checked=checked)
