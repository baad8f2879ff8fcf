"""The tasks of a scope, filtered and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.gateway.app_keys import FRESHNESS, NATS, READ_MODEL, SETTINGS
from switchyard.services.gateway.doors.octopoid.door import DOCUMENTS, SCOPE, page_of, words
from switchyard.services.gateway.doors.octopoid.tasks import (
    CLAIMED,
    INCOMING,
    PROVISIONAL,
    SORT,
    Task,
    job_id_of,
    task_view,
)
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response

AT_ONCE: Final = 200


async def tasks_of(request: web.Request) -> list[Task]:
    """All tasks of the caller's scope, as of now: what was written before is seen.

    Raises:
        UnavailableError: the broker does not answer, or the read model does not come so far in time.
    """
    tenant, timeout_s = request[PRINCIPAL].tenant, request.app[SETTINGS].request_timeout_s
    info = await api(request.app[NATS], "STREAM.INFO.JOBS", timeout_s=timeout_s)
    if "error" in info:
        raise UnavailableError(f"the log cannot be read: {info['error'].get('description')}")
    found = await request.app[DOCUMENTS].all(tenant, SORT)
    await request.app[FRESHNESS].wait(info["state"]["last_seq"])
    tasks = []
    for number, (document, revision) in enumerate(found):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)  # others have their turn
        if document is None or document["deleted"]:
            continue
        job = request.app[READ_MODEL].job(JobId(job_id_of(tenant, document["id"], document["nonce"])))
        if job is not None:
            tasks.append(Task(document, revision, job))
    return tasks


def matching(task: Task, filters: Mapping[str, list[str] | None]) -> bool:
    """Whether the fields of a task have the values that are asked for; an empty filter asks for nothing."""
    return all(not wanted or task.document["fields"].get(name) in wanted for name, wanted in filters.items())


async def list_tasks(request: web.Request) -> web.Response:
    """`GET /api/v1/tasks`."""
    offset, limit = page_of(request)
    fields = {name: words(request, name) for name in ("role", "type", "project_id", "flow")}
    shown = {name: words(request, name) for name in ("queue", "priority", "claimed_by")}
    views = [task_view(request, task) for task in await tasks_of(request) if matching(task, fields)]
    views = [
        view for view in views if all(not wanted or view[name] in wanted for name, wanted in shown.items())
    ]
    intervention = request.query.get("needs_intervention")
    if intervention in ("true", "false"):
        views = [view for view in views if bool(view["needs_intervention"]) == (intervention == "true")]
    _sort(views, by_priority=request.query.get("sort") == "priority")
    page = views[offset : offset + limit]
    return json_response({"tasks": page, "total": len(views), "offset": offset, "limit": limit})


def _sort(views: list[dict[str, Any]], *, by_priority: bool) -> None:
    """The newest first, or the most urgent first and then the oldest."""
    views.sort(key=lambda view: (view["created_at"], view["id"]), reverse=not by_priority)
    if by_priority:
        views.sort(key=lambda view: str(view["priority"]))


async def poll(request: web.Request) -> web.Response:
    """`GET /api/v1/scheduler/poll`: what an orchestrator's scheduler wants to know, in one answer."""
    tenant, documents = request[PRINCIPAL].tenant, request.app[DOCUMENTS]
    views = [task_view(request, task) for task in await tasks_of(request)]
    counts = dict.fromkeys((INCOMING, CLAIMED, PROVISIONAL), 0)
    for view in views:
        if view["queue"] in counts:
            counts[view["queue"]] += 1
    orchestrator = request.query.get("orchestrator_id", "")
    known = orchestrator and (await documents.find(tenant, "orchestrator", orchestrator)).document is not None
    flows = [found.document for found in await documents.all(tenant, "flow") if found.document is not None]
    names = ("id", "hooks", "pr_number", "claimed_by")
    return json_response(
        {
            "queue_counts": counts,
            "provisional_tasks": [
                {name: view[name] for name in names} for view in views if view["queue"] == PROVISIONAL
            ],
            "orchestrator_registered": bool(known),
            "scope": request[SCOPE],
            "flows": {flow["name"]: {"states": flow["states"]} for flow in flows},
        }
    )
