"""`/v1/kinds`: defaults for the jobs of a kind."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.subjects import NAME
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import KINDS
from switchyard.services.gateway.http.callers import body_of, json_response, require
from switchyard.services.gateway.http.query import Query
from switchyard.services.records.kinds import DECODER, KindDefaults


async def list_kinds(request: web.Request) -> web.Response:
    """`GET /v1/kinds`: the kinds that have defaults of their own, by name."""
    require(request, Role.ADMIN)
    Query(request)
    found = request.app[KINDS].all()
    return json_response({"kinds": [_view(kind, defaults) for kind, defaults in found.items()]})


async def get(request: web.Request) -> web.Response:
    """`GET /v1/kinds/{kind}`."""
    kind = _kind(request)
    defaults = request.app[KINDS].all().get(kind)
    if defaults is None:
        raise NotFoundError(f"kind {kind} has no defaults of its own", field="kind")
    return json_response(_view(kind, defaults))


async def put(request: web.Request) -> web.Response:
    """`PUT /v1/kinds/{kind}`: set all defaults of a kind."""
    kind = _kind(request)
    defaults = await body_of(request, DECODER)
    await request.app[KINDS].put(kind, defaults)
    return json_response(_view(kind, defaults))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/kinds/{kind}`: leave the kind to Switchyard's own defaults."""
    kind = _kind(request)
    if kind not in request.app[KINDS].all():
        raise NotFoundError(f"kind {kind} has no defaults of its own", field="kind")
    await request.app[KINDS].delete(kind)
    return web.Response(status=204)


def _kind(request: web.Request) -> str:
    """The kind that an admin's request names."""
    require(request, Role.ADMIN)
    Query(request)
    kind = request.match_info["kind"]
    if NAME.fullmatch(kind) is None:
        raise InvalidError(f"kind: a name that matches {NAME.pattern} was expected", field="kind")
    return kind


def _view(kind: str, defaults: KindDefaults) -> dict[str, Any]:
    """All fields, also those that are left to Switchyard's own defaults."""
    shown = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    return {"kind": kind, **msgspec.to_builtins(shown)}
