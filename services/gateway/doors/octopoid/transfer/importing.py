"""`POST /api/v1/import`: rows of the database of Octopoid's own server, with their ids and dates.

A row that was brought over is passed over the next time, and one that broke off is continued, so the same
rows may come any number of times.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ConflictError, InvalidError, RejectedError, VersionConflictError
from switchyard.services.gateway.doors.octopoid.answers import Imported, ImportedRow
from switchyard.services.gateway.doors.octopoid.desk import Desk, desk_of, now
from switchyard.services.gateway.doors.octopoid.kept import documents as kept
from switchyard.services.gateway.doors.octopoid.kept import flows
from switchyard.services.gateway.doors.octopoid.kept.drafts import count_on
from switchyard.services.gateway.doors.octopoid.kept.sorts import DRAFT, TASK
from switchyard.services.gateway.doors.octopoid.tasks import BUILT_IN
from switchyard.services.gateway.doors.octopoid.transfer.rows import FORMS, FlowRow, TaskRow, listed, moment
from switchyard.services.gateway.doors.octopoid.transfer.tasks import CHANGED, import_task
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.faults import from_msgspec
from switchyard.services.records.entries.documents import Document

MOST: Final = 200
MOST_ABSENT: Final = 10_000
FLOW: Final = "flow"


class ImportForm(msgspec.Struct, frozen=True):
    """The body of an import.

    Args:
        sort: that of the rows.
        rows: as they stand in the table.
        dry_run: whether nothing is written.
        absent: with `dry_run`, the tasks that rows wait for and that do not come over with them.
    """

    sort: Literal["flow", "project", "task", "message", "draft", "action"]
    rows: Annotated[list[dict[str, Any]], Meta(max_length=MOST)]
    dry_run: bool = False
    absent: Annotated[list[str], Meta(max_length=MOST_ABSENT)] = []


async def import_rows(call: Call[ImportForm]) -> web.Response:
    """Bring rows over, one after the other; what is wrong with one is said of it alone."""
    desk = desk_of(call)
    asked = call.body
    dry = frozenset(asked.absent) if asked.dry_run else None
    outcomes = [await _outcome(desk, asked.sort, row, dry) for row in asked.rows]
    return json_response(Imported(rows=outcomes))


async def _outcome(desk: Desk, sort: str, row: dict[str, Any], dry: frozenset[str] | None) -> ImportedRow:
    """What becomes of a row; with `dry` nothing is written, and those named there are not in the file."""
    name = str(row.get("name" if sort == FLOW else "id"))[:255]
    digest = hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()
    try:
        is_new, note = await _brought(desk, sort, row, digest, dry)
    except msgspec.ValidationError as error:
        return ImportedRow(id=name, outcome="refused", reason=str(from_msgspec(error)))
    except RejectedError as error:
        return ImportedRow(id=name, outcome="refused", reason=str(error))
    return ImportedRow(id=name, outcome="made" if is_new else "there", reason=note)


async def _brought(
    desk: Desk, sort: str, row: dict[str, Any], digest: str, dry: frozenset[str] | None
) -> tuple[bool, str]:
    if sort == TASK:
        return await import_task(desk, msgspec.convert(row, TaskRow), digest, dry)
    if sort == FLOW:
        name, document = _flow(desk, msgspec.convert(row, FlowRow))
    else:
        document = msgspec.convert(row, FORMS[sort]).kept() | {"scope": desk.scope}
        name = str(document["id"])
    found = (await desk.documents.find(desk.tenant, sort, name)).document
    if found is not None:
        known = found.get("imported")
        if known is None:
            raise ConflictError(f"another {sort} with this id is here already", code="exists")
        return False, "" if known == digest else CHANGED
    if dry is None:
        await _write(desk, sort, name, document | {"imported": digest})
    return True, ""


async def _write(desk: Desk, sort: str, name: str, document: Document) -> None:
    if sort == DRAFT:  # before it stands there: nobody may be given its number
        await count_on(desk, lambda last: max(last, document["id"]))
    if sort == FLOW:
        found = await desk.documents.find(desk.tenant, sort, name)
        try:
            await desk.documents.create(desk.tenant, sort, name, document, found.revision)
        except VersionConflictError:
            raise ConflictError("another request registers this flow", code="race") from None
        return
    await kept.new(desk, sort, name, document)


def _flow(desk: Desk, row: FlowRow) -> tuple[str, Document]:
    form = msgspec.convert(
        {"states": listed("states", row.states), "transitions": listed("transitions", row.transitions)},
        flows.FlowForm,
    )
    if missing := BUILT_IN - set(form.states):
        raise InvalidError(f"states: the built-in queues {', '.join(sorted(missing))} are missing")
    registered_at = moment("registered_at", row.registered_at) or now()
    return row.name, {
        "name": row.name, "scope": desk.scope, **msgspec.structs.asdict(form), "registered_at": registered_at,
        "updated_at": moment("updated_at", row.updated_at) or registered_at,
    }  # fmt: skip
