"""What happens, in the words in which each generation's monitors hear of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from switchyard.events.events import (
    Accepted,
    AnyEvent,
    Blocked,
    Cancelled,
    Claimed,
    Dead,
    Expired,
    Failed,
    Leased,
    Queued,
    Scheduled,
    Submitted,
    Succeeded,
)
from switchyard.events.values import JobSpec
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.clients import pushes
from switchyard.services.gateway.doors.emp.hub import Known
from switchyard.services.gateway.live.index import Progress
from switchyard.services.gateway.live.messages import Item

TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "update_job_progress": ("jobs", "jobs:progress"), "job_submitted": ("jobs", "jobs:status"),
    "job_assigned": ("jobs", "jobs:status"), "job_status_changed": ("jobs", "jobs:status"),
    "complete_job": ("jobs", "jobs:status"), "job_failed": ("jobs", "jobs:status"),
    "worker_connected": ("workers",), "worker_disconnected": ("workers",),
    "worker_status_changed": ("workers",),
}  # fmt: skip
"""By type of a message, the topics any of which has it sent."""


def is_of(item: Item, topics: frozenset[str] | None) -> bool:
    """Whether a message is of a topic; None is for all."""
    return topics is None or not topics.isdisjoint(TOPICS.get(item.type, (item.type,)))


def of_progress(known: Known, progress: Progress, generation: str) -> Item:
    """The message for how far a job is."""
    if generation == names.PYTHON:
        return pushes.of_progress(known, progress, generation, client_id=known.client or None)
    percent = 0 if progress.fraction is None else round(progress.fraction * 100)
    return wire.item_ts(
        "update_job_progress", at_ms=True, job_id=known.id, worker_id=names.worker_of(known.worker),
        progress=percent, status=progress.stage or None, message=progress.message or None,
    )  # fmt: skip


def of_event(known: Known, event: AnyEvent, generation: str, result: Any) -> Iterator[Item]:
    """The messages for an event; none for most of them."""
    if generation == names.PYTHON:
        yield from _python(known, event, result)
    else:
        yield from _typescript(known, event, result)


def _python(known: Known, event: AnyEvent, result: Any) -> Iterator[Item]:
    client = known.client or None
    match event:
        case Submitted(job=spec) | Scheduled(job=spec) | Blocked(job=spec) if spec is not None:
            yield wire.item(
                "job_accepted", job_id=known.id, status="pending", notified_workers=0,
                job_type=known.type, priority=spec.priority, client_id=client,
            )  # fmt: skip
        case _:
            yield from pushes.of_event(known, event, names.PYTHON, result=result, client_id=client)


def _typescript(known: Known, event: AnyEvent, result: Any) -> Iterator[Item]:
    worker = names.worker_of(known.worker) or None

    def changed(new: str, old: str) -> Item:
        return wire.item_ts(
            "job_status_changed",
            at_ms=True,
            job_id=known.id,
            old_status=old,
            new_status=new,
            worker_id=worker,
        )

    match event:
        case Submitted(job=spec) | Scheduled(job=spec) | Blocked(job=spec) if spec is not None:
            yield wire.item_ts(
                "job_submitted", at_ms=True, job_id=known.id, job_data=_data(known, spec, event)
            )
        case Leased() | Claimed():
            yield wire.item_ts(
                "job_assigned", at_ms=True, job_id=known.id, worker_id=worker, old_status="pending",
                new_status="assigned", assigned_at=wire.milliseconds(event.at),
            )  # fmt: skip
        case Queued() | Failed():
            yield changed("pending", "in_progress")
        case Succeeded() | Accepted():
            yield wire.item_ts(
                "complete_job", at_ms=True, job_id=known.id, worker_id=worker, result=result,
                completed_at=wire.milliseconds(event.at),
            )  # fmt: skip
        case Dead(error=error):
            yield _failed(known, event, worker, error.message)
        case Expired():
            yield _failed(known, event, worker, pushes.DEADLINE)
        case Cancelled():
            yield changed("cancelled", "pending")


def _failed(known: Known, event: AnyEvent, worker: str | None, error: str) -> Item:
    return wire.item_ts(
        "job_failed", at_ms=True, job_id=known.id, worker_id=worker, error=error,
        failed_at=wire.milliseconds(event.at),
    )  # fmt: skip


def _data(known: Known, spec: JobSpec, event: AnyEvent) -> dict[str, Any]:
    data = {
        "id": known.id, "job_type": known.type, "status": "pending", "priority": spec.priority,
        "customer_id": spec.labels.get(names.CUSTOMER), "workflow_id": spec.labels.get("emp-workflow"),
        "created_at": wire.milliseconds(event.at),
    }  # fmt: skip
    return {name: value for name, value in data.items() if value is not None}


# --- Workers


def of_workers(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[Item]:
    """What is different between two looks at the workers, for monitors of the TypeScript generation."""
    for id_ in before.keys() - now.keys():
        yield wire.item_ts("worker_disconnected", at_ms=True, worker_id=id_, machine_id=machine_of(id_))
    for id_, worker in now.items():
        known = before.get(id_)
        if known is None:
            yield wire.item_ts(
                "worker_connected", at_ms=True, worker_id=id_, machine_id=machine_of(id_),
                worker_data=worker_ts(id_, worker),
            )  # fmt: skip
        elif known["status"] != worker["status"]:
            yield wire.item_ts(
                "worker_status_changed", at_ms=True, worker_id=id_, old_status=known["status"],
                new_status=worker["status"], current_job_id=worker.get("current_job_id"),
            )  # fmt: skip


def machine_of(worker: str) -> str:
    """The machine that a worker's id names, as those of that generation do."""
    return worker.rpartition("-worker-")[0] or worker


def worker_ts(id_: str, worker: Mapping[str, Any]) -> dict[str, Any]:
    """A worker as the TypeScript generation shows it."""
    capabilities = worker["capabilities"]
    hardware = _object(capabilities.get("hardware"))
    models = capabilities.get("models")
    return {
        "id": id_, "machine_id": machine_of(id_), "status": worker["status"],
        "current_job_id": worker.get("current_job_id"), "connected_at": wire.iso(),
        "jobs_completed": 0, "jobs_failed": 0, "total_jobs_completed": 0, "total_jobs_failed": 0,
        "is_stale": False,
        "capabilities": {
            "gpu_count": 1, "gpu_memory_gb": hardware.get("gpu_memory_gb", 0),
            "gpu_model": hardware.get("gpu_model", "Unknown"), "cpu_cores": hardware.get("cpu_cores", 1),
            "ram_gb": hardware.get("ram_gb", 1), "services": worker["supported_job_types"],
            "models": list(models) if isinstance(models, dict) else [],
            "customer_access": _object(capabilities.get("customer_access")).get("isolation", "none"),
            "max_concurrent_jobs": 1,
        },
        "connections": [
            {"service_type": type_, "status": "active"} for type_ in worker["supported_job_types"]
        ],
    }  # fmt: skip


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
