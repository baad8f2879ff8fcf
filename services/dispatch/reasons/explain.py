"""Why a job waits, or ended as it did: pure, from what the log, the workers and the limits say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from switchyard.events.job import Job
from switchyard.events.lane import NONE, LaneKey
from switchyard.events.numbers import later
from switchyard.events.values import FINAL, Damage, Status
from switchyard.events.vocabulary.causes import EndCause
from switchyard.events.wakes import too_late
from switchyard.projections.job_view import next_attempt_at
from switchyard.services.dispatch.reasons.fetching import with_models
from switchyard.services.dispatch.reasons.verdicts import (
    ORDER,
    SHOWN_VALUES,
    SHOWN_WORKERS,
    Judged,
    Situation,
    Verdict,
    nearest_miss,
    nearness,
    verdict_on,
    view,
)
from switchyard.services.records.workers import AVOID_S


class WaitReason(StrEnum):
    """Why a job waits, where its state alone does not say it; a final job has the reason of its end."""

    OVERDUE = "overdue"
    PAUSED = "paused"
    STORAGE_FULL = "storage_full"
    NO_WORKER_FITS = "no_worker_fits"
    LIMIT = "limit"
    WORKERS_PAUSED = "workers_paused"
    BACK_END_DOWN = "back_end_down"
    ABOUT_TO_START = "about_to_start"
    BUSY = "busy"
    SCHEDULED = "scheduled"
    RELEASED = "released"
    BLOCKED = "blocked"
    PARTS = "parts"
    RETRYING = "retrying"
    REVIEW = "review"
    SUCCEEDED = "succeeded"
    DAMAGED = "damaged"
    NEWER_VERSION = "newer_version"


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
        (verdict_on(record, situation, job.tenant) for record in situation.workers), key=nearness
    )
    nearest = nearest_miss(verdicts)
    reason, summary, would_help = _waiting(job, situation, verdicts, nearest)
    return {
        **head,
        "reason": reason,
        "summary": summary,
        "lane": {"id": job.lane, "priority": job.priority, "ahead": situation.ahead}
        | _conditions(situation.key),
        "workers": [view(verdict) for verdict in verdicts[:SHOWN_WORKERS]],
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


def _waiting(
    job: Job, situation: Situation, verdicts: Sequence[Judged], nearest: dict[str, Any] | None
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
    counted = {name: [v for v in verdicts if v.verdict == name] for name in ORDER}
    fitting = counted[Verdict.FREE] + counted[Verdict.BUSY] + counted[Verdict.PAUSED]
    if not fitting:
        resting = [verdict for verdict in verdicts if verdict.record.id in situation.notes and (
            verdict.verdict == verdict.record.state
        )]  # fmt: skip
        if resting:
            shown = "; ".join(f"{one.record.id}: {one.message}" for one in resting[:SHOWN_VALUES])
            return WaitReason.NO_WORKER_FITS, f"no server that fits takes jobs now: {shown}", []
        if down := counted[Verdict.BACK_END_DOWN]:
            return WaitReason.BACK_END_DOWN, *_down(key, down)
        return WaitReason.NO_WORKER_FITS, *with_models(*_nobody(key, counted, nearest), verdicts)
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


def _left_to_others(job: Job, situation: Situation, free: Sequence[Judged]) -> str | None:
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


def _down(key: LaneKey, down: Sequence[Judged]) -> tuple[str, list[str]]:
    shown = "; ".join(f"worker {one.record.id}: {one.message}" for one in down[:SHOWN_VALUES])
    return f"no worker that is up fits: {shown}", [
        "start the back end again", f"start another {key.kind} worker that fits",
    ]  # fmt: skip


def _nobody(
    key: LaneKey, counted: Mapping[Verdict, Sequence[Judged]], nearest: dict[str, Any] | None
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
    if counted[Verdict.EXCLUDED]:
        ids = [verdict.record.id for verdict in counted[Verdict.EXCLUDED]]
        said = f"worker {ids[0]} excludes" if len(ids) == 1 else f"{len(ids)} workers, as {ids[0]}, exclude"
        return f"{said} your tenant", [f"start a {key.kind} worker that serves it"]
    if counted[Verdict.ISOLATION] and key.isolation == NONE:
        said = f"the workers that run {key.kind} serve other tenants alone, or isolated jobs alone"
        return said, [f"start a {key.kind} worker that serves your tenant"]
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


def _parts(job: Job, states: Mapping[str, str]) -> str:
    """Which parts a job waits for, those that have not ended first."""
    known = [(part, states.get(part.id, Status.ABSENT)) for part in job.parts]
    left = [
        f"{part.name} ({part.id}, {_SHOWN.get(state, state)})" for part, state in known if state not in FINAL
    ]
    said = f"it waits for {len(job.parts)} part{'s' if len(job.parts) != 1 else ''}"
    shown = ", ".join(left[:SHOWN_VALUES])
    more = f" and {len(left) - SHOWN_VALUES} more" if len(left) > SHOWN_VALUES else ""
    return (
        f"{said}, of which {len(left)} have not ended: {shown}{more}" if left else f"{said}, which have ended"
    )


_SHOWN: Final[Mapping[str, str]] = {Status.ABSENT: "not submitted yet"}


def _elsewhere(job: Job, situation: Situation) -> tuple[str, str]:
    """The reason and a sentence for a job that is not in a lane."""
    match job.status:
        case Status.SCHEDULED:
            if job.releases:
                again = f"it comes again at {job.start_at:%Y-%m-%dT%H:%M:%SZ}"
                return WaitReason.RELEASED, f"its last {job.releases} attempts gave it back; {again}"
            return WaitReason.SCHEDULED, f"it starts at {job.start_at:%Y-%m-%dT%H:%M:%SZ}"
        case Status.BLOCKED if job.parted_by:
            why = f"; there is no room for more: {situation.held}" if situation.held else ""
            return WaitReason.PARTS, _parts(job, situation.parents) + why
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
