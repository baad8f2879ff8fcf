"""What messages, projects, drafts, actions and roles share: new ones, lists by index, changes, and room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Meta

from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    VersionConflictError,
)
from switchyard.services.gateway.doors.octopoid.desk import DEFAULT_LISTED, Desk, desk_of, page_of
from switchyard.services.gateway.doors.octopoid.kept import room
from switchyard.services.gateway.doors.octopoid.kept.sorts import FIELDS, GROUPED
from switchyard.services.gateway.http.routes import Call
from switchyard.services.records.entries.documents import Document
from switchyard.services.records.entries.index import Row

Word = Annotated[str, Meta(min_length=1, max_length=255)]
Maybe = Annotated[str, Meta(max_length=255)]
"""As `Word`, but empty where it is not said."""
Text = Annotated[str, Meta(max_length=200_000)]
FULL: Final = frozenset({"limit", "too_many_bytes"})


async def new(desk: Desk, sort: str, name: str, fields: Document) -> Document:
    """Keep what is not there; where the scope is full, what has ended long ago makes room.

    Raises:
        ConflictError: it is there.
        LimitError: there is no room, and nothing makes any.
    """
    tenant, documents = desk.tenant, desk.documents
    found = await documents.find(tenant, sort, name)
    if found.document is None:
        document = fields | {"id": fields.get("id", name), "scope": desk.scope}
        try:
            try:
                await documents.create(tenant, sort, name, document, found.revision)
            except LimitError as error:
                if error.code not in FULL or not await room.make(desk, sort):
                    raise
                await documents.create(tenant, sort, name, document, found.revision)
        except VersionConflictError:
            pass  # somebody was faster
        else:
            return document
    raise ConflictError(f"{sort.capitalize()} {name[:64]} already exists", code="exists")


def said(form: msgspec.Struct) -> Document:
    """The fields of a body that makes something; an empty text says nothing, as at Octopoid's own server."""
    return {name: None if value == "" else value for name, value in msgspec.structs.asdict(form).items()}


class Page(NamedTuple):
    """Some documents of a list."""

    documents: list[Document]
    total: int
    offset: int
    limit: int


async def listed(
    call: Call[Any],
    sort: str,
    filters: Iterable[str],
    hidden: Callable[[Row], bool] | None = None,
) -> Page:
    """The page of a list that is asked for, the newest first; only its own documents are read."""
    desk = desk_of(call)
    rows = await matching(desk, sort, wanted_of(call, filters))
    rows = [row for row in rows if hidden is None or not hidden(row)]
    rows.sort(key=lambda row: row.facts[:2], reverse=True)
    return await page(call, desk, sort, rows)


def wanted_of(call: Call[Any], filters: Iterable[str]) -> dict[str, str]:
    """The values of filters that a query names; an empty one asks for nothing."""
    return {name: value for name in filters if (value := call.query.text(name))}


async def matching(desk: Desk, sort: str, wanted: Mapping[str, str]) -> list[Row]:
    """The rows of the documents that have some values, in no order."""
    shelf = await desk.documents.shelf(desk.tenant, sort)
    groups = [shelf.groups.get((name, wanted[name]), {}) for name in GROUPED.get(sort, ()) if name in wanted]
    rows = min(groups, key=len, default=shelf.rows).values()
    asked = [(FIELDS[sort].index(name), value) for name, value in wanted.items()]
    return [row for row in rows if all(_same(row.facts[at], value) for at, value in asked)]


def _same(fact: Any, value: str) -> bool:
    return fact is not None and str(fact) == value


async def page(
    call: Call[Any], desk: Desk, sort: str, rows: Sequence[Row], *, limit: int = DEFAULT_LISTED
) -> Page:
    """The documents of the page that is asked for, of all rows in order.

    Args:
        call: the request.
        desk: that of its scope.
        sort: that of the rows.
        rows: all that match.
        limit: where the request does not say.
    """
    offset, limit = page_of(call, limit)
    found = await desk.documents.read(desk.tenant, sort, rows[offset : offset + limit])
    return Page([one.document for one in found if one.document is not None], len(rows), offset, limit)


async def change(call: Call[Any], sort: str, name: str, made: Callable[[Document], Document]) -> Document:
    """Change a document.

    Raises:
        NotFoundError: there is none.
    """
    desk = desk_of(call)
    return (await desk.documents.change(desk.tenant, sort, name, made)).document or {}


async def delete(desk: Desk, sort: str, name: str) -> None:
    """Take a document away.

    Raises:
        NotFoundError: there is none.
        ConflictError: another request changed it meanwhile.
    """
    found = await desk.documents.get(desk.tenant, sort, name)
    try:
        await desk.documents.delete(desk.tenant, sort, name, found.revision)
    except VersionConflictError:
        message = f"{sort} {name[:64]}: another request changed it meanwhile"
        raise ConflictError(message) from None


def given(form: msgspec.Struct) -> Document:
    """The fields that the body of a change names.

    Raises:
        InvalidError: there are none.
    """
    fields = {name: value for name, value in msgspec.structs.asdict(form).items() if value is not UNSET}
    if not fields:
        raise InvalidError("No fields to update")
    return fields


def missing(what: str, name: str) -> NotFoundError:
    """The refusal of what is not there."""
    return NotFoundError(f"{what} {name[:64]} not found", field="id")
