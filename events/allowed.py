"""What a state allows, and the refusal of what it does not."""

from __future__ import annotations

from typing import Final

from switchyard.events.commands import Accept, Judge, Reject
from switchyard.events.errors import ConflictError, ForbiddenError, PreconditionFailedError
from switchyard.events.state import Job
from switchyard.events.values import Lease, Review, ReviewRules, Status
from switchyard.events.vocabulary.ids import Fence
from switchyard.events.vocabulary.refusals import RefusalCode


def allowed_commands(status: Status) -> tuple[str, ...]:
    """The actions of the API that this state allows, for the answer to one that it does not."""
    return _ALLOWED[status]


_ALLOWED: Final[dict[Status, tuple[str, ...]]] = {
    Status.ABSENT: (),
    Status.SCHEDULED: ("cancel",),
    Status.BLOCKED: ("cancel",),
    Status.QUEUED: ("claim", "cancel", "reprioritise"),
    Status.RUNNING: ("succeed", "fail", "release", "propose", "part", "renew", "cancel"),
    Status.RETRYING: ("cancel",),
    Status.REVIEW: ("claim_review", "release_review", "accept", "reject", "cancel"),
    Status.CANCELLING: ("succeed", "fail", "release", "propose", "part", "renew", "cancel"),
    Status.SUCCEEDED: ("archive",),
    Status.DEAD: ("redrive", "discard", "archive"),
    Status.CANCELLED: ("archive",),
    Status.EXPIRED: ("archive",),
    Status.ARCHIVED: (),
}


def refused(job: Job, verb: str) -> ConflictError:
    """The refusal of what the state does not allow."""
    allowed = allowed_commands(job.status)
    named = ", ".join(allowed) or "nothing"
    message = f"cannot {verb} job {job.id}: it is {job.status.value}, which allows {named}"
    return ConflictError(message, code=RefusalCode.ILLEGAL_TRANSITION, allowed=allowed)


def current_lease(job: Job, fence: Fence, verb: str) -> Lease:
    """The job's lease, if it is the one that the fence names."""
    if job.lease is None:
        raise refused(job, verb)
    if job.lease.fence != fence:
        message = f"cannot {verb} job {job.id}: lease {fence} is lost; lease {job.lease.fence} runs it now"
        raise ConflictError(message, code=RefusalCode.LEASE_LOST, allowed=allowed_commands(job.status))
    return job.lease


def claimed_review(job: Job, reviewer: str, verb: str) -> Review:
    """The job's review, if nobody else has claimed it."""
    if job.status is not Status.REVIEW or job.review is None:
        raise refused(job, verb)
    if job.review.reviewer not in (None, reviewer):
        message = f"cannot {verb} job {job.id}: {job.review.reviewer} has claimed its review"
        raise ConflictError(message, code=RefusalCode.REVIEW_CLAIMED, allowed=allowed_commands(job.status))
    return job.review


def check_accepts(job: Job, command: Accept) -> None:
    """Refuse to accept no proposal, one's own, one that another judges, and another than was meant."""
    review = claimed_review(job, command.reviewer, "accept")
    if command.reviewer == review.by and (job.review_rules or ReviewRules()).four_eyes:
        message = f"cannot accept job {job.id}: {command.reviewer} proposed its result, and another has to"
        raise ForbiddenError(message, code=RefusalCode.FOUR_EYES)
    _check_meant(job, command)


def check_rejects(job: Job, command: Reject) -> None:
    """Refuse to send back no proposal, one that another judges, and another than was meant."""
    claimed_review(job, command.reviewer, "reject")
    _check_meant(job, command)


def _check_meant(job: Job, command: Judge) -> None:
    # It comes last: a refusal without a condition goes before. Source: RFC 9110, section 13.2.1.
    if command.attempts is not None and job.attempt not in command.attempts:
        message = f"the proposal of job {job.id} is that of attempt {job.attempt}: read it first"
        raise PreconditionFailedError(message, field="If-Match")
