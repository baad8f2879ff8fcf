"""Room in a scope that is full: what has ended, and was left alone for long, goes first, the oldest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from switchyard.events.errors import VersionConflictError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.gateway.doors.octopoid.desk import Desk
from switchyard.services.gateway.doors.octopoid.kept.sorts import (
    ACTION,
    DRAFT,
    FIELDS,
    MESSAGE,
    PROJECT,
    TASK,
)
from switchyard.services.gateway.doors.octopoid.tasks import DONE, FAILED, Task, job_id_of
from switchyard.services.records.entries.index import Row

log = structlog.get_logger()

AT_ONCE: Final = 200
"""Most that go at once, so that not every write of a full scope looks for some."""
ENDED: Final[Mapping[str, frozenset[str]]] = {
    ACTION: frozenset({"completed", "failed", "expired"}),
    DRAFT: frozenset({"archived", "implemented"}),
    PROJECT: frozenset({"archived", "completed"}),
}
"""By sort, the statuses from which nothing goes on."""


async def make(desk: Desk, sort: str) -> int:
    """Take away up to `AT_ONCE` of a sort that have ended and are old; how many went.

    Messages go whose task is done, failed or no more; drafts, projects and actions by their status. What
    went is said in the log, with the time up to which.

    Raises:
        UnavailableError: the broker does not answer, or there is no read model.
    """
    if sort not in (MESSAGE, *ENDED):
        return 0
    rows = sorted((await desk.documents.rows(desk.tenant, sort)).values(), key=_age)
    before = clock.now() - timedelta(seconds=desk.settings.octopoid_keep_s)
    old = [row for row in rows if (at := time_of(_age(row))) is not None and at < before]
    ended = await _of_ended_tasks(desk, old) if sort == MESSAGE else [one for one in old if _ended(sort, one)]
    gone = [row for row in ended[:AT_ONCE] if await _removed(desk, sort, row)]
    if gone:
        log.warning(
            "octopoid_room_made", tenant=desk.tenant, sort=sort, removed=len(gone), until=_age(gone[-1]),
        )  # fmt: skip
    return len(gone)


def _age(row: Row) -> str:
    return str(row.facts[0])


def _ended(sort: str, row: Row) -> bool:
    names = FIELDS[sort]
    return row.facts[names.index("status")] in ENDED[sort] or (
        sort == ACTION and has_expired(row.facts[names.index("expires_at")])
    )


async def _of_ended_tasks(desk: Desk, rows: Sequence[Row]) -> list[Row]:
    at = FIELDS[MESSAGE].index("task_id")
    tasks = await desk.documents.rows(desk.tenant, TASK)
    there = {row.facts["id"]: row for row in tasks.values() if not row.facts["deleted"]}
    ended: dict[Any, bool] = {}
    found: list[Row] = []
    for row in rows:
        name = row.facts[at]
        if name not in ended:
            ended[name] = name not in there or _is_over(desk, there[name])
        if ended[name]:
            found.append(row)
            if len(found) == AT_ONCE:
                break
    return found


def _is_over(desk: Desk, row: Row) -> bool:
    job = desk.read_model.job(JobId(job_id_of(desk.tenant, row.facts["id"], row.facts["nonce"])))
    return job is not None and Task(row.facts, row.revision, job).queue in (DONE, FAILED)


async def _removed(desk: Desk, sort: str, row: Row) -> bool:
    try:
        await desk.documents.remove(desk.tenant, sort, row)
    except VersionConflictError:
        return False  # it was changed meanwhile, or another gateway was faster
    return True


def time_of(text: Any) -> datetime | None:
    """A time as Octopoid's clients and SQLite write them; one without a zone is in UTC; None for none."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def has_expired(expires_at: Any) -> bool:
    """Whether a time is over; what is no time never is."""
    time = time_of(expires_at)
    return time is not None and time <= clock.now()
