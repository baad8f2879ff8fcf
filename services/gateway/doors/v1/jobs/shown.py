"""A job as an answer, with its last sequence in the header."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from switchyard.events.job import Job
from switchyard.projections.job_view import job_view
from switchyard.services.files.named import with_names
from switchyard.services.gateway.app_keys import JOBS, LIVE, READ_MODEL, TENANT_FILES
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import wide_scope
from switchyard.services.gateway.http.routes import Call
from switchyard.services.ids import process_token


async def shown(
    call: Call[Any], job: Job, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """The job, whole."""
    job = await with_names(call.part(TENANT_FILES).files, job)
    view = job_view(job, call.part(JOBS).progress(job), traceback=True)
    return json_response(view, status=status, headers={H_SEQ: str(job.seq), **(headers or {})})


def page_tag(call: Call[Any], seq: int, tenant: str | None) -> str:
    """The entity tag of a page of jobs.

    Any event may change it, and any report of a job that runs, so it is one of this process alone.

    Args:
        call: whose query asks for the page.
        seq: that the read model has come to, read before the page is.
        tenant: whose jobs; None for those of all.
    """
    database_id = call.part(READ_MODEL).checkpoint().database_id
    return tags.tag(
        seq, process_token(), database_id, call.part(LIVE).attempts.changes, tenant, call.request.raw_path
    )


async def loaded(call: Call[Any]) -> Job:
    """The job that the route names, from its log."""
    return await call.part(JOBS).load(call.named("id"), wide_scope(call.caller, call.query))


async def current(call: Call[Any]) -> Job:
    """The job that the route names, as it is now."""
    return await call.part(JOBS).current(call.named("id"), wide_scope(call.caller, call.query))
