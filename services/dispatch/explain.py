"""Why a job waits, or ended as it did: pure, from what the log, the workers and the limits say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.numbers import later
from switchyard.events.requirements.matching import Clause, explain
from switchyard.events.values import FINAL, Damage, Status
from switchyard.events.vocabulary.causes import EndCause
from switchyard.events.wakes import too_late
from switchyard.projections.job_view import next_attempt_at
from switchyard.services.records.workers import AVOID_S, UNREGISTERED, WorkerRecord

SHOWN_WORKERS: Final = 100
SHOWN_VALUES: Final = 5
RUNNING: Final = "running"


class LimitUse(NamedTuple):
    """A limit of the job's lane with what is taken of it."""

    name: str
    concurrency: int | None
    running: int
    per_minute: int | None
    starts_left: bool

    @property
    def is_full(self) -> bool:
        """Whether it holds up the next start."""
        return not self.starts_left or (self.concurrency is not None and self.running >= self.concurrency)


class Situation(NamedTuple):
    """What surrounds a waiting job.

    Args:
        key: what its lane is made of.
        ahead: how many jobs of its lane go before it.
        workers: all that are alive.
        limits: those of its lane.
        paused: `lane` or `kind`, where an operator has paused it.
        parents: state by id of the jobs that it waits for.
        now: the time.
        held: why no job starts, where the event log is too full.
    """

    key: LaneKey
    ahead: int
    workers: Sequence[WorkerRecord]
    limits: Sequence[LimitUse] = ()
    paused: Sequence[str] = ()
    parents: Mapping[str, str] = {}
    now: datetime | None = None
    held: str | None = None


class WaitReason(StrEnum):
    """Why a job waits, where its state alone does not say it; a final job has the reason of its end."""

    OVERDUE = "overdue"
    PAUSED = "paused"
    STORAGE_FULL = "storage_full"
    NO_WORKER_FITS = "no_worker_fits"
    LIMIT = "limit"
    WORKERS_PAUSED = "workers_paused"
    ABOUT_TO_START = "about_to_start"
    BUSY = "busy"
    SCHEDULED = "scheduled"
    RELEASED = "released"
    BLOCKED = "blocked"
    RETRYING = "retrying"
    REVIEW = "review"
    SUCCEEDED = "succeeded"
    DAMAGED = "damaged"
    NEWER_VERSION = "newer_version"


class Verdict(StrEnum):
    """What a worker is to a lane, the nearest first; another state of a worker stands for itself."""

    FREE = "free"
    BUSY = "busy"
    PAUSED = "paused"
    UNREGISTERED = UNREGISTERED
    DRAINING = "draining"
    DOES_NOT_FIT = "does_not_fit"
    ISOLATION = "isolation"
    OTHER_KIND = "other_kind"


_FITS: Final = (Verdict.FREE, Verdict.BUSY, Verdict.PAUSED, Verdict.UNREGISTERED)


class _Verdict(NamedTuple):
    """One worker's answer to a lane."""

    record: WorkerRecord
    verdict: str
    message: str
    clauses: tuple[Clause, ...]


def explained(job: Job, situation: Situation) -> dict[str, Any]:
    """Why the job is where it is.

    Returns:
        `{"job_id", "state", "releases", "next_attempt_at", "reason", "summary"}`, for a damaged job
        `"would_help"`, and for one that waits for a worker `"lane"`, `"workers"`, `"limits"`, `"paused"`,
        `"nearest_miss"` and `"would_help"`.
    """
    head = {
        "job_id": job.id,
        "state": job.status.value,
        "releases": job.releases,
        "next_attempt_at": next_attempt_at(job),
    }
    if job.damage is not None:
        reason, summary, would_help = _damaged(job, job.damage)
        return {**head, "reason": reason, "summary": summary, "would_help": would_help}
    if job.status is not Status.QUEUED:
        reason, summary = _elsewhere(job, situation)
        return {**head, "reason": reason, "summary": summary}
    verdicts = sorted(
        (_verdict(record, situation.key, job.tenant) for record in situation.workers), key=_nearness
    )
    nearest = _nearest_miss(verdicts)
    reason, summary, would_help = _waiting(job, situation, verdicts, nearest)
    return {
        **head,
        "reason": reason,
        "summary": summary,
        "lane": {"id": job.lane, "priority": job.priority, "ahead": situation.ahead}
        | _conditions(situation.key),
        "workers": [_view(verdict) for verdict in verdicts[:SHOWN_WORKERS]],
        "limits": [{**limit._asdict(), "full": limit.is_full} for limit in situation.limits],
        "paused": list(situation.paused),
        "nearest_miss": nearest,
        "would_help": would_help,
    }


