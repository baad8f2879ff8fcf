"""Wake-ups: set from events that the log holds, and turned into decisions when they come due.

A timer never decides. It is set from an event read through a durable consumer, never beside an append, so
no crash can part a fact from its wake-up; when it fires, the job is loaded and `Wake` decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Wake
from switchyard.events.encoding.codec import event_name
from switchyard.events.errors import LimitError
from switchyard.events.events import (
    Accepted,
    AnyEvent,
    Blocked,
    CancelRequested,
    Claimed,
    ClaimRenewed,
    Failed,
    Proposed,
    Queued,
    Rejected,
    Repaired,
    ReviewClaimed,
    Scheduled,
    Submitted,
)
from switchyard.events.job import Job, decide, evolve
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.events.wakes import next_wake
from switchyard.services import clock
from switchyard.services.broker.publisher import Publisher
from switchyard.services.dispatch.blame import had_claim_alone
from switchyard.services.event_store import EventStore
from switchyard.services.records.lanes import Lanes, key_of
from switchyard.services.settings import Settings

log = structlog.get_logger()

ACTOR = "keeper"
LIMIT_PAUSE_S = 60.0


class Timers:
    """Sets wake-ups and acts on those that are due."""

    def __init__(
        self, nc: Client, store: EventStore, lanes: Lanes, publisher: Publisher, settings: Settings
    ) -> None:
        self._nc = nc
        self._store = store
        self._lanes = lanes
        self._publisher = publisher
        self._settings = settings

    async def on_event(self, job_id: JobId, event: AnyEvent, seq: Seq) -> None:
        """Set the wake-ups that an event asks for."""
        for purpose, at in wanted(event, seq):
            await self.set(job_id, purpose, at)

    async def set(self, job_id: JobId, purpose: str, at: datetime) -> None:
        """Wake a job at a time; replaces its wake-up for the same purpose."""
        headers = {
            subjects.H_SCHEDULE: f"@at {_utc(at).isoformat().replace('+00:00', 'Z')}",
            subjects.H_SCHEDULE_TARGET: subjects.timer_due(job_id, purpose),
        }
        await self._publisher.publish(subjects.timer(job_id, purpose), b"", headers)

    async def on_due(self, job_id: JobId, purpose: str) -> None:
        """Do what is due for the job of a wake-up, and set the next one; one that came early is set again."""
        woken, next_at = await self.wake(job_id)
        if next_at is None:
            return
        if not woken:  # by our clock it came too early: another server may have begun to fire timers
            await clock.CLOCK.ask(self._nc)
        await self.set(job_id, purpose, next_at)

    async def wake(self, job_id: JobId) -> tuple[bool, datetime | None]:
        """Decide what is due by now; whether something was, and when the next thing is."""
        settings = self._settings
        wake = Wake(
            now=clock.now(),
            cancel_grace_s=settings.cancel_grace_s,
            attempt_timeout_s=settings.attempt_timeout_s,
            jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
            poison_after=settings.poison_losses,
            innocent_max=settings.innocent_losses,
        )
        job = await self._store.load(job_id)
        ahead = decide(job, wake)
        if job.lease is not None and ahead is not None:  # a timed lease has ended
            blamed = await had_claim_alone(self._nc, job, timeout_s=settings.request_timeout_s)
            wake = msgspec.structs.replace(wake, blamed=blamed)
            ahead = decide(job, wake)
        if not await self._has_lane(job, ahead):
            return False, wake.now + timedelta(seconds=LIMIT_PAUSE_S)
        # What a job's own rule decides is the rule's doing, whoever writes it down.
        actor = ahead.reviewer if isinstance(ahead, Accepted | Rejected) else ACTOR
        job, event = await self._store.transition(job, wake, actor=actor)
        if event is not None:
            log.info("job_woken", job=job_id, recorded=event_name(event), state=job.status.value)
        return event is not None, next_wake(job)

    async def _has_lane(self, job: Job, ahead: AnyEvent | None) -> bool:
        """Whether the lane that the job would come into is there, or could be made now."""
        if not isinstance(ahead, Queued | Rejected) or self._lanes.ready(ahead.lane, ahead.priority):
            return True
        try:
            key = key_of(await self._store.spec(job.id), ahead.lane)
            await self._lanes.ensure(key, ahead.lane, ahead.priority, job.tenant)
        except LimitError as error:
            log.warning("wake_up_put_off", job=job.id, error=error.message)
            return False
        return True


def _utc(at: datetime) -> datetime:
    """The time in UTC; one outside of the years that there are is as near as possible."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return at.replace(tzinfo=UTC)


def wanted(event: AnyEvent, seq: Seq) -> Iterator[tuple[str, datetime]]:  # noqa: C901 - one arm an event
    """Purpose and time of each wake-up that an event asks for."""
    match event:
        case Submitted(job=spec):
            if spec.deadline_at:
                yield "deadline", spec.deadline_at
            if spec.ageing or spec.queue_timeout_s or spec.shared_lane:
                due_at = next_wake(evolve(Job(), event, seq))
                if due_at is not None:
                    yield "queue", due_at
        case Queued(wake_at=wake_at) | Rejected(wake_at=wake_at):
            if wake_at is not None:
                yield "queue", wake_at
        case Scheduled(start_at=start_at, job=spec):
            yield "start", start_at
            if spec is not None and spec.deadline_at:
                yield "deadline", spec.deadline_at
        case Blocked(job=spec) if spec is not None and spec.deadline_at:
            yield "deadline", spec.deadline_at
        case Failed(retry_at=retry_at):
            yield "retry", retry_at
        case Claimed(expires_at=expires_at) | ClaimRenewed(expires_at=expires_at):
            yield "lease", expires_at
        case Proposed(at=at, due_at=due_at, passed=passed) if passed or due_at is not None:
            # What has passed is accepted by whoever proposed it, unless they are gone.
            yield "verdict", at if due_at is None or passed else due_at
        case ReviewClaimed(expires_at=expires_at):
            yield "review", expires_at
        case CancelRequested(force_at=force_at):
            yield "cancel", force_at
        case Repaired():
            # Wake-ups of the time before were for nothing while the job was damaged.
            due_at = next_wake(evolve(Job(), event, seq))
            if due_at is not None:
                yield "repaired", due_at
        case _:
            return
