"""A task of Octopoid's own database as a task here: its document, its job, and the move to its queue."""

from __future__ import annotations

from typing import Final

import msgspec

from switchyard.events.errors import ConflictError
from switchyard.services.gateway.doors.octopoid.create import jobs_of, placed, with_job, write_down
from switchyard.services.gateway.doors.octopoid.desk import Desk, now
from switchyard.services.gateway.doors.octopoid.kept import flows
from switchyard.services.gateway.doors.octopoid.tasks import (
    CLAIMED,
    DONE,
    FAILED,
    FIELDS,
    INCOMING,
    PRIORITIES,
    SORT,
)
from switchyard.services.gateway.doors.octopoid.transfer.rows import TaskRow, moment
from switchyard.services.ids import new_id
from switchyard.services.records.entries.documents import Document

CHANGED: Final = "it was brought over before; what changed there since is not"


async def import_task(desk: Desk, row: TaskRow, digest: str, dry: frozenset[str] | None) -> tuple[bool, str]:
    """Bring a task over; whether it was not there, and what is to be said of it.

    With `dry` nothing is written, and of the tasks that it waits for those named there have to be here.

    Raises:
        RejectedError: it cannot be.
    """
    found = await desk.documents.find(desk.tenant, SORT, row.id)
    document = found.document
    if document is not None and (document["deleted"] or "imported" not in document):
        state = "was deleted here" if document["deleted"] else "is here already"
        raise ConflictError(f"a task with this id {state}", code="exists")
    queue = INCOMING if row.queue == CLAIMED else row.queue
    await flows.check_queue(desk, row.flow or "default", queue)
    notes = _notes(row)
    priority = PRIORITIES.get(row.priority or "P2", PRIORITIES["P2"])
    waits = None if queue in (DONE, FAILED) else row.blocked_by
    if dry is not None:
        if document is None:
            _document(row, queue, digest)
            names = {name.strip() for name in (waits or "").split(",")}
            await jobs_of(desk, ",".join(sorted(names & dry)))
        return document is None, notes
    waits_for = await jobs_of(desk, waits) if document is None or document["queue"] == queue else []
    is_new = document is None
    if document is None:
        document = _document(row, queue, digest) | {"blocked_by": waits or None}
        await write_down(desk, document, priority, waits_for, found.revision)
    task = await with_job(desk, document, priority, waits_for)
    if document["queue"] != INCOMING and task.is_new:
        await placed(desk, task, document["queue"])
    if document["imported"] != digest:
        notes = CHANGED
    return is_new, notes


def _notes(row: TaskRow) -> str:
    notes = []
    if row.queue == CLAIMED:
        holder = row.claimed_by or "nobody"
        notes.append(f"{holder} had claimed it: leases are not brought over, so it waits in incoming")
    elif row.claimed_by:
        notes.append(f"the review of {row.claimed_by} is not brought over")
    if row.priority is not None and row.priority not in PRIORITIES:
        notes.append(f"its priority {row.priority[:20]!r} is P2 now")
    if row.queue in (DONE, FAILED) and row.blocked_by:
        notes.append(f"it is {row.queue}, so blocked_by is not brought over")
    return "; ".join(notes)


def _document(row: TaskRow, queue: str, digest: str) -> Document:
    fields = {
        name: value for name, value in msgspec.structs.asdict(row).items()
        if name in FIELDS and value is not None
    }  # fmt: skip
    for name in ("submitted_at", "completed_at"):
        if (at := moment(name, getattr(row, name))) is not None:
            fields[name] = at
    created_at = moment("created_at", row.created_at) or now()
    return {
        "id": row.id, "nonce": new_id(), "request": f"import:{digest}", "imported": digest, "deleted": False,
        "queue": queue, "blocked_by": None, "place": None, "created_at": created_at,
        "updated_at": moment("updated_at", row.updated_at) or created_at,
        "counts": {
            "attempt_count": row.attempt_count or 0, "rejection_count": row.rejection_count or 0, "for": None,
        },
        "fields": fields,
    }  # fmt: skip