def _conditions(key: LaneKey) -> dict[str, Any]:
    conditions: dict[str, Any] = msgspec.to_builtins(
        {name: getattr(key, name) for name in ("kind", "requires", "prefers", "isolation", "limits")}
    )
    return conditions


# --- Workers


def _verdict(record: WorkerRecord, key: LaneKey, tenant: str) -> _Verdict:
    if key.kind not in record.kinds:
        return _Verdict(record, Verdict.OTHER_KIND, f"it does not run {key.kind}", ())
    if not (record.admitted(key) and record.runs_for(tenant)):
        message = (
            f"the job is isolated: {key.isolation}"
            if record.tenant is None
            else f"it is dedicated to tenant {record.tenant}"
        )
        return _Verdict(record, Verdict.ISOLATION, message, ())
    found = [tuple(explain(key.requires, each)) for each in record.abilities(key.kind)]
    if clauses := min(found, key=len):  # of several connectors, the one that is nearest
        message = "; ".join(clause.message for clause in clauses)
        return _Verdict(record, Verdict.DOES_NOT_FIT, message, clauses)
    if record.state != RUNNING:
        return _Verdict(record, record.state, f"it fits, but is {record.state}", ())
    if not record.has_free_slot:
        return _Verdict(record, Verdict.BUSY, f"it fits, and all of its {record.slots} slots are taken", ())
    return _Verdict(record, Verdict.FREE, "it fits and has a free slot", ())


_ORDER: Final = tuple(Verdict)


def _nearness(verdict: _Verdict) -> tuple[int, int, str]:
    place = _ORDER.index(verdict.verdict) if verdict.verdict in _ORDER else len(_ORDER)
    return place, len(verdict.clauses), verdict.record.id


def _view(verdict: _Verdict) -> dict[str, Any]:
    failed: list[dict[str, Any]] = msgspec.to_builtins(verdict.clauses)
    return {
        "id": verdict.record.id,
        "verdict": verdict.verdict,
        "message": verdict.message,
        "failed": failed,
        "slots": verdict.record.slots,
        "running": len(verdict.record.fences),
    }


