"""Models, their versions and deployments, each of which is a kind; and the account, which is a tenant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.gateway.doors.compat.replicate import views
from switchyard.services.gateway.doors.compat.replicate.answers import Account, Deployment, Versions
from switchyard.services.gateway.doors.compat.replicate.predictions import kind_named
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.routes import Call

SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Clients want to read when a version was made; a kind has no such time."""


async def model(call: Call[None]) -> web.Response:
    """`GET /v1/models/{owner}/{name}`: the kind that the name stands for, whether or not somebody runs it."""
    kind = _kind(call)
    shown = views.model(origin_of(call.request), call.named("owner"), call.named("name"), kind, SINCE)
    return json_response(shown)


async def versions(call: Call[None]) -> web.Response:
    """`GET /v1/models/{owner}/{name}/versions`: the one that there is."""
    return json_response(Versions(results=[views.version(_kind(call), SINCE)]))


async def version(call: Call[None]) -> web.Response:
    """`GET /v1/models/{owner}/{name}/versions/{id}`: the same, under the name that the client knows."""
    _kind(call)
    return json_response(views.version(call.named("id"), SINCE))


async def deployment(call: Call[None]) -> web.Response:
    """`GET /v1/deployments/{owner}/{name}`: the same as a deployment."""
    _kind(call)
    return json_response(Deployment(owner=call.named("owner"), name=call.named("name")))


async def account(call: Call[None]) -> web.Response:
    """`GET /v1/account`: the tenant."""
    tenant = call.caller.tenant
    return json_response(Account(type="organization", username=tenant, name=tenant))


def _kind(call: Call[Any]) -> str:
    try:
        return kind_named(call, field="name")
    except InvalidError as error:
        raise NotFoundError(error.message, field=error.field) from None
