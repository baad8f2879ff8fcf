"""The tasks of a scope, filtered and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.gateway.doors.octopoid.answers import (
    FlowStates,
    Poll,
    ProvisionalTask,
    TaskAnswer,
    TaskPage,
)
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, page_of, words
from switchyard.services.gateway.doors.octopoid.tasks import (
    CLAIMED,
    INCOMING,
    PROVISIONAL,
    SORT,
    Task,
    job_id_of,
    task_view,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call

AT_ONCE: Final = 200


async def tasks_of(desk: Desk) -> list[Task]:
    """All tasks of the caller's scope, as of now: what was written before is seen.

    Raises:
        UnavailableError: the broker does not answer, or the read model does not come so far in time.
    """
    tenant, timeout_s = desk.tenant, desk.settings.request_timeout_s
    info = await api(desk.nc, "STREAM.INFO.JOBS", timeout_s=timeout_s)
    if "error" in info:
        raise UnavailableError(f"the log cannot be read: {info['error'].get('description')}")
    found = await desk.documents.all(tenant, SORT)
    await desk.freshness.wait(info["state"]["last_seq"])
    tasks = []
    for number, (document, revision) in enumerate(found):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)  # others have their turn
        if document is None or document["deleted"]:
            continue
        job = desk.read_model.job(JobId(job_id_of(tenant, document["id"], document["nonce"])))
        if job is not None:
            tasks.append(Task(document, revision, job))
    return tasks


def matching(task: Task, filters: Mapping[str, list[str] | None]) -> bool:
    """Whether the fields of a task have the values that are asked for; an empty filter asks for nothing."""
    return all(not wanted or task.document["fields"].get(name) in wanted for name, wanted in filters.items())


async def list_tasks(call: Call[None]) -> web.Response:
    """`GET /api/v1/tasks`."""
    desk = desk_of(call)
    offset, limit = page_of(call)
    fields = {name: words(call, name) for name in ("role", "type", "project_id", "flow")}
    shown = {name: words(call, name) for name in ("queue", "priority", "claimed_by")}
    views = [task_view(desk, task) for task in await tasks_of(desk) if matching(task, fields)]
    views = [
        view
        for view in views
        if all(not wanted or getattr(view, name) in wanted for name, wanted in shown.items())
    ]
    intervention = call.query.text("needs_intervention")
    if intervention in ("true", "false"):
        views = [view for view in views if bool(view.needs_intervention) == (intervention == "true")]
    _sort(views, by_priority=call.query.text("sort") == "priority")
    page = views[offset : offset + limit]
    return json_response(TaskPage(tasks=page, total=len(views), offset=offset, limit=limit))


def _sort(views: list[TaskAnswer], *, by_priority: bool) -> None:
    """The newest first, or the most urgent first and then the oldest."""
    views.sort(key=lambda view: (view.created_at, view.id), reverse=not by_priority)
    if by_priority:
        views.sort(key=lambda view: view.priority)


async def poll(call: Call[None]) -> web.Response:
    """`GET /api/v1/scheduler/poll`: what an orchestrator's scheduler wants to know, in one answer."""
    desk = desk_of(call)
    tenant, documents = desk.tenant, desk.documents
    views = [task_view(desk, task) for task in await tasks_of(desk)]
    counts = dict.fromkeys((INCOMING, CLAIMED, PROVISIONAL), 0)
    for view in views:
        if view.queue in counts:
            counts[view.queue] += 1
    orchestrator = call.query.text("orchestrator_id") or ""
    known = orchestrator and (await documents.find(tenant, "orchestrator", orchestrator)).document is not None
    flows = [found.document for found in await documents.all(tenant, "flow") if found.document is not None]
    provisional = [
        ProvisionalTask(id=view.id, hooks=view.hooks, pr_number=view.pr_number, claimed_by=view.claimed_by)
        for view in views
        if view.queue == PROVISIONAL
    ]
    body = Poll(
        queue_counts=counts,
        provisional_tasks=provisional,
        orchestrator_registered=bool(known),
        scope=desk.scope,
        flows={flow["name"]: FlowStates(states=flow["states"]) for flow in flows},
    )
    return json_response(body)
