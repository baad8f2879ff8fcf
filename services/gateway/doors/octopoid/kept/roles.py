"""Roles that orchestrators register: which there are in a scope, and which queue each claims from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError, NotFoundError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.answers import RoleAnswer, RoleList
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept.documents import Word
from switchyard.services.gateway.doors.octopoid.kept.sorts import FIELDS, ROLE
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document

ORCHESTRATOR: Final = "orchestrator"
INCOMING: Final = "incoming"
MOST: Final = 200
_NAME, _FROM = map(FIELDS[ROLE].index, ("name", "claims_from"))


class OneRole(msgspec.Struct, frozen=True):
    """A role; one without a name is passed over, as Octopoid does."""

    name: Annotated[str, Meta(max_length=100)] | None = None
    claims_from: Annotated[str, Meta(max_length=100)] | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None


class RolesForm(msgspec.Struct, frozen=True):
    """The body of a registration of roles."""

    orchestrator_id: Word
    roles: Annotated[list[OneRole], Meta(max_length=MOST)]


async def register_roles(call: Call[RolesForm]) -> web.Response:
    """`POST /api/v1/roles/register`: each in the place of the one of that name."""
    desk = desk_of(call)
    asked = call.body
    if (await desk.documents.find(desk.tenant, ORCHESTRATOR, asked.orchestrator_id)).document is None:
        message = f"Orchestrator '{asked.orchestrator_id[:64]}' not found"
        raise InvalidError(message, field="orchestrator_id")
    for role in asked.roles:
        if role.name:
            await _put(desk, asked.orchestrator_id, role.name, role)
    return json_response(RoleList(roles=await _all(desk, asked.orchestrator_id)))


async def _put(desk: Desk, orchestrator: str, name: str, role: OneRole) -> None:
    fields: Document = {
        "name": name, "description": role.description or None, "claims_from": role.claims_from or INCOMING,
        "orchestrator_id": orchestrator, "created_at": now(),
    }  # fmt: skip
    found = await desk.documents.find(desk.tenant, ROLE, name)
    if found.document is None:
        try:
            await desk.documents.create(desk.tenant, ROLE, name, fields, found.revision)
        except VersionConflictError:
            pass  # somebody was faster
        else:
            return
    await desk.documents.change(desk.tenant, ROLE, name, lambda _: fields)


async def _all(desk: Desk, orchestrator: str | None = None) -> list[RoleAnswer]:
    wanted = {} if orchestrator is None else {"orchestrator_id": orchestrator}
    rows = await kept.matching(desk, ROLE, wanted)
    rows.sort(key=lambda row: row.facts[_NAME])
    found = await desk.documents.read(desk.tenant, ROLE, rows)
    return [_view(one.document) for one in found if one.document is not None]


async def list_roles(call: Call[None]) -> web.Response:
    """`GET /api/v1/roles`."""
    return json_response(RoleList(roles=await _all(desk_of(call))))


async def get_role(call: Call[None]) -> web.Response:
    """`GET /api/v1/roles/{name}`."""
    desk = desk_of(call)
    found = (await desk.documents.find(desk.tenant, ROLE, call.named("name"))).document
    if found is None:
        raise NotFoundError("Role not found", field="name")
    return json_response(_view(found))


async def check_roles(desk: Desk, names: Iterable[str | None], field: str) -> None:
    """Let roles pass that are registered; any where none is.

    Raises:
        InvalidError: one is not.
    """
    wanted = [name for name in names if name]
    if not wanted:
        return
    known = {row.facts[_NAME] for row in (await desk.documents.rows(desk.tenant, ROLE)).values()}
    for name in wanted:
        if known and name not in known:
            registered = ", ".join(sorted(known))
            message = f"Unknown role '{name[:64]}'. Registered roles: {registered}"
            raise InvalidError(message, field=field)


async def queue_of(desk: Desk, name: str) -> str:
    """The queue that a role claims from: that of its registration, or `incoming`."""
    found = (await desk.documents.find(desk.tenant, ROLE, name)).document
    queue: Any = None if found is None else found.get("claims_from")
    return queue if isinstance(queue, str) and queue else INCOMING


def _view(document: Document) -> RoleAnswer:
    known: dict[str, Any] = {name: document.get(name) for name in RoleAnswer.__struct_fields__}
    return RoleAnswer(**known)
