"""A job as an answer, with its last sequence in the header."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from switchyard.events.job import Job
from switchyard.projections.job_view import job_view
from switchyard.services.gateway.app_keys import JOBS
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import wide_scope
from switchyard.services.gateway.http.routes import Call


def shown(
    call: Call[Any], job: Job, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """The job, whole."""
    view = job_view(job, call.part(JOBS).progress(job), traceback=True)
    return json_response(view, status=status, headers={H_SEQ: str(job.seq), **(headers or {})})


async def loaded(call: Call[Any]) -> Job:
    """The job that the route names, from its log."""
    return await call.part(JOBS).load(call.named("id"), wide_scope(call.caller, call.query))


async def current(call: Call[Any]) -> Job:
    """The job that the route names, as it is now."""
    return await call.part(JOBS).current(call.named("id"), wide_scope(call.caller, call.query))
