"""`/v1/workers`, `/v1/queues`, `/v1/demand`, `/v1/usage`: who works, what waits, what a tenant has."""

from __future__ import annotations

import math
from typing import Any, Final

import orjson
from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import is_name
from switchyard.services.access.principal import ANYBODY, Role
from switchyard.services.gateway.app_keys import DEMAND, FLEET, JOBS, USAGE
from switchyard.services.gateway.doors.v1.answers.demand import DemandAnswer, DemandGroup
from switchyard.services.gateway.doors.v1.answers.models import FetchAnswer
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
from switchyard.services.records.workers import check_capabilities

CAPABILITIES_BYTES: Final = 8 * 1024


async def list_workers(call: Call[None]) -> web.Response:
    """A page of the live workers that the caller may see, by id.

    These are those that serve its tenant, and those that name none; an operator sees every one. With
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
        worker_answer(
            record,
            fleet.tallies(record.id),
            sees=call.caller.sees,
            with_capabilities=whole,
            fetching=fleet.fetching(record.id, call.caller.sees),
        )
        for record in page.records
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
    body = worker_answer(
        record, fleet.tallies(record.id), sees=call.caller.sees, jobs=running,
        fetching=fleet.fetching(record.id, call.caller.sees),
    )  # fmt: skip
    return json_response(body, headers={H_SEQ: str(seq)})


async def list_queues(call: Call[None]) -> web.Response:
    """The queues that hold jobs which have not ended."""
    tenant = wide_scope(call.caller, call.query, wide=Role.OPERATOR)
    queues, seq = await call.part(FLEET).queues(tenant, min_seq=min_seq(call.request))
    body = QueuesAnswer(queues=[QueueAnswer(**queue) for queue in queues])
    return json_response(body, headers={H_SEQ: str(seq)})


async def demand(call: Call[None]) -> web.Response:
    """What waits by what it needs, and how many slots are missing for it.

    Raises:
        MalformedError: a parameter is wrong.
        UnavailableError: the read model lags too far behind, or the broker does not answer.
    """
    tenant = wide_scope(call.caller, call.query, wide=Role.OPERATOR)
    kind = call.query.text("kind")
    if kind is not None and not is_name(kind):
        raise wrong("kind", kind, "a name")
    found, seq = await call.part(DEMAND).of(
        tenant, kind=kind, capabilities=_capabilities(call.query.text("capabilities")),
        min_seq=min_seq(call.request),
    )  # fmt: skip
    groups = [
        DemandGroup(**{**group, "fetching": [FetchAnswer(**fetch) for fetch in group["fetching"]]})
        for group in found.pop("demand")
    ]
    return json_response(DemandAnswer(**found, demand=groups), headers={H_SEQ: str(seq)})


def _capabilities(text: str | None) -> dict[str, Any] | None:
    """What a worker would declare that does not run yet."""
    if text is None:
        return None
    try:
        found = orjson.loads(text)
        if isinstance(found, dict):
            check_capabilities(found, CAPABILITIES_BYTES)
            return found
    except (ValueError, InvalidError):
        pass
    raise wrong("capabilities", text, "a JSON object of a worker's capabilities")


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
        method="GET", path="/v1/demand", handler=demand, summary="Read what waits by what it needs",
        roles=SEE, query=(TENANT, Parameter("kind", "name"), Parameter("capabilities")), headers=(H_MIN_SEQ,),
        answers={200: DemandAnswer}, answer_headers=SEQ,
    ),
    Route(
        method="GET", path="/v1/usage", handler=usage, summary="Read what a tenant has and may have",
        roles=SEE, query=(TENANT,), answers={200: UsageAnswer},
    ),
)  # fmt: skip
