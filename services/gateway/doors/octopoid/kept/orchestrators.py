"""Orchestrators, and how a scope gets its API key."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta

from switchyard.events.errors import ForbiddenError, InvalidError, VersionConflictError
from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Role
from switchyard.services.gateway.doors.octopoid.answers import (
    Beat,
    KeyAnswer,
    OrchestratorAnswer,
    OrchestratorList,
    Registered,
)
from switchyard.services.gateway.doors.octopoid.desk import DOCUMENTS, KEYS, SCOPE, desk_of, now, words
from switchyard.services.gateway.doors.octopoid.kept.room import time_of
from switchyard.services.gateway.doors.octopoid.keys.admin import ADMIN
from switchyard.services.gateway.doors.octopoid.keys.scopes import MAX_SCOPE_CHARS, tenant_of
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document, Documents

SORT: Final = "orchestrator"
STALE_S: Final = 120.0

Word = Annotated[str, Meta(min_length=1, max_length=120)]


class RegisterForm(msgspec.Struct, frozen=True):
    """The body of a registration."""

    cluster: Word
    machine_id: Word
    repo_url: Annotated[str, Meta(min_length=1, max_length=2000)]
    scope: Annotated[str, Meta(min_length=1, max_length=MAX_SCOPE_CHARS)]
    hostname: str | None = None
    version: str | None = None
    capabilities: dict[str, Any] | None = None


class StatusForm(msgspec.Struct, frozen=True):
    """The body of a change."""

    status: Literal["active", "offline", "maintenance"]


class BeatForm(msgspec.Struct, frozen=True):
    """The body of a heartbeat."""

    timestamp: Annotated[str, Meta(max_length=64)] | None = None


async def register(call: Call[RegisterForm]) -> web.Response:
    """`POST /api/v1/orchestrators/register`: without its key, only for a scope that nobody has registered."""
    asked = call.body
    tenant = tenant_of(asked.scope)
    key = None
    if SCOPE not in call.request:
        key = await call.part(KEYS).create(asked.scope)
        if key is None and ADMIN not in call.request:
            message = "the scope is registered: this needs Authorization: Bearer <the scope's api_key>"
            raise UnauthenticatedError(message, code="token_missing")
    name, at = f"{asked.cluster}-{asked.machine_id}", now()
    document: Document = msgspec.structs.asdict(asked) | {
        "id": name, "registered_at": at, "last_heartbeat": at, "status": "active",
    }  # fmt: skip
    is_new = await _written(call.part(DOCUMENTS), tenant, name, document)
    body = Registered(orchestrator_id=name, registered_at=at, api_key=key or UNSET)
    return json_response(body, status=201 if is_new else 200)


async def _written(documents: Documents, tenant: str, name: str, document: Document) -> bool:
    """Write an orchestrator down; whether it was new."""
    found = await documents.find(tenant, SORT, name)
    if found.document is None:
        try:
            await documents.create(tenant, SORT, name, document, found.revision)
        except VersionConflictError:
            pass  # it registers twice at once
        else:
            return True
    await documents.change(
        tenant, SORT, name, lambda known: document | {"registered_at": known["registered_at"]}
    )
    return False


async def heartbeat(call: Call[BeatForm]) -> web.Response:
    """`POST .../{id}/heartbeat`: the orchestrator lives, by its own clock where it says so."""
    desk = desk_of(call)
    at = call.body.timestamp or now()
    if time_of(at) is None:
        raise InvalidError("timestamp: an ISO 8601 time was expected", field="timestamp")
    beat = {"last_heartbeat": at, "status": "active"}
    await desk.documents.change(desk.tenant, SORT, call.named("id"), lambda known: known | beat)
    return json_response(Beat(last_heartbeat=at))


async def list_orchestrators(call: Call[None]) -> web.Response:
    """`GET /api/v1/orchestrators`: the last heard of first."""
    desk = desk_of(call)
    found = await desk.documents.all(desk.tenant, SORT)
    views = [_view(known.document) for known in found if known.document is not None]
    for name in ("cluster", "status"):
        wanted = words(call, name)
        views = [view for view in views if not wanted or getattr(view, name) in wanted]
    views.sort(key=lambda view: view.last_heartbeat, reverse=True)
    return json_response(OrchestratorList(orchestrators=views, total=len(views)))


async def get(call: Call[None]) -> web.Response:
    """`GET .../{id}`."""
    desk = desk_of(call)
    found = await desk.documents.get(desk.tenant, SORT, call.named("id"))
    return json_response(_view(found.document or {}))


async def patch(call: Call[StatusForm]) -> web.Response:
    """`PATCH .../{id}`: another status."""
    desk = desk_of(call)
    asked = call.body
    found = await desk.documents.change(
        desk.tenant,
        SORT,
        call.named("id"),
        lambda known: known | {"status": asked.status},
    )
    return json_response(_view(found.document or {}))


def _view(document: Document) -> OrchestratorAnswer:
    """The orchestrator; one that was not heard of for long is offline."""
    heard_at = time_of(document["last_heartbeat"])
    silent = heard_at is None or clock.now() - heard_at > timedelta(seconds=STALE_S)
    stale = document["status"] == "active" and silent
    known: dict[str, Any] = {name: document.get(name) for name in OrchestratorAnswer.__struct_fields__}
    return OrchestratorAnswer(**{**known, "status": "offline" if stale else document["status"]})


async def rotate_key(call: Call[None]) -> web.Response:
    """`POST .../scopes/{scope}/rotate-key`: another key, for who has the old one, or an admin."""
    scope = call.named("scope")
    tenant_of(scope)  # refused where it is no name for a scope
    own = call.request.get(SCOPE)
    if own is not None and own != scope:
        raise ForbiddenError("scope: the API key is another scope's", code="scope_mismatch", field="scope")
    if own is None:
        call.caller.check(Role.ADMIN)
    return json_response(KeyAnswer(api_key=await call.part(KEYS).rotate(scope), scope=scope))
