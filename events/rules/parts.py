"""Jobs that end in parts: what a plan may be, which jobs its parts are, and when they are joined.

A planning attempt ends with one event, which names its parts; they are submitted from its plan after that. So
a planner that dies has left nothing, and no part stands for two plans. The attempt that follows joins them.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from switchyard.events import allowed
from switchyard.events.commands import FailDependency, FanOut, RefusePart
from switchyard.events.errors import ConflictError, InvalidError
from switchyard.events.events import Cancelled, Dead, Expired, Parted
from switchyard.events.rules.ends import dead, stopped
from switchyard.events.state import Job
from switchyard.events.subjects import is_name
from switchyard.events.values import Part, Status
from switchyard.events.vocabulary.causes import DeadReason, DependencyFailure, EndCause, JoinPolicy
from switchyard.events.vocabulary.ids import JobId
from switchyard.events.vocabulary.refusals import RefusalCode

MAX_PARTS: Final = 1000
"""Parts of one job."""
MAX_DEPTH: Final = 8
"""How many jobs may be above one, each a part of the next."""
PART_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")
SHOWN_CHARS: Final = 64
_GO_ON: Final = frozenset({DependencyFailure.RUN, DependencyFailure.WAIT})
"""Policies by which a job outlives what it waits for."""


def parted(job: Job, command: FanOut) -> Parted | Cancelled | Expired | None:
    """The event that ends an attempt in parts; None when it has already.

    Raises:
        ConflictError: the lease is gone, or the job has ended in parts before (code `parted_before`).
        InvalidError: there are no parts or too many, one has no name or no kind, two have the same name, or
            the job is too deep itself.
    """
    fence = command.fence
    if job.status is Status.BLOCKED and job.parted_by == fence:
        return None
    allowed.current_lease(job, fence, "end in parts")
    if job.status is Status.CANCELLING:
        return stopped(job, command.now, EndCause.RELEASED)
    check_may_part(job)
    check_number(len(command.parts))
    names = set[str]()
    for at, (name, kind) in enumerate(command.parts):
        check_part(name, kind, names, field=f"parts[{at}]")
        names.add(name)
    parts = tuple(
        Part(command.kept.get(name) or part_id(job, name), name, kind) for name, kind in command.parts
    )
    policy, plan, usage = command.policy, command.plan, command.usage
    return Parted(at=command.now, fence=fence, parts=parts, policy=policy, plan=plan, usage=usage)


def check_may_part(job: Job) -> None:
    """Whether an attempt of the job may end in parts.

    Raises:
        ConflictError: code `parted_before`; it joins those of an attempt before it.
        InvalidError: code `too_deep`.
    """
    if job.parted_by:
        message = f"job {job.id} has ended in {len(job.parts)} parts before: this attempt joins them"
        raise ConflictError(message, code=RefusalCode.PARTED_BEFORE)
    if job.depth >= MAX_DEPTH:
        message = f"parts: job {job.id} is {job.depth} levels deep, of at most {MAX_DEPTH}: it has no parts"
        raise InvalidError(message, code=RefusalCode.TOO_DEEP, field="parts")


def check_number(parts: int) -> None:
    """Whether a job may have so many parts.

    Raises:
        InvalidError: code `no_parts` or `too_many_parts`.
    """
    if not parts:
        message = "parts: at least one was expected: an attempt without any ends with a result"
        raise InvalidError(message, code=RefusalCode.NO_PARTS, field="parts")
    if parts > MAX_PARTS:
        message = f"parts: {parts} of at most {MAX_PARTS}; a part may have parts of its own"
        raise InvalidError(message, code=RefusalCode.TOO_MANY_PARTS, field="parts")


def check_part(name: str, kind: str, taken: set[str], *, field: str) -> None:
    """Whether a part may have this name and kind.

    Args:
        name: what its job calls it.
        kind: that of the part.
        taken: names of the others.
        field: where it stands.

    Raises:
        InvalidError: code `invalid_part`.
    """
    rule = ""
    if PART_NAME.fullmatch(name) is None:
        field, rule = f"{field}.name", f"expected 1 to 64 of a-z 0-9 _ . -, not {name[:SHOWN_CHARS]!r}"
    elif name in taken:
        field, rule = f"{field}.name", f"another part is named {name!r}"
    elif not is_name(kind):
        field, rule = f"{field}.kind", f"{kind[:SHOWN_CHARS]!r} is no kind"
    if rule:
        raise InvalidError(f"{field}: {rule}", code=RefusalCode.INVALID_PART, field=field)


def part_id(job: Job, name: str) -> JobId:
    """The id of a part: a UUID of version 5, the same whenever an attempt ends in it before a redrive."""
    return JobId(str(uuid.uuid5(uuid.UUID(job.id), f"{job.redriven_seq}/{name}")))


def failed(job: Job, command: FailDependency) -> Cancelled | Dead | None:
    """What becomes of a job that waits for another which has not succeeded."""
    if job.status is not Status.BLOCKED:
        return None
    outcome = command.outcome.value
    if job.parted_by:
        if job.join_policy != JoinPolicy.ALL:
            return None
        names = {part.id: part.name for part in job.parts}
        message = f"part {names.get(command.dependency, '?')}, job {command.dependency}, is {outcome}"
        return dead(command.now, DeadReason.PART_FAILED, message)
    if job.on_dependency_failure in _GO_ON:
        return None
    message = f"job {command.dependency}, which it waits for, is {outcome}"
    if job.on_dependency_failure is DependencyFailure.CANCEL:
        return Cancelled(at=command.now, cause=EndCause.DEPENDENCY_DIED, reason=message)
    return dead(command.now, DeadReason.DEPENDENCY_DIED, message)


def refused(job: Job, command: RefusePart) -> Dead | None:
    """The end of a job one of whose parts cannot be submitted."""
    part = next((part for part in job.parts if part.id == command.part), None)
    if job.status is not Status.BLOCKED or not job.parted_by or part is None:
        return None
    message = f"part {part.name} cannot be submitted: {command.code}: {command.message}"
    return dead(command.now, DeadReason.PART_REFUSED, message)
