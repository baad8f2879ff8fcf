"""Messages about tasks: each is kept as it was posted, and listed oldest first."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.answers import MessageAnswer, MessagePage
from switchyard.services.gateway.doors.octopoid.desk import DEFAULT_LISTED, MAX_LISTED, Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept.documents import Maybe, Text, Word
from switchyard.services.gateway.doors.octopoid.kept.sorts import FIELDS, MESSAGE
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document, digest_of
from switchyard.services.records.entries.index import Row, Shelf

_AT, _ID, _TASK = map(FIELDS[MESSAGE].index, ("created_at", "id", "task_id"))
FILTERS: Final = ("task_id", "to_actor", "type")


class MessageForm(msgspec.Struct, frozen=True):
    """The body of a message."""

    task_id: Word
    from_actor: Word
    type: Word
    content: Annotated[Text, Meta(min_length=1)]
    to_actor: Maybe | None = None
    parent_message_id: Maybe | None = None


async def post_message(desk: Desk, fields: Mapping[str, Any]) -> Document:
    """Keep a message; its id begins with the milliseconds of its time, as Octopoid's do."""
    name = f"msg-{int(clock.now().timestamp() * 1000)}-{secrets.token_hex(6)}"
    given = {"to_actor": None, "parent_message_id": None, "created_at": now(), **fields}
    return await kept.new(desk, MESSAGE, name, given)


async def create_message(call: Call[MessageForm]) -> web.Response:
    """`POST /api/v1/messages`."""
    desk = desk_of(call)
    asked = call.body
    if asked.parent_message_id:
        tenant, documents = desk.tenant, desk.documents
        parent = (await documents.find(tenant, MESSAGE, asked.parent_message_id)).document
        if parent is None:
            message = f"Parent message not found: {asked.parent_message_id[:64]}"
            raise InvalidError(message, field="parent_message_id")
        if parent["task_id"] != asked.task_id:
            raise InvalidError("Parent message belongs to a different task", field="parent_message_id")
    made = await post_message(desk, kept.said(asked))
    return json_response(view(made), status=201)


async def list_messages(call: Call[None]) -> web.Response:
    """`GET /api/v1/messages`."""
    return await _listed(call, kept.wanted_of(call, FILTERS))


async def list_of_task(call: Call[None]) -> web.Response:
    """`GET /api/v1/tasks/{id}/messages`."""
    return await _listed(call, kept.wanted_of(call, FILTERS) | {"task_id": call.named("id")})


async def _listed(call: Call[None], wanted: Mapping[str, str]) -> web.Response:
    desk = desk_of(call)
    thread = call.query.text("thread_id")
    shelf = await desk.documents.shelf(desk.tenant, MESSAGE)
    if thread:
        rows = _thread(shelf, thread, wanted.get("task_id"))
    else:
        rows = await kept.matching(desk, MESSAGE, wanted)
    if call.query.text("unreplied") == "true":
        rows = [row for row in rows if not _answers(shelf, row)]
    rows.sort(key=lambda row: (row.facts[_AT], row.revision))
    page = await kept.page(call, desk, MESSAGE, rows, limit=MAX_LISTED if thread else DEFAULT_LISTED)
    messages = [view(document) for document in page.documents]
    return json_response(
        MessagePage(messages=messages, total=page.total, offset=page.offset, limit=page.limit)
    )


def _thread(shelf: Shelf, thread: str, task_id: str | None) -> list[Row]:
    """A message, what answers it, and what answers that; of one task alone where that is asked for."""
    first = shelf.rows.get(digest_of(thread))
    found = [] if first is None or task_id not in (None, first.facts[_TASK]) else [first]
    seen = {row.digest for row in found}
    for row in found:  # grows while it is gone through
        answers = [one for one in _answers(shelf, row) if one.digest not in seen]
        seen.update(one.digest for one in answers)
        found += answers
    return found


def _answers(shelf: Shelf, row: Row) -> Collection[Row]:
    return shelf.groups.get(("parent_message_id", row.facts[_ID]), {}).values()


def view(document: Document) -> MessageAnswer:
    """A message as clients see it."""
    known: dict[str, Any] = {name: document.get(name) for name in MessageAnswer.__struct_fields__}
    return MessageAnswer(**known)
