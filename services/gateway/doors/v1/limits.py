"""`/v1/limits`: how many jobs of a tenant may run at once and start a minute, all together or by name."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import JOBS, TENANT_LIMITS
from switchyard.services.gateway.doors.v1.answers.billing import (
    LimitAnswer,
    LimitsAnswer,
    LimitUseAnswer,
    holder,
    limit_fields,
)
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, OPERATE, SEE, TENANT
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import scope
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.records.limits import KeepSeconds, Places, Requests


class LimitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a PUT; one of these has to be there."""

    concurrency: Places | None = None
    per_minute: Places | None = None
    requests_per_minute: Requests | None = None
    keep_s: KeepSeconds | None = None
    keep_dead_s: KeepSeconds | None = None
    erase_s: KeepSeconds | None = None


async def put(call: Call[LimitRequest]) -> web.Response:
    """Set a limit; `all` is the tenant's own, for every job of it."""
    tenant, name = scope(call.caller, call.query, wide=Role.OPERATOR), call.named("name")
    asked = call.body
    limit, is_new = await call.part(TENANT_LIMITS).put(
        tenant,
        name,
        concurrency=asked.concurrency,
        per_minute=asked.per_minute,
        requests_per_minute=asked.requests_per_minute,
        keep_s=asked.keep_s,
        keep_dead_s=asked.keep_dead_s,
        erase_s=asked.erase_s,
    )
    body = LimitAnswer(**limit_fields(tenant, name, limit))
    return json_response(body, status=201 if is_new else 200)


async def get(call: Call[None]) -> web.Response:
    """A limit, and how much of it is in use."""
    tenant, name, limits = (
        scope(call.caller, call.query, wide=Role.OPERATOR),
        call.named("name"),
        call.part(TENANT_LIMITS),
    )
    limit = await limits.get(tenant, name)
    use = await limits.use(tenant, name, limit)
    jobs = call.part(JOBS)
    may_see = Role.VIEWER in call.caller.roles  # operators see no jobs of others
    holders = [holder(job, jobs.progress(job)) for job in limits.holders(tenant, name)] if may_see else None
    fields = limit_fields(tenant, name, limit)
    return json_response(LimitUseAnswer(**fields, **use._asdict(), jobs=holders))


async def list_limits(call: Call[None]) -> web.Response:
    """The limits of a tenant, by name."""
    tenant = scope(call.caller, call.query, wide=Role.OPERATOR)
    found = await call.part(TENANT_LIMITS).all(tenant)
    answers = [LimitAnswer(**limit_fields(tenant, name, limit)) for name, limit in found.items()]
    return json_response(LimitsAnswer(limits=answers))


async def delete(call: Call[None]) -> web.Response:
    """Jobs that count against it run without."""
    await call.part(TENANT_LIMITS).delete(
        scope(call.caller, call.query, wide=Role.OPERATOR), call.named("name")
    )
    return web.Response(status=204)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/limits", handler=list_limits, summary="List limits",
        roles=SEE, query=(TENANT,), answers={200: LimitsAnswer},
    ),
    Route(
        method="GET", path="/v1/limits/{name}", handler=get, summary="Read a limit and its use",
        roles=SEE, query=(TENANT,), answers={200: LimitUseAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/limits/{name}", handler=put, summary="Set a limit",
        roles=OPERATE, query=(TENANT,), body=LimitRequest, answers={201: LimitAnswer, 200: LimitAnswer},
        errors=((422, "limit"),),
    ),
    Route(
        method="DELETE", path="/v1/limits/{name}", handler=delete, summary="Remove a limit",
        roles=OPERATE, query=(TENANT,), answers={204: None}, errors=NO_SUCH,
    ),
)  # fmt: skip
