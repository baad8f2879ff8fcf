"""Drafts: what somebody thinks of, before it is a task or a project. Their ids are whole numbers."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final

import msgspec
import orjson
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import InvalidError, NotFoundError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.answers import DraftAnswer, DraftPage, Gone
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept.documents import Maybe, Word
from switchyard.services.gateway.doors.octopoid.kept.sorts import COUNTER, DRAFT
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document

FILTERS: Final = ("status", "author", "domain", "linked_task_id", "linked_project_id")
ID_DIGITS: Final = 15
FilePath = Annotated[str, Meta(max_length=4096)]
Title = Annotated[str, Meta(min_length=1, max_length=2000)]


class DraftForm(msgspec.Struct, frozen=True):
    """The body of a draft's creation."""

    title: Title
    author: Word
    status: Maybe | None = None
    domain: Maybe | None = None
    file_path: FilePath | None = None
    linked_task_id: Maybe | None = None
    linked_project_id: Maybe | None = None
    tags: Any = None


class DraftChange(msgspec.Struct, frozen=True):
    """The body of a draft's change."""

    title: Title | UnsetType = UNSET
    author: Word | UnsetType = UNSET
    status: Word | UnsetType = UNSET
    domain: Word | UnsetType | None = UNSET
    file_path: FilePath | UnsetType | None = UNSET
    linked_task_id: Word | UnsetType | None = UNSET
    linked_project_id: Word | UnsetType | None = UNSET
    tags: Any = UNSET


async def create_draft(call: Call[DraftForm]) -> web.Response:
    """`POST /api/v1/drafts`: its id is the next whole number of the scope."""
    desk = desk_of(call)
    asked, at = call.body, now()
    number = await _next(desk)
    fields = kept.said(asked) | {
        "id": number, "status": asked.status or "idea", "tags": _tags(asked.tags) if asked.tags else None,
        "created_at": at, "updated_at": at,
    }  # fmt: skip
    return json_response(view(await kept.new(desk, DRAFT, str(number), fields)), status=201)


async def _next(desk: Desk) -> int:
    return await count_on(desk, lambda last: last + 1)


async def count_on(desk: Desk, following: Any) -> int:
    """The last number that was given away, after the one before is changed to what follows."""
    tenant, documents = desk.tenant, desk.documents

    def change(count: Document) -> Document:
        return {"last": following(count["last"])}

    try:
        counted = await documents.change(tenant, COUNTER, DRAFT, change)
    except NotFoundError:
        found = await documents.find(tenant, COUNTER, DRAFT)
        if found.document is None:  # else somebody was faster, and may have counted already
            with contextlib.suppress(VersionConflictError):  # as here
                await documents.create(tenant, COUNTER, DRAFT, {"last": 0}, found.revision)
        counted = await documents.change(tenant, COUNTER, DRAFT, change)
    return int((counted.document or {})["last"])


async def list_drafts(call: Call[None]) -> web.Response:
    """`GET /api/v1/drafts`."""
    page = await kept.listed(call, DRAFT, FILTERS)
    drafts = [view(document) for document in page.documents]
    return json_response(DraftPage(drafts=drafts, total=page.total, offset=page.offset, limit=page.limit))


async def get_draft(call: Call[None]) -> web.Response:
    """`GET /api/v1/drafts/{id}`."""
    desk, number = desk_of(call), _number(call)
    found = (await desk.documents.find(desk.tenant, DRAFT, number)).document
    if found is None:
        raise kept.missing("Draft", number)
    return json_response(view(found))


async def patch_draft(call: Call[DraftChange]) -> web.Response:
    """`PATCH /api/v1/drafts/{id}`."""
    number, fields = _number(call), kept.given(call.body)
    if "tags" in fields:
        fields["tags"] = _tags(fields["tags"])
    changed = await kept.change(call, DRAFT, number, lambda draft: draft | fields | {"updated_at": now()})
    return json_response(view(changed))


async def delete_draft(call: Call[None]) -> web.Response:
    """`DELETE /api/v1/drafts/{id}`; its number is not given away again."""
    desk, number = desk_of(call), _number(call)
    await kept.delete(desk, DRAFT, number)
    return json_response(Gone(message=f"Draft {number} deleted"))


def _number(call: Call[Any]) -> str:
    """A draft's id as it is kept.

    Raises:
        InvalidError: it is no whole number.
    """
    text = call.named("id")
    if not text.isascii() or not text.isdecimal() or len(text) > ID_DIGITS:
        raise InvalidError("Draft ID must be an integer", field="id")
    return str(int(text))


def _tags(tags: Any) -> str:
    """Tags as Octopoid has them: JSON in a string."""
    return orjson.dumps(tags).decode()


def view(document: Document) -> DraftAnswer:
    """A draft as clients see it."""
    known: dict[str, Any] = {name: document.get(name) for name in DraftAnswer.__struct_fields__}
    tags = known["tags"]
    return DraftAnswer(**known | {"tags": tags if tags is None or isinstance(tags, str) else _tags(tags)})
