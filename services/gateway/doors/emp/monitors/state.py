"""How everything is for a tenant, as the Python generation shows it; what there is much of is bounded."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from switchyard.events.job import Job
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.app_keys import WORKERS
from switchyard.services.gateway.doors.emp import names, views, wire
from switchyard.services.gateway.doors.emp.hub import Hub
from switchyard.services.records.tenancy import is_seen
from switchyard.services.records.workers import WorkerRecord

WORKERS_SHOWN: Final = 1000
PEERS_SHOWN: Final = 1000
JOBS_SHOWN: Final = 100
LIVE: Final = ("queued", "running", "cancelling", "retrying", "scheduled", "blocked", "review")
_WORDS: Final = {
    "queued": "pending", "scheduled": "pending", "blocked": "pending", "retrying": "pending",
    "running": "processing", "review": "processing", "cancelling": "cancelled", "cancelled": "cancelled",
    "succeeded": "completed", "dead": "failed", "expired": "failed", "damaged": "failed",
}  # fmt: skip


def of(hub: Hub, tenant: str) -> dict[str, Any]:
    """What `stats_broadcast` says beside its type and time.

    Raises:
        UnavailableError: there is no read model.
    """
    workers = workers_of(hub, tenant)
    counts = counts_of(hub, tenant)
    active = [job_of(job) for job in jobs_of(hub, tenant, LIVE, JOBS_SHOWN)]
    waiting = counts.get("pending", 0)
    urgent = sum(
        queue["waiting"] for queue in hub.jobs.read_model.queues(tenant=tenant) if queue["priority"] > 0
    )
    idle = [{"id": id_} for id_, worker in workers.items() if worker["is_accepting_jobs"]]
    return {
        "connections": {
            "clients": hub.ids(tenant, "client")[:PEERS_SHOWN], "workers": list(workers),
            "monitors": hub.ids(tenant, "monitor")[:PEERS_SHOWN],
        },
        "workers": workers,
        "subscriptions": {"stats": [], "job_notifications": [each["id"] for each in idle], "jobs": {}},
        "system": {
            "queues": {"priority": urgent, "standard": max(0, waiting - urgent), "total": waiting},
            "jobs": {"total": sum(counts.values()), "status": dict(counts), "active_jobs": active},
            "workers": {
                "total": len(workers), "status": dict(Counter(each["status"] for each in workers.values())),
                "active_workers": idle,
            },
        },
    }  # fmt: skip


def workers_of(hub: Hub, tenant: str) -> dict[str, dict[str, Any]]:
    """The live workers that a tenant may see, by the ids that their peers know."""
    sees = Caller(tenant, "").sees
    found: dict[str, dict[str, Any]] = {}
    for record in hub.app[WORKERS].records():
        if len(found) >= WORKERS_SHOWN:
            break
        if is_seen(record, sees):
            found[names.worker_of(record.id)] = _worker(record)
    for session in hub.of(tenant, "worker")[:WORKERS_SHOWN]:
        shown = getattr(session.peer, "shown", None)
        if shown is not None:
            found[session.id] = shown()
    return found


def _worker(record: WorkerRecord) -> dict[str, Any]:
    status = ("busy" if record.fences else "idle") if record.state == "running" else record.state
    types = names.types_of(record.kinds)
    return {
        "status": status, "connection_status": "connected",
        "is_accepting_jobs": record.state == "running" and len(record.fences) < record.slots,
        "capabilities": {"version": record.version, "supported_job_types": types, **record.capabilities},
        "supported_job_types": types, "current_job_id": next(iter(record.fences.values()), None),
    }  # fmt: skip


def counts_of(hub: Hub, tenant: str) -> Counter[str]:
    """A tenant's jobs by their status in the door's words."""
    counts: Counter[str] = Counter()
    for (_, status), jobs in hub.jobs.read_model.counts(tenant=tenant).items():
        if status in _WORDS:
            counts[_WORDS[status]] += jobs
    return counts


def jobs_of(hub: Hub, tenant: str, states: tuple[str, ...], limit: int) -> list[Job]:
    """Some jobs in these states, the newest first; what messages need of them is remembered."""
    page, _ = hub.jobs.read_model.jobs(tenant=tenant, states=states, limit=limit)
    for job in page:
        hub.note(job)
    return page


def job_of(job: Job) -> dict[str, Any]:
    """A job as the Python generation lists it."""
    return {
        "id": names.sent_id(job), "job_type": names.type_of(job), "priority": job.own_priority,
        "status": views.status_of(job, names.PYTHON, reported=True), "worker_id": views.worker_of(job),
        "client_id": job.labels.get(names.CLIENT), "failures": job.failures,
        "created_at": None if job.created_at is None else wire.seconds(job.created_at),
        "updated_at": None if job.changed_at is None else wire.seconds(job.changed_at),
    }  # fmt: skip
