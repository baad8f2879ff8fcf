"""The leases under which agents hold tasks: how long they last, and what is left of one that has lapsed.

A lease that has lapsed ends no work by itself: as long as nobody else has taken the task, its holder may
prolong it or hand the work in. The fence, or that of `lease_id`, refuses who comes after another did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from switchyard.events.commands import Claim, ClaimReview, Redrive, RenewClaim
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.events import (
    AnyEvent,
    Claimed,
    Dead,
    Leased,
    Queued,
    ReviewClaimed,
    ReviewReleased,
    Unreadable,
)
from switchyard.events.rules.ends import loss
from switchyard.events.values import Status
from switchyard.events.vocabulary.causes import LOST, ReviewReleasedCause
from switchyard.events.vocabulary.ids import JobId, Revision
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.desk import Desk, is_system
from switchyard.services.gateway.doors.octopoid.moves import act, lease_of
from switchyard.services.gateway.doors.octopoid.tasks import CLAIMED, RUNS, Task
from switchyard.services.gateway.operations.leases import attempt_ends_at

MAX_DIGITS: Final = 18
CLOCKS_S: Final = 60.0
"""By how much the clocks of clients may be ahead."""
BRIEF: Final = timedelta(seconds=60)
"""How long a lease lasts that was taken again, unless it is prolonged."""


def check_lease_s(desk: Desk, lease_s: float, field: str) -> None:
    """Let a lease pass that is not too long.

    Raises:
        InvalidError: it is.
    """
    most = desk.settings.octopoid_lease_max_s
    if lease_s > most:
        raise InvalidError(f"{field}: a lease of at most {most:g} s was expected", field=field)


async def holding(desk: Desk, task: Task, lease_id: str | None) -> Task:
    """The task as its holder has it, who takes it again if only the lease has lapsed.

    Args:
        desk: that of its scope.
        task: as it stands.
        lease_id: the lease that the holder names, if it names one.

    Raises:
        ConflictError: code `lease_lost`; the lease is another's, or there is none.
        UnavailableError: the broker does not answer.
    """
    if await _has_lapsed(desk, task, lease_id):
        return await _taken_again(desk, task)
    check_holder(task, lease_id)
    return task


def check_holder(task: Task, lease_id: str | None) -> None:
    """Let a request pass that names no lease, or the one under which the task runs.

    Raises:
        ConflictError: code `lease_lost`; it names another.
    """
    lease = task.job.lease
    if lease_id is not None and (lease is None or lease_id != f"{task.job.id}.{lease.fence}"):
        raise ConflictError("the lease is lost: another runs the task, or none", code="lease_lost")


async def _has_lapsed(desk: Desk, task: Task, lease_id: str | None) -> bool:
    """Whether all that has happened since somebody held the task is that its lease lapsed."""
    job = task.job
    if job.status is Status.REVIEW:
        is_free = job.review is not None and job.review.reviewer is None
    else:
        is_free = job.status in (Status.QUEUED, Status.DEAD) and not is_system(job.worker)
    last = await desk.store.last_of_leader(job.id) if is_free else None
    if last is None or last.seq != job.seq or not _is_lapse(last.event):
        return False
    if lease_id is None or job.status is Status.REVIEW:
        return True
    fence = lease_id.removeprefix(f"{job.id}.")
    if not fence.isascii() or not fence.isdecimal() or len(fence) > MAX_DIGITS:
        return False
    since = [event async for event in _events(desk, job.id, int(fence) - 1)]
    return bool(since) and isinstance(since[0], Claimed) and not any(
        isinstance(event, Claimed | Leased) for event in since[1:]
    )  # fmt: skip


def _is_lapse(event: object) -> bool:
    match event:
        case Queued(cause=cause):
            return cause in LOST
        case Dead():
            return bool(loss(event))
        case ReviewReleased(cause=cause):
            return cause == ReviewReleasedCause.EXPIRED
        case _:
            return False


async def _taken_again(desk: Desk, task: Task) -> Task:
    """The task with the holder that it had, for a moment."""
    at = clock.now()
    job = task.job
    if job.status is Status.REVIEW:
        past = _events(desk, job.id, 0)
        reviewers = [event.reviewer async for event in past if isinstance(event, ReviewClaimed)]
        review = ClaimReview(now=at, reviewer=reviewers[-1], expires_at=at + BRIEF)
        return await act(desk, task, review, desk.caller.actor)
    if job.worker is None:
        raise AssertionError("a lease that lapsed had a holder")
    by = f"worker:{job.worker}"
    if job.status is Status.DEAD:  # its lease lapsed again and again
        task = await act(desk, task, Redrive(now=at), by)
    claim = Claim(now=at, worker=job.worker, revision=Revision(0), expires_at=at + BRIEF)
    return await act(desk, task, claim, by)


async def _events(desk: Desk, job_id: JobId, after: int) -> AsyncIterator[AnyEvent | Unreadable]:
    while page := await desk.store.history(job_id, after=after):
        for entry in page:
            yield entry.event
        after = page[-1].seq


async def renewed(desk: Desk, task: Task, expires_at: datetime, field: str) -> Task:
    """The task under a lease, of work or of a review, that ends later.

    Args:
        desk: that of its scope.
        task: as its holder has it.
        expires_at: when it is to end.
        field: which says so.

    Raises:
        InvalidError: that is too far ahead.
        ConflictError: nobody holds it.
    """
    job, now = task.job, clock.now()
    check_lease_s(desk, (expires_at - now).total_seconds() - CLOCKS_S, field)
    if job.status is Status.REVIEW and job.review is not None and job.review.reviewer is not None:
        command = ClaimReview(now=now, reviewer=job.review.reviewer, expires_at=expires_at)
        return await act(desk, task, command, desk.caller.actor)
    check_lease(task, "renew")
    lease = lease_of(desk, task)
    expires_at = min(expires_at, attempt_ends_at(job, desk.settings.attempt_timeout_s) or expires_at)
    if expires_at <= now:
        raise ConflictError("Failed to renew task: the lease would end in the past", code="lease_expired")
    renewal = RenewClaim(now=now, fence=lease.fence, expires_at=expires_at)
    task = await act(desk, task, renewal, f"worker:{lease.worker}")
    await desk.leases.claiming.prolonged(lease, job, expires_at)
    return task


def check_lease(task: Task, verb: str) -> None:
    """Let a task pass that an agent works on, also if the lease's time is over and nobody has noticed yet.

    Raises:
        ConflictError: nobody does.
    """
    if task.job.status not in RUNS or task.queue != CLAIMED or task.job.lease is None:
        message = f"Failed to {verb} task: it is in {task.queue}, expected claimed"
        raise ConflictError(message, code="wrong_queue")
