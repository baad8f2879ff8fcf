"""`/v1/limits`: how many jobs of a tenant may run at once and start a minute, all together or by name."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import LANES, LIMITS, READ_MODEL
from switchyard.services.gateway.http.callers import body_of, json_response, require
from switchyard.services.gateway.http.query import SHOWN_CHARS, Query, scope
from switchyard.services.records.limits import TENANT_WIDE, Limit, Places, Requests, limit_key


class LimitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a PUT; one of the three has to be there."""

    concurrency: Places | None = None
    per_minute: Places | None = None
    requests_per_minute: Requests | None = None


_REQUEST: Final = msgspec.json.Decoder(LimitRequest)


async def put(request: web.Request) -> web.Response:
    """`PUT /v1/limits/{name}`: set a limit; `all` is the tenant's own, for every job of it."""
    require(request, Role.OPERATOR)
    key, tenant, name = _named(request)
    asked = await body_of(request, _REQUEST)
    if asked.concurrency is None and asked.per_minute is None and asked.requests_per_minute is None:
        message = "concurrency, per_minute or requests_per_minute: one of them was expected"
        raise InvalidError(message, field="concurrency")
    if asked.requests_per_minute is not None and name != TENANT_WIDE:
        message = f"requests_per_minute: only the limit {TENANT_WIDE} counts requests"
        raise InvalidError(message, field="requests_per_minute")
    limits = request.app[LIMITS]
    created = await limits.get(key) is None
    limit = Limit(asked.concurrency, asked.per_minute, clock.now(), asked.requests_per_minute)
    await limits.put(key, limit)
    return json_response(_view(tenant, name, limit), status=201 if created else 200)


async def get(request: web.Request) -> web.Response:
    """`GET /v1/limits/{name}`: a limit, and how much of it is in use."""
    require(request, Role.VIEWER, Role.OPERATOR)
    key, tenant, name = _named(request)
    limit = await _existing(request, key, name)
    running, starts_left = await use_of(request, key, limit)
    return json_response(_view(tenant, name, limit) | {"running": running, "starts_left": starts_left})


async def list_limits(request: web.Request) -> web.Response:
    """`GET /v1/limits`: the limits of a tenant, by name."""
    require(request, Role.VIEWER, Role.OPERATOR)
    tenant = scope(request, Query(request, "tenant"), wide=Role.OPERATOR)
    found = await request.app[LIMITS].all()
    prefix = limit_key(tenant, "")
    views = [
        _view(tenant, key.removeprefix(prefix), found[key]) for key in sorted(found) if key.startswith(prefix)
    ]
    return json_response({"limits": views})


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/limits/{name}`: jobs that count against it run without."""
    require(request, Role.OPERATOR)
    key, _, name = _named(request)
    await _existing(request, key, name)
    await request.app[LIMITS].delete(key)
    return web.Response(status=204)


def _named(request: web.Request) -> tuple[str, str, str]:
    """The key of the limit in the request's path, its tenant and its name.

    Raises:
        InvalidError: it is not a name.
    """
    tenant = scope(request, Query(request, "tenant"), wide=Role.OPERATOR)
    name = request.match_info["name"]
    if subjects.NAME.fullmatch(name) is None:
        raise InvalidError(f"name: a name that matches {subjects.NAME.pattern} was expected", field="name")
    return limit_key(tenant, name), tenant, name


async def _existing(request: web.Request, key: str, name: str) -> Limit:
    limit = await request.app[LIMITS].get(key)
    if limit is None:
        raise NotFoundError(f"there is no limit {name[:SHOWN_CHARS]}", field="name")
    return limit


async def use_of(request: web.Request, key: str, limit: Limit) -> tuple[int, bool]:
    """How many of a limit's jobs run, and whether one more may start within this minute."""
    app = request.app
    running = app[READ_MODEL].running_in(app[LANES].with_limit(key))
    starts_left = limit.per_minute is None or await app[LIMITS].may_start(key)
    return running, starts_left


def _view(tenant: str, name: str, limit: Limit) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(limit)
    return {
        "name": name,
        "tenant": tenant,
        "concurrency": None,
        "per_minute": None,
        "requests_per_minute": None,
    } | fields
