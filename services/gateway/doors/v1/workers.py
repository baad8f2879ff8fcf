"""`GET /v1/workers` and the page of each: who works now, on what, and what the log says of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.projections.job_view import job_view
from switchyard.services.access.principal import ANYBODY, Role
from switchyard.services.gateway.app_keys import FRESHNESS, READ_MODEL, WORKERS
from switchyard.services.gateway.doors.v1.jobs.routes import current_progress, page_limit
from switchyard.services.gateway.http.callers import H_SEQ, PRINCIPAL, json_response, require
from switchyard.services.gateway.http.query import SHOWN_CHARS, Query, min_seq, wide_scope, wrong
from switchyard.services.records.workers import WorkerRecord

TALLIES = ("started", "succeeded", "failed", "lost")
PAGE_BYTES: Final = 1024 * 1024
"""Capabilities of a page, beyond which it ends with the worker that it has come to."""
SHOWN_OF_JOBS = ("id", "kind", "tenant", "state", "priority", "attempt", "started_at", "progress")


async def list_workers(request: web.Request) -> web.Response:
    """A page of the live workers that the caller may see, by id.

    These are its tenant's own and those that work for all; an operator sees every one. With
    `?capabilities=true` the page ends early where they are large.

    Raises:
        RejectedError: the caller may not see them, or a parameter is wrong.
    """
    principal = require(request, Role.VIEWER, Role.OPERATOR)
    query = Query(request, "cursor", "limit", "capabilities")
    limit = page_limit(request, query)
    wanted = query.text("capabilities") or "false"
    if wanted not in ("true", "false"):
        raise wrong("capabilities", wanted, "true or false")
    watch = request.app[WORKERS]
    page: list[WorkerRecord] = []
    size_bytes, more = 0, False
    for record in filter(None, map(watch.get, watch.after(query.text("cursor") or ""))):
        if not principal.sees(record.tenant):
            continue
        if len(page) == limit or size_bytes > PAGE_BYTES:
            more = True
            break
        page.append(record)
        if wanted == "true":
            size_bytes += len(msgspec.json.encode(record.capabilities))
    read_model = request.app[READ_MODEL]
    views = [_view(record, read_model.tallies(record.id)) for record in page]
    if wanted == "false":
        for view in views:
            del view["capabilities"]
    cursor = page[-1].id if more else None
    unreadable = sum(map(principal.sees, watch.unreadable_of()))
    return json_response({"workers": views, "cursor": cursor, "unreadable": unreadable})


async def get(request: web.Request) -> web.Response:
    """`GET /v1/workers/{id}`: one worker, and what it runs of the jobs that the caller may see.

    Raises:
        NotFoundError: no such worker is alive.
        UnavailableError: the read model lags too far behind.
    """
    principal = require(request, Role.VIEWER, Role.OPERATOR)
    query = Query(request, "tenant")
    # An operator sees every worker, and not what it runs for others.
    tenant = wide_scope(request, query) if Role.VIEWER in principal.roles else ANYBODY
    record = live_worker(request)
    seq = await request.app[FRESHNESS].wait(min_seq(request))
    read_model = request.app[READ_MODEL]
    jobs = [_running(request, job) for job in read_model.jobs_on(record.id) if tenant in (None, job.tenant)]
    view = _view(record, read_model.tallies(record.id)) | {"jobs": jobs}
    return json_response(view, headers={H_SEQ: str(seq)})


def live_worker(request: web.Request) -> WorkerRecord:
    """The worker that the route names.

    Raises:
        NotFoundError: no such worker is alive that the caller may see.
    """
    worker = request.match_info["id"]
    record = request.app[WORKERS].get(worker)
    if record is None or not request[PRINCIPAL].sees(record.tenant):
        raise NotFoundError(f"there is no worker {worker[:SHOWN_CHARS]!r} now", field="id")
    return record


def _running(request: web.Request, job: Job) -> dict[str, Any]:
    view = job_view(job, current_progress(request, job))
    return {name: view[name] for name in SHOWN_OF_JOBS}


def _view(record: WorkerRecord, tally: dict[str, Any]) -> dict[str, Any]:
    """The record with the count of its leases, which may be of any tenant's jobs, and its tallies."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    running = len(fields.pop("fences", {}))
    fields.pop("until", None)
    fields["lost_slots"] = record.lost_slots
    return {**fields, "running": running, **{name: tally.get(name, 0) for name in TALLIES}}