def _nearest_miss(verdicts: Sequence[_Verdict]) -> dict[str, Any] | None:
    """The one clause whose change would let the most workers in, as long as no worker fits."""
    if any(verdict.verdict in _FITS for verdict in verdicts):
        return None
    groups: dict[tuple[str, str], list[_Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if len(verdict.clauses) == 1:
            clause = verdict.clauses[0]
            groups[clause.path, clause.operator].append(verdict)
    if not groups:
        return None
    (path, operator), members = max(groups.items(), key=lambda group: (len(group[1]), group[0]))
    clauses = [member.clauses[0] for member in members]
    wanted = clauses[0].wanted
    found = [clause.found for clause in clauses if not clause.missing]
    change = _change(operator, found) if len(found) == len(clauses) else None
    count = f"{len(members)} worker{'s' if len(members) > 1 else ''}"
    shown = f"{path} {_SIGNS.get(operator, operator)} {_json(wanted)}" if path else "the alternatives"
    would = (
        f"were {_SIGNS.get(operator, operator)} {_json(change)}"
        if change is not None
        else "were not required"
    )
    return {
        "workers": [member.record.id for member in members[:SHOWN_WORKERS]],
        "path": path,
        "operator": operator,
        "wanted": wanted,
        "found": found[:SHOWN_VALUES],
        "change_to": change,
        "message": f"{count} would fit if {shown} {would}",
    }


_SIGNS: Final = {"$eq": "=", "$ne": "≠", "$gt": ">", "$gte": "≥", "$lt": "<", "$lte": "≤"}


def _change(operator: str, found: Sequence[Any]) -> Any:
    """The operand with which all of these values would do, if there is one."""
    comparable = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
    match operator:
        case "$gte" if comparable:
            return min(found)
        case "$lte" if comparable:
            return max(found)
        case "$eq" if all(value == found[0] for value in found) and not isinstance(found[0], (list, dict)):
            return found[0]
        case _:
            return None


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- Reasons


def _waiting(
    job: Job, situation: Situation, verdicts: Sequence[_Verdict], nearest: dict[str, Any] | None
) -> tuple[str, str, list[str]]:
    """The reason, a sentence, and what would have to change."""
    key = situation.key
    if situation.now is not None and (late := too_late(job, situation.now)) is not None:
        summary = "its deadline is over" if late.cause == EndCause.WAITING else "its time to start is over"
        return WaitReason.OVERDUE, f"{summary}: it will not start, and ends as expired", []
    if situation.paused:
        what = " and ".join(f"{name} {key.kind if name == 'kind' else job.lane}" for name in situation.paused)
        return WaitReason.PAUSED, f"an operator has paused {what}", [f"resume {what}"]
    if situation.held is not None:
        reason, _, advice = situation.held.rpartition(": ")
        return WaitReason.STORAGE_FULL, f"no job starts: {reason}", [advice]
    counted = {name: [v for v in verdicts if v.verdict == name] for name in _ORDER}
    fitting = counted[Verdict.FREE] + counted[Verdict.BUSY] + counted[Verdict.PAUSED]
    if not fitting:
        return WaitReason.NO_WORKER_FITS, *_nobody(key, counted, nearest)
    full = [limit for limit in situation.limits if limit.is_full]
    if full:
        names = ", ".join(limit.name for limit in full)
        return (
            WaitReason.LIMIT, f"limit {names} is used up",
            [f"raise limit {names}, or wait until one of its jobs ends or its minute is over"],
        )  # fmt: skip
    if not counted[Verdict.FREE] and not counted[Verdict.BUSY]:
        names = ", ".join(verdict.record.id for verdict in counted[Verdict.PAUSED][:SHOWN_VALUES])
        return WaitReason.WORKERS_PAUSED, f"the workers that fit are paused: {names}", [f"resume {names}"]
    ahead = f"{situation.ahead} job{'s go' if situation.ahead != 1 else ' goes'} before it in its lane"
    if counted[Verdict.FREE]:
        if (left := _left_to_others(job, situation, counted[Verdict.FREE])) is not None:
            return WaitReason.ABOUT_TO_START, f"{left}; {ahead}", []
        free = f"{len(counted[Verdict.FREE])} fitting workers have a free slot"
        return WaitReason.ABOUT_TO_START, f"{free}; {ahead}", []
    return (
        WaitReason.BUSY, f"all {len(counted[Verdict.BUSY])} workers that fit are busy; {ahead}",
        ["start more workers that fit, or raise the job's priority"],
    )  # fmt: skip


def _left_to_others(job: Job, situation: Situation, free: Sequence[_Verdict]) -> str | None:
    """What is said of a worker that leaves the job to others, because it has failed it last."""
    others = [verdict for verdict in free if verdict.record.id != job.failed_worker]
    if len(others) in (0, len(free)) or situation.now is None or job.queued_at is None:
        return None
    until = later(job.queued_at, AVOID_S)
    if until <= situation.now:
        return None
    return (
        f"{len(others)} fitting workers have a free slot; {job.failed_worker}, which failed it last, "
        f"leaves it to them until {until:%Y-%m-%dT%H:%M:%SZ}"
    )


def _nobody(
    key: LaneKey, counted: Mapping[Verdict, Sequence[_Verdict]], nearest: dict[str, Any] | None
) -> tuple[str, list[str]]:
    if counted[Verdict.UNREGISTERED]:
        names = ", ".join(verdict.record.id for verdict in counted[Verdict.UNREGISTERED][:SHOWN_VALUES])
        summary = f"the workers that fit take no jobs while the broker refuses what they declare: {names}"
        return summary, ["make room in the broker's buckets capabilities and workers"]
    if nearest is not None:
        what = "a {} worker that has it" if nearest["path"] else "another {} worker"
        start = f"start {what.format(key.kind)}"
        return f"no worker fits: {nearest['message']}", [nearest["message"], start]
    if counted[Verdict.DOES_NOT_FIT]:
        several = min(len(verdict.clauses) for verdict in counted[Verdict.DOES_NOT_FIT])
        summary = (
            f"no worker fits: each of the {len(counted[Verdict.DOES_NOT_FIT])} that run {key.kind} "
            f"fails at least {several} parts of the requirement"
        )
        return summary, [f"start a {key.kind} worker that fits, or require less"]
    if counted[Verdict.ISOLATION]:
        return (
            f"the job is isolated ({key.isolation}), and none of the workers is its tenant's own",
            [f"start a worker with --tenant {key.isolation.partition(':')[2]}"],
        )
    return f"no live worker runs {key.kind}", [f"start a worker that runs {key.kind}"]


def _damaged(job: Job, damage: Damage) -> tuple[str, str, list[str]]:
    """The reason, a sentence, and what can be done; the state is that before the damage."""
    what = f"event {damage.event!r} at sequence {damage.seq}"
    if damage.newer:
        summary = f"a newer version of Switchyard wrote its {what}: {damage.reason}"
        return WaitReason.NEWER_VERSION, summary, ["upgrade this Switchyard; nothing is decided before that"]
    summary = f"its {what} cannot be read: {damage.reason}"
    if job.status is Status.ABSENT:
        return WaitReason.DAMAGED, f"{summary}; nothing of the job is known", ["discard it"]
    summary = f"{summary}; before that it was {job.status.value}"
    return WaitReason.DAMAGED, summary, ["repair it, or discard it"]


def _elsewhere(job: Job, situation: Situation) -> tuple[str, str]:
    """The reason and a sentence for a job that is not in a lane."""
    match job.status:
        case Status.SCHEDULED:
            if job.releases:
                again = f"it comes again at {job.start_at:%Y-%m-%dT%H:%M:%SZ}"
                return WaitReason.RELEASED, f"its last {job.releases} attempts gave it back; {again}"
            return WaitReason.SCHEDULED, f"it starts at {job.start_at:%Y-%m-%dT%H:%M:%SZ}"
        case Status.BLOCKED:
            waits = [f"{parent} ({state})" for parent, state in situation.parents.items()]
            shown = ", ".join(waits[:SHOWN_VALUES])
            return (
                WaitReason.BLOCKED,
                f"it waits for {len(waits)} other job{'s' if len(waits) != 1 else ''}: {shown}",
            )
        case Status.RETRYING:
            code = job.error.code if job.error else "failed"
            due = f"{job.retry_at:%Y-%m-%dT%H:%M:%SZ}"
            return WaitReason.RETRYING, f"attempt {job.attempt} failed ({code}); the next is due at {due}"
        case Status.RUNNING | Status.CANCELLING:
            verb = "runs" if job.status is Status.RUNNING else "is being stopped"
            return job.status.value, f"attempt {job.attempt} {verb} on {job.worker}"
        case Status.REVIEW:
            return WaitReason.REVIEW, "its result waits for a reviewer"
        case Status.SUCCEEDED:
            return WaitReason.SUCCEEDED, f"attempt {job.attempt} on {job.worker} succeeded"
        case status if status in FINAL:
            why = job.reason or "no reason was given"
            message = f": {job.error.code}: {job.error.message}" if job.error else ""
            count = f"{job.attempt} attempts, {job.failures} of them failures"
            return why, f"it is {status.value} ({why}) after {count}, of {job.max_attempts} allowed{message}"
        case _:
            return job.status.value, f"it is {job.status.value}"
