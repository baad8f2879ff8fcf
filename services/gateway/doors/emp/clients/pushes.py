"""What an event of a job is to who follows it, in the words of a generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from switchyard.events.events import (
    Accepted,
    AnyEvent,
    Cancelled,
    CancelRequested,
    Claimed,
    Dead,
    Expired,
    Failed,
    Leased,
    Queued,
    Succeeded,
)
from switchyard.events.vocabulary.causes import QueuedCause
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.hub import Known
from switchyard.services.gateway.doors.emp.results import as_object
from switchyard.services.gateway.live.index import Progress
from switchyard.services.gateway.live.messages import Item

DEADLINE: Final = "its deadline passed"
BACK: Final = frozenset({QueuedCause.RELEASED, QueuedCause.LEASE_LOST, QueuedCause.CLAIM_EXPIRED})
"""Why a job waits again that ran."""


def of_progress(known: Known, progress: Progress, generation: str, **more: Any) -> Item:
    """The message for how far a job is."""
    worker = names.worker_of(known.worker) or None
    percent = -1 if progress.fraction is None else round(progress.fraction * 100)
    status = progress.stage or "processing"
    if generation == names.TYPESCRIPT:
        data = {
            "progress": percent,
            "status": status,
            "message": progress.message or None,
            "worker_id": worker,
        }
        return wire.item_ts("progress", job_id=known.id, data=data)
    return wire.item(
        "update_job_progress", job_id=known.id, worker_id=worker, progress=percent, status=status,
        message=progress.message or None, **more,
    )  # fmt: skip


def of_event(
    known: Known, event: AnyEvent, generation: str, *, result: Any = None, **more: Any
) -> Iterator[Item]:
    """The messages for an event; none for most of them.

    Args:
        known: what is known of the job.
        event: what happened.
        generation: whose words.
        result: the job's result, where the event is that it has one.
        more: what else is in each message.
    """
    if generation == names.TYPESCRIPT:
        yield from _typescript(known, event, result)
    else:
        yield from _python(known, event, result, more)


def _python(known: Known, event: AnyEvent, result: Any, more: Mapping[str, Any]) -> Iterator[Item]:
    worker = names.worker_of(known.worker) or None
    match event:
        case Succeeded() | Accepted():
            yield wire.item(
                "complete_job",
                job_id=known.id,
                status="completed",
                worker_id=worker,
                result=as_object(result),
                **more,
            )
        case Failed(error=error):
            yield wire.item(
                "update_job_progress", job_id=known.id, worker_id=worker, progress=0, status="error",
                message=error.message, **more,
            )  # fmt: skip
        case Dead(error=error):
            yield wire.item("fail_job", job_id=known.id, worker_id=worker, error=error.message, **more)
        case Expired():
            yield wire.item("fail_job", job_id=known.id, worker_id=worker, error=DEADLINE, **more)
        case Cancelled(reason=reason) | CancelRequested(reason=reason):
            yield wire.item(
                "response_job_status", job_id=known.id, status="cancelled", worker_id=worker,
                message=f"Job cancelled: {reason}" if reason else "Job cancelled",
                **more,
            )  # fmt: skip


def _typescript(known: Known, event: AnyEvent, result: Any) -> Iterator[Item]:
    worker = names.worker_of(known.worker) or None

    def changed(old: str, new: str) -> Item:
        return wire.item_ts(
            "job_status_changed", job_id=known.id, old_status=old, new_status=new, worker_id=worker
        )

    match event:
        case Leased() | Claimed():
            yield wire.item_ts(
                "job_assigned", job_id=known.id, worker_id=worker, old_status="pending",
                new_status="assigned", assigned_at=_iso(event.at),
            )  # fmt: skip
            yield changed("pending", "assigned")
        case Failed():
            yield changed("in_progress", "pending")
        case Queued(cause=cause) if cause in BACK:
            yield changed("in_progress", "pending")
        case Succeeded() | Accepted():
            yield changed("in_progress", "completed")
            yield wire.item_ts(
                "job_completed", job_id=known.id, worker_id=worker, result=result, completed_at=_iso(event.at)
            )
        case Dead(error=error):
            yield changed("in_progress", "failed")
            yield _failed(known, event.at, worker, error.message)
        case Expired():
            yield changed("pending", "failed")
            yield _failed(known, event.at, worker, DEADLINE)
        case Cancelled() | CancelRequested():
            yield changed("pending" if isinstance(event, Cancelled) else "in_progress", "cancelled")


def _failed(known: Known, at: datetime | None, worker: str | None, error: str) -> Item:
    return wire.item_ts("job_failed", job_id=known.id, worker_id=worker, error=error, failed_at=_iso(at))


def _iso(at: datetime | None) -> str:
    return wire.iso(at)
