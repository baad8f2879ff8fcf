"""The tasks of a scope, filtered and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.events.errors import UnavailableError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.gateway.doors.octopoid.answers import (
    FlowStates,
    Poll,
    ProvisionalTask,
    TaskPage,
)
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, page_of, words
from switchyard.services.gateway.doors.octopoid.kept.cards import Card, Filters, ScopeCards
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
from switchyard.services.records.entries.index import Changes, Row

AT_ONCE: Final = 100
FILTERS: Final = ("role", "type", "project_id", "flow", "queue", "priority", "claimed_by")


async def caught_up(desk: Desk) -> None:
    """Returns when the read model knows what was written before.

    Raises:
        UnavailableError: the broker does not answer, or the read model does not come so far in time.
    """
    info = await api(desk.nc, "STREAM.INFO.JOBS", timeout_s=desk.settings.request_timeout_s)
    if "error" in info:
        raise UnavailableError(f"the log cannot be read: {info['error'].get('description')}")
    await desk.freshness.wait(info["state"]["last_seq"])


async def cards_of(desk: Desk) -> ScopeCards:
    """The tasks of the caller's scope, as of now: what was written before is seen.

    Only documents and jobs that changed since the last time are read.

    Raises:
        UnavailableError: the broker does not answer, or the read model does not come so far in time.
    """
    scope = desk.cards.of(desk.tenant)
    async with scope.lock:
        changes = (await desk.documents.shelf(desk.tenant, SORT)).changes(scope.mark)
        await caught_up(desk)
        known, jobs = desk.read_model.jobs_since(desk.tenant, scope.seq)
        # What was read in another read model, or one that stood further, may be of events that are no more.
        if changes.is_whole or known.database_id != scope.database_id or known.seq < scope.seq:
            changes, jobs = await _begin_again(desk, scope), []
        await _take(desk, scope, changes, jobs)
        scope.mark, scope.database_id, scope.seq = changes.mark, known.database_id, known.seq
    return scope


async def _begin_again(desk: Desk, scope: ScopeCards) -> Changes:
    scope.clear()
    return (await desk.documents.shelf(desk.tenant, SORT)).changes(None)


async def _take(desk: Desk, scope: ScopeCards, changes: Changes, jobs: Sequence[str]) -> None:
    """Take in what changed; what was written meanwhile is read again the next time."""
    for digest in changes.gone:
        scope.drop(digest)
    stale = {row.digest: row for row in changes.rows}
    rows = (await desk.documents.shelf(desk.tenant, SORT)).rows if jobs else {}
    for job_id in jobs:
        row = rows.get(scope.digests.get(job_id, ""))
        if row is not None:
            stale.setdefault(row.digest, row)
    for count, row in enumerate(stale.values(), 1):
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)  # others have their turn
        _take_one(desk, scope, row)


def _take_one(desk: Desk, scope: ScopeCards, row: Row) -> None:
    """Put in the card of a task that has a job by now, and was not deleted."""
    scope.drop(row.digest)
    if row.facts["deleted"]:
        return
    job_id = job_id_of(desk.tenant, row.facts["id"], row.facts["nonce"])
    scope.digests[job_id] = row.digest
    job = desk.read_model.job(JobId(job_id))
    scope.put(row.digest, None if job is None else _card(desk, row, job))


def _card(desk: Desk, row: Row, job: Job) -> Card:
    view = task_view(desk, Task(row.facts, row.revision, job))
    return Card(
        row, job.id, id=view.id, queue=view.queue, priority=view.priority, claimed_by=view.claimed_by,
        orchestrator_id=view.orchestrator_id, created_at=str(row.facts["created_at"]),
        needs_intervention="true" if view.needs_intervention else "false",
        role=view.role, type=view.type, project_id=view.project_id, flow=view.flow, hooks=view.hooks,
        pr_number=view.pr_number,
    )  # fmt: skip


async def tasks_of(desk: Desk, wanted: Filters) -> list[Task]:
    """The tasks of the caller's scope whose cards have the values that are asked for.

    Raises:
        UnavailableError: as for `cards_of`.
    """
    return await read_tasks(desk, (await cards_of(desk)).all(wanted))


async def read_tasks(desk: Desk, cards: Sequence[Card]) -> list[Task]:
    """The tasks that stand in a list, in its order, without those that were deleted meanwhile."""
    found = await desk.documents.read(desk.tenant, SORT, [card.row for card in cards])
    jobs = {card.id: card.job_id for card in cards}
    tasks = []
    for document, revision in found:
        if document is not None and document["id"] in jobs and not document["deleted"]:
            job = desk.read_model.job(JobId(jobs[document["id"]]))
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
    wanted = {name: words(call, name) for name in FILTERS}
    intervention = call.query.text("needs_intervention")
    if intervention in ("true", "false"):
        wanted["needs_intervention"] = [intervention]
    scope = await cards_of(desk)
    page = scope.page(wanted, offset, limit, by_priority=call.query.text("sort") == "priority")
    total = scope.count(wanted)
    tasks = [task_view(desk, task) for task in await read_tasks(desk, page)]
    return json_response(TaskPage(tasks=tasks, total=total, offset=offset, limit=limit))


async def poll(call: Call[None]) -> web.Response:
    """`GET /api/v1/scheduler/poll`: what an orchestrator's scheduler wants to know, in one answer."""
    desk = desk_of(call)
    tenant, documents = desk.tenant, desk.documents
    scope = await cards_of(desk)
    counts = {queue: scope.count({"queue": [queue]}) for queue in (INCOMING, CLAIMED, PROVISIONAL)}
    waiting = scope.all({"queue": [PROVISIONAL]})
    orchestrator = call.query.text("orchestrator_id") or ""
    known = orchestrator and (await documents.find(tenant, "orchestrator", orchestrator)).document is not None
    flows = [found.document for found in await documents.all(tenant, "flow") if found.document is not None]
    provisional = [
        ProvisionalTask(id=card.id, hooks=card.hooks, pr_number=card.pr_number, claimed_by=card.claimed_by)
        for card in waiting
    ]
    body = Poll(
        queue_counts=counts,
        provisional_tasks=provisional,
        orchestrator_registered=bool(known),
        scope=desk.scope,
        flows={flow["name"]: FlowStates(states=flow["states"]) for flow in flows},
    )
    return json_response(body)
