"""The whole state, as monitors of the TypeScript generation ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from switchyard.services.gateway.doors.emp import names, views, wire
from switchyard.services.gateway.doors.emp.hub import Hub
from switchyard.services.gateway.doors.emp.monitors import state, words
from switchyard.services.gateway.live.messages import Item

PAGE: Final = 20
MOST_OF_A_PAGE: Final = 100
MOST_PAGES: Final = 50
SHOWN: Final = 200
PENDING: Final = ("queued", "scheduled", "blocked", "retrying")
ACTIVE: Final = ("running", "review", "cancelling")
FAILED: Final = ("dead", "cancelled", "expired")


def page_of(message: Mapping[str, Any]) -> tuple[int, int]:
    """Which page of finished jobs a monitor looks at, from 1, and how many are on it."""
    asked = message.get("finishedJobsPagination")
    asked = asked if isinstance(asked, dict) else {}
    return _within(asked.get("page"), 1, MOST_PAGES), _within(asked.get("pageSize"), PAGE, MOST_OF_A_PAGE)


def _within(value: Any, default: int, most: int) -> int:
    return min(most, max(1, value)) if type(value) is int else default


def snapshot(hub: Hub, tenant: str, monitor: str, page: int, size: int) -> Item:
    """The whole state of a tenant.

    Raises:
        UnavailableError: there is no read model.
    """
    workers = [words.worker_ts(id_, worker) for id_, worker in state.workers_of(hub, tenant).items()]
    jobs = {
        "pending": _jobs(hub, tenant, PENDING, SHOWN), "active": _jobs(hub, tenant, ACTIVE, SHOWN),
        "completed": _jobs(hub, tenant, ("succeeded",), page * size)[(page - 1) * size :],
        "failed": _jobs(hub, tenant, FAILED, SHOWN),
    }  # fmt: skip
    counts = state.counts_of(hub, tenant)
    total = counts.get("completed", 0)
    pages = -(-total // size)
    data = {
        "workers": workers, "jobs": jobs, "machines": [], "timestamp": wire.milliseconds(),
        "system_stats": stats(counts, workers),
        "pagination": {
            "finishedJobs": {
                "page": page, "pageSize": size, "totalCount": total, "totalPages": pages,
                "hasNextPage": page < pages, "hasPreviousPage": page > 1,
            }
        },
    }  # fmt: skip
    return wire.item_ts("full_state_snapshot", at_ms=True, data=data, monitor_id=monitor)


def stats(counts: Mapping[str, int], workers: list[dict[str, Any]]) -> dict[str, int]:
    """The counts."""
    return {
        "total_jobs": sum(counts.values()), "pending_jobs": counts.get("pending", 0),
        "active_jobs": counts.get("processing", 0), "completed_jobs": counts.get("completed", 0),
        "failed_jobs": counts.get("failed", 0) + counts.get("cancelled", 0), "total_workers": len(workers),
        "active_workers": sum(worker["status"] == "busy" for worker in workers), "total_machines": 0,
    }  # fmt: skip


def _jobs(hub: Hub, tenant: str, states: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    found = []
    for job in state.jobs_of(hub, tenant, states, limit):
        shown = views.job_ts(job, None)
        shown["job_type"] = names.type_of(job)
        found.append(shown)
    return found
