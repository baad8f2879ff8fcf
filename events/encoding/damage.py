"""What may be done with a damaged job: give it a state again, or put it away.

A damaged job has an event that cannot be read (`switchyard.events.state`). Nothing else is decided about it:
callers get a conflict, and what the keeper and workers would do by themselves comes to nothing. Where a newer
version wrote the event, nothing at all may be decided before this one is upgraded.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from switchyard.events.commands import (
    AnyCommand,
    Archive,
    Discard,
    FailDependency,
    LoseLease,
    RefusePart,
    Repair,
    Requeue,
    Unblock,
    Wake,
)
from switchyard.events.errors import ConflictError, NewerVersionError
from switchyard.events.events import AnyEvent, Archived, Repaired
from switchyard.events.state import Job
from switchyard.events.values import FINAL, JobError, Status
from switchyard.events.vocabulary.causes import DeadReason
from switchyard.events.vocabulary.ids import LaneId
from switchyard.events.vocabulary.refusals import RefusalCode

ALLOWED: Final = ("repair", "discard")
_BY_ITSELF: Final = (Wake, Unblock, FailDependency, RefusePart, LoseLease, Requeue, Archive)
_GOES_ON: Final = FINAL | {Status.SCHEDULED, Status.BLOCKED, Status.RETRYING, Status.REVIEW}
_TARGETS: Final = frozenset({Status.QUEUED, Status.DEAD, Status.CANCELLED})


def decide_damaged(job: Job, command: AnyCommand) -> AnyEvent | None:
    """The event that a command makes of a damaged job, or None when there is nothing to do.

    Raises:
        ConflictError: code `damaged`; the command is for whole jobs, or the wanted state is not possible.
        NewerVersionError: a newer version of the program wrote the job's log.
    """
    damage = job.damage
    if damage is None:
        raise AssertionError("the job is whole")
    if damage.newer:
        raise refuse_damaged(job)
    match command:
        case Discard(by=by, reason=reason):
            summary = _summary(job, command.now, damage.reason)
            return Archived(at=command.now, status=Status.DEAD, summary=summary, by=by, reason=reason)
        case Repair():
            return _repaired(job, command)
        case Archive(by=by) if by:
            raise refuse_damaged(job)
        case _ if isinstance(command, _BY_ITSELF):
            return None
        case _:
            raise refuse_damaged(job)


def refuse_damaged(job: Job) -> ConflictError | NewerVersionError:
    """Why nothing that is for whole jobs is done with a damaged one."""
    damage = job.damage
    if damage is None:
        raise AssertionError("the job is whole")
    where = f"event {damage.seq} of job {job.id}"
    if damage.newer:
        return NewerVersionError(f"{where} was written by a newer version: {damage.reason}")
    message = f"job {job.id} is damaged: {where} cannot be read: {damage.reason}"
    return ConflictError(message, code=RefusalCode.DAMAGED, allowed=ALLOWED)


def refuse_whole(job: Job) -> ConflictError:
    """Why a job that is whole is not repaired."""
    return ConflictError(f"cannot repair job {job.id}: it is not damaged", code=RefusalCode.NOT_DAMAGED)


def _repaired(job: Job, command: Repair) -> Repaired:
    if job.status is Status.ABSENT:
        message = f"cannot repair job {job.id}: not even its first event can be read; it can be discarded"
        raise ConflictError(message, code=RefusalCode.NOTHING_TO_REPAIR, allowed=("discard",))
    to = command.to or _by_default(job)
    if to not in _TARGETS and to is not job.status:
        message = f"cannot repair job {job.id} to {to.value}: queued, dead or cancelled were expected"
        raise ConflictError(message, code=RefusalCode.ILLEGAL_REPAIR, allowed=ALLOWED)
    state = _state(job, to, command)
    queued = to is Status.QUEUED
    return Repaired(
        at=command.now, by=command.by, reason=command.reason, state=_builtins(state),
        lane=state.lane if queued else LaneId(""), priority=state.own_priority if queued else 50,
    )  # fmt: skip


def _by_default(job: Job) -> Status:
    """The state before, if nothing was lost that it needs; a lost attempt is made again."""
    if job.status in _GOES_ON:
        return job.status
    return Status.CANCELLED if job.status is Status.CANCELLING else Status.QUEUED


def _state(job: Job, to: Status, command: Repair) -> Job:
    change = msgspec.structs.replace
    whole = change(job, damage=None)
    if to is job.status and to is not Status.QUEUED:
        return whole
    whole = change(whole, status=to, lease=None, review=None, retry_at=None, cancellation=None)
    if to is Status.QUEUED:
        passed = whole.deadline_at is not None and whole.deadline_at <= command.now
        return change(
            whole, lost=0, reason=None, ended_at=None, deadline_at=None if passed else whole.deadline_at,
            failures=min(whole.failures, whole.max_attempts - 1),
        )  # fmt: skip
    whole = change(whole, ended_at=command.now, reason=DeadReason.DAMAGED if to is Status.DEAD else None)
    if to is Status.DEAD:
        reason = job.damage.reason if job.damage else ""
        whole = change(whole, error=JobError(DeadReason.DAMAGED, reason, retryable=False))
    return whole


def _builtins(state: Job) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(state)
    fields.pop("id", None)
    return fields


def _summary(job: Job, now: datetime, why: str) -> dict[str, Any]:
    """What a discarded job is still known by."""
    known = {
        "kind": job.kind, "tenant": job.tenant, "labels": job.labels, "attempt": job.attempt,
        "reason": DeadReason.DAMAGED, "error": JobError(DeadReason.DAMAGED, why, retryable=False),
        "created_at": job.created_at, "started_at": job.started_at, "ended_at": job.ended_at or now,
    }  # fmt: skip
    summary: dict[str, Any] = msgspec.to_builtins(known)
    return {name: value for name, value in summary.items() if value is not None}
