"""`/v1/workers`, `/v1/queues` and `/v1/usage`: who works on what, what waits, and what a tenant has."""

from __future__ import annotations

import math
from typing import Final

from aiohttp import web

from switchyard.services.access.principal import ANYBODY, Role
from switchyard.services.gateway.app_keys import FLEET, JOBS, USAGE
from switchyard.services.gateway.doors.v1.answers.operation import (
    QueueAnswer,
    QueuesAnswer,
    ShareAnswer,
    UsageAnswer,
    WorkerAnswer,
    WorkerPage,
    running_job,
    worker_answer,
)
from switchyard.services.gateway.doors.v1.parts import (
    NO_SUCH,
    PAGED,
    SEE,
    SEQ,
    TENANT,
    page_limit,
)
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, min_seq, scope, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route


async def list_workers(call: Call[None]) -> web.Response:
    """A page of the live workers that the caller may see, by id.

    These are its tenant's own and those that work for all; an operator sees every one. With
    `?capabilities=true` the page ends early where they are large.

    Raises:
        MalformedError: a parameter is wrong.
    """
    limit = page_limit(call)
    wanted = call.query.text("capabilities") or "false"
    if wanted not in ("true", "false"):
        raise wrong("capabilities", wanted, "true or false")
    fleet, whole = call.part(FLEET), wanted == "true"
    page = fleet.page(call.caller, call.query.text("cursor") or "", limit, weighed=whole)
    answers = [
        worker_answer(record, fleet.tallies(record.id), with_capabilities=whole) for record in page.records
    ]
    return json_response(WorkerPage(workers=answers, cursor=page.cursor, unreadable=page.unreadable))


async def get(call: Call[None]) -> web.Response:
    """One worker, and what it runs of the jobs that the caller may see.

    Raises:
        NotFoundError: no such worker is alive.
        UnavailableError: the read model lags too far behind.
    """
    # An operator sees every worker, and not what it runs for others.
    tenant = wide_scope(call.caller, call.query) if Role.VIEWER in call.caller.roles else ANYBODY
    fleet, jobs = call.part(FLEET), call.part(JOBS)
    record = fleet.live(call.caller, call.named("id"))
    found, seq = await fleet.jobs_on(record.id, tenant, min_seq=min_seq(call.request))
    running = [running_job(job, jobs.progress(job)) for job in found]
    body = worker_answer(record, fleet.tallies(record.id), jobs=running)
    return json_response(body, headers={H_SEQ: str(seq)})


async def list_queues(call: Call[None]) -> web.Response:
    """The queues that hold jobs which have not ended."""
    tenant = wide_scope(call.caller, call.query, wide=Role.OPERATOR)
    queues, seq = await call.part(FLEET).queues(tenant, min_seq=min_seq(call.request))
    body = QueuesAnswer(queues=[QueueAnswer(**queue) for queue in queues])
    return json_response(body, headers={H_SEQ: str(seq)})


async def usage(call: Call[None]) -> web.Response:
    """The tenant's numbers beside their limits."""
    tenant = scope(call.caller, call.query, wide=Role.OPERATOR)
    found = call.part(USAGE).of(tenant)
    shares = {
        what: ShareAnswer(used=used, limit=None if math.isinf(limit) else int(limit))
        for what, (used, limit) in found.items()
    }
    return json_response(UsageAnswer(tenant=tenant, usage=shares))


ROUTES: Final = (
    Route(
        method="GET", path="/v1/workers", handler=list_workers, summary="List live workers",
        roles=SEE, query=(*PAGED, Parameter("capabilities", "boolean")), answers={200: WorkerPage},
    ),
    Route(
        method="GET", path="/v1/workers/{id}", handler=get, summary="Read a worker and what it runs",
        roles=SEE, query=(TENANT,), headers=(H_MIN_SEQ,), answers={200: WorkerAnswer}, answer_headers=SEQ,
        errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/queues", handler=list_queues, summary="List queues",
        roles=SEE, query=(TENANT,), headers=(H_MIN_SEQ,), answers={200: QueuesAnswer}, answer_headers=SEQ,
    ),
    Route(
        method="GET", path="/v1/usage", handler=usage, summary="Read what a tenant has and may have",
        roles=SEE, query=(TENANT,), answers={200: UsageAnswer},
    ),
)  # fmt: skip
