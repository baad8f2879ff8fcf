"""Actions: what an agent proposes to do with something, until somebody has it carried out."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.answers import ActionAnswer, ActionPage
from switchyard.services.gateway.doors.octopoid.desk import desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept.documents import Maybe, Text, Word
from switchyard.services.gateway.doors.octopoid.kept.room import has_expired
from switchyard.services.gateway.doors.octopoid.kept.sorts import ACTION, FIELDS
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document
from switchyard.services.records.entries.index import Row

FILTERS: Final = ("entity_type", "entity_id", "status")
_EXPIRES: Final = FIELDS[ACTION].index("expires_at")
STATUSES: Final = ("proposed", "execute_requested", "executing", "completed", "failed", "expired")


class ActionForm(msgspec.Struct, frozen=True):
    """The body of an action's creation."""

    entity_type: Word
    entity_id: Word
    label: Word
    action_type: Maybe | None = None
    description: Text | None = None
    action_data: Any = None
    proposed_by: Maybe | None = None
    expires_at: Maybe | None = None
    metadata: Any = None


class ActionChange(msgspec.Struct, frozen=True):
    """The body of an action's change."""

    status: Word | UnsetType = UNSET
    result: Any = UNSET


class ActionResult(msgspec.Struct, frozen=True):
    """The body of an action's end."""

    result: Any = None


async def create_action(call: Call[ActionForm]) -> web.Response:
    """`POST /api/v1/actions`."""
    desk = desk_of(call)
    asked = call.body
    name = f"act-{int(clock.now().timestamp() * 1000)}-{secrets.token_hex(6)}"
    fields = kept.said(asked) | {
        "action_type": asked.action_type or "proposal", "status": "proposed", "proposed_at": now(),
        "executed_at": None, "result": None,
    }  # fmt: skip
    return json_response(_view(await kept.new(desk, ACTION, name, fields)), status=201)


async def list_actions(call: Call[None]) -> web.Response:
    """`GET /api/v1/actions`: those whose time is not over."""

    def hidden(row: Row) -> bool:
        return has_expired(row.facts[_EXPIRES])

    page = await kept.listed(call, ACTION, FILTERS, hidden)
    actions = [_view(document) for document in page.documents]
    return json_response(ActionPage(actions=actions, total=page.total, offset=page.offset, limit=page.limit))


async def patch_action(call: Call[ActionChange]) -> web.Response:
    """`PATCH /api/v1/actions/{id}`: another status, the result."""
    fields = kept.given(call.body)
    status = fields.get("status", STATUSES[0])
    if status not in STATUSES:
        valid = ", ".join(STATUSES)
        raise InvalidError(f'Invalid status "{status[:64]}". Valid statuses: {valid}', field="status")
    return await _changed(call, lambda action: action | fields)


async def execute_action(call: Call[None]) -> web.Response:
    """`POST /api/v1/actions/{id}/execute`."""

    def change(action: Document) -> Document:
        if action["status"] != "proposed":
            message = f'Cannot execute action with status "{action["status"]}". '
            raise InvalidError(message + 'Only "proposed" actions can be executed.', field="id")
        if has_expired(action["expires_at"]):
            raise InvalidError("Action has expired", field="id")
        return action | {"status": "execute_requested", "executed_at": now()}

    return await _changed(call, change)


async def complete_action(call: Call[ActionResult]) -> web.Response:
    """`POST /api/v1/actions/{id}/complete`."""
    return await _ended(call, "completed")


async def fail_action(call: Call[ActionResult]) -> web.Response:
    """`POST /api/v1/actions/{id}/fail`."""
    return await _ended(call, "failed")


async def _ended(call: Call[ActionResult], status: str) -> web.Response:
    asked = call.body
    return await _changed(call, lambda action: action | {"status": status, "result": asked.result})


async def _changed(call: Call[Any], change: Any) -> web.Response:
    return json_response(_view(await kept.change(call, ACTION, call.named("id"), change)))


def _view(document: Document) -> ActionAnswer:
    known: dict[str, Any] = {name: document.get(name) for name in ActionAnswer.__struct_fields__}
    return ActionAnswer(**known)
