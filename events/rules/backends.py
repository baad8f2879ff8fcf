"""Attempts that a back end carries on by itself: under a timed lease that names it, whoever watches.

A worker or pusher that dies ends no such attempt. Whoever sees the back end at work prolongs the lease, and
whoever sees it dead ends the attempt; the time of the attempt decides if nobody ever hears of it again.
"""

from __future__ import annotations

from datetime import datetime

from switchyard.events import allowed
from switchyard.events.commands import Delegate, OfBackend, RenewDelegated
from switchyard.events.errors import ConflictError
from switchyard.events.events import ClaimRenewed
from switchyard.events.numbers import later
from switchyard.events.state import Job
from switchyard.events.values import Backend, Status
from switchyard.events.vocabulary.ids import Fence
from switchyard.events.vocabulary.refusals import RefusalCode


def delegated(job: Job, command: Delegate) -> ClaimRenewed | None:
    """The event that leaves an attempt to a back end; None when it has it already, by this name.

    An id of the work is noted once and never changed: a second taker that has started the work again is
    refused, and has to stop what it started.

    Raises:
        ConflictError: the lease is gone, the job is to stop, or it has another back end or another id.
    """
    fence, backend = command.fence, command.backend
    lease = allowed.current_lease(job, fence, "delegate")
    has = lease.backend
    if has is not None:
        if not has.is_at(backend):
            message = f"job {job.id} is with {has.kind} {has.id} already"
            raise ConflictError(message, code=RefusalCode.DELEGATED)
        if backend.remote_id in ("", has.remote_id):
            return None
        if has.remote_id:
            message = f"{has.kind} {has.id} has job {job.id} as {has.remote_id} already"
            raise ConflictError(message, code=RefusalCode.DELEGATED)
    if job.status is Status.CANCELLING:
        raise allowed.refused(job, "delegate")
    until = _until(job, command)
    return ClaimRenewed(at=command.now, fence=fence, expires_at=until, backend=backend)


def renewed(job: Job, command: RenewDelegated) -> ClaimRenewed | None:
    """The event that prolongs the lease of a back end seen at work; None while over half of its time is left.

    So any number of watchers write one event in half a lease.

    Raises:
        ConflictError: the lease is gone, or the attempt is not with that back end.
    """
    fence = command.fence
    lease = allowed.current_lease(job, fence, "renew")
    if lease.expires_at is None or not is_with(job, fence, command.backend):
        message = f"job {job.id} is not with {command.backend.kind} {command.backend.id}"
        raise ConflictError(message, code=RefusalCode.NOT_DELEGATED)
    until = _until(job, command)
    left, whole = lease.expires_at - command.now, command.expires_at - command.now
    if until <= lease.expires_at or left > whole / 2:
        return None
    return ClaimRenewed(at=command.now, fence=fence, expires_at=until)


def is_with(job: Job, fence: Fence, backend: Backend) -> bool:
    """Whether this lease is the job's, and its attempt is with that back end."""
    lease = job.lease
    return lease is not None and lease.fence == fence and lease.backend is not None and (
        lease.backend.is_at(backend)
    )  # fmt: skip


def _until(job: Job, command: OfBackend) -> datetime:
    """When the lease ends: with the attempt's time at the latest, so that it has timed out then."""
    timeout_s = job.attempt_timeout_s or command.attempt_timeout_s
    if timeout_s is None or job.started_at is None:
        return command.expires_at
    return min(command.expires_at, later(job.started_at, timeout_s))
