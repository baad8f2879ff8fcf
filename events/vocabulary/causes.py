"""Why something happened to a job, in the words that stand in the log.

The values are stored for ever: a member may get another name in code, its value never changes. Fields of
events that hold them stay `str`, because a log may hold a word of a later version: it is kept and shown as it
is. An enum in such a field would make the whole event unreadable and damage its job. So these are for writing
and comparing; a test holds what `decide` writes against them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class QueuedCause(StrEnum):
    """Why a job is in its lane again."""

    START_DUE = "start_due"
    UNBLOCKED = "unblocked"
    RETRY_DUE = "retry_due"
    RELEASED = "released"
    LEASE_LOST = "lease_lost"
    CLAIM_EXPIRED = "claim_expired"
    REPRIORITISED = "reprioritised"
    AGED = "aged"
    REQUEUED = "requeued"
    REDRIVEN = "redriven"
    RETRIED = "retried"
    """Somebody wants the next attempt at once, by any worker: also by the one that failed the last."""
    SHARED = "shared"
    """It is loosely isolated, and no longer kept for its tenant's own workers."""


STILL_WAITING: Final = frozenset(
    {QueuedCause.REPRIORITISED, QueuedCause.AGED, QueuedCause.REQUEUED, QueuedCause.SHARED}
)
"""Causes that put a job into a lane again in which, or in another of its kind, it has been waiting."""

LOST: Final = frozenset({QueuedCause.LEASE_LOST, QueuedCause.CLAIM_EXPIRED})
"""Causes that say that the attempt before lost its lease."""


class EndCause(StrEnum):
    """Why a job was cancelled or expired."""

    REQUESTED = "requested"
    """Cancelled while it waited."""
    DEPENDENCY_DIED = "dependency_died"
    """Cancelled with a job that it waited for."""
    WAITING = "waiting"
    """Expired: its deadline passed while it waited."""
    NOT_STARTED = "not_started"
    """Expired: its time in the queue is over."""
    NOT_REVIEWED = "not_reviewed"
    """Expired: its review's time is over."""
    CONFIRMED = "confirmed"
    """The attempt was asked to stop, and its holder says that it has."""
    FAILED = "failed"
    """The attempt failed after it was asked to stop."""
    RELEASED = "released"
    """The attempt was given back, or proposed a result, after it was asked to stop."""
    LEASE_LOST = "lease_lost"
    """The attempt lost its lease after it was asked to stop."""
    FORCED = "forced"
    """The attempt did not stop in time."""


class ReviewReleasedCause(StrEnum):
    """Why a claimed review is free again."""

    RELEASED = "released"
    EXPIRED = "expired"


class DeadReason(StrEnum):
    """Why a job is dead; also the code of its error, where no attempt has given one."""

    NOT_RETRYABLE = "not_retryable"
    FAILURES_SPENT = "failures_spent"
    POISON = "poison"
    DEPENDENCY_DIED = "dependency_died"
    REJECTED_TOO_OFTEN = "rejected_too_often"
    RELEASED_TOO_OFTEN = "released_too_often"
    DAMAGED = "damaged"
    PART_FAILED = "part_failed"
    """A part of it has not succeeded."""
    PART_REFUSED = "part_refused"
    """A part of it could not be submitted."""


FAILED: Final = frozenset({DeadReason.NOT_RETRYABLE, DeadReason.FAILURES_SPENT, DeadReason.POISON})
"""Reasons that count the last attempt as a failure."""


class DependencyFailure(StrEnum):
    """What a blocked job does when one that it waits for ends as dead, cancelled or expired."""

    DEAD = "dead"
    CANCEL = "cancel"
    RUN = "run"
    WAIT = "wait"
    """It stays blocked until that one has succeeded after all."""


class JoinPolicy(StrEnum):
    """What becomes of a job when a part of it does not succeed."""

    ALL = "all"
    """It is dead, and the parts that have not ended are cancelled."""
    COLLECT = "collect"
    """It is joined once all parts have ended, however they did."""


class ReviewDeadline(StrEnum):
    """What becomes of a proposal that nobody has judged in time."""

    ACCEPT = "accept"
    REJECT = "reject"
    EXPIRE = "expire"
