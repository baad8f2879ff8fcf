"""Questions of whoever archives jobs, answered from indexes: which have ended, and which are still needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.guarded import guarded
from switchyard.projections.jobs import ENDED, decode, microseconds
from switchyard.projections.kept import gone
from switchyard.projections.known import fitting
from switchyard.projections.reader import ReadModel

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATES: Final = tuple(sorted(ENDED))
_MARKS: Final = ",".join("?" * len(_STATES))
_CLASSES: Final = (
    f"SELECT DISTINCT tenant, kind, state FROM counts WHERE state IN ({_MARKS}) AND jobs > 0 "  # noqa: S608 - only question marks
    "ORDER BY tenant, kind, state"
)
_PAGE: Final = (
    "SELECT ended_at, doc FROM jobs WHERE tenant = ? AND kind = ? AND state = ? AND ended_at IS NOT NULL "
    "AND ended_at <= ? AND (ended_at, id) > (?, ?) ORDER BY ended_at, id LIMIT ?"
)

_ERASED: Final = (
    "SELECT erase_at, doc FROM jobs WHERE erase_at <= ? AND (erase_at, id) > (?, ?) "
    "ORDER BY erase_at, id LIMIT ?"
)


class Group(NamedTuple):
    """Jobs that are kept equally long; `state` is how they ended."""

    tenant: str
    kind: str
    state: str


class Mark(NamedTuple):
    """A place among jobs in the order of a time: epoch microseconds and an id."""

    ended_at: int = -1
    job_id: str = ""


@guarded
class EndedJobs(ReadModel):
    """The read model as whoever archives jobs sees it; it raises as `ReadModel` does."""

    def groups(self) -> list[Group]:
        """All groups that have jobs."""
        return [Group(*row) for row in self._open().execute(_CLASSES, _STATES)]

    def ended(self, group: Group, before: datetime, after: Mark, limit: int) -> list[tuple[Mark, Job]]:
        """The jobs of a group that ended by a time, the earliest first, from a place on; fewer if large."""
        values = (*group, microseconds(before), *after, limit)
        rows = self._open().execute(_PAGE, values)
        found = [(ended_at, decode(doc)) for ended_at, doc in fitting(rows)]
        return [(Mark(ended_at, job.id), job) for ended_at, job in found]

    def to_erase(self, now: datetime, after: Mark, limit: int) -> list[tuple[Mark, Job]]:
        """The jobs that are to be erased by now by what they say themselves, in order, from a place on."""
        rows = self._open().execute(_ERASED, (microseconds(now), *after, limit))
        found = [(erase_at, decode(doc)) for erase_at, doc in fitting(rows)]
        return [(Mark(erase_at, job.id), job) for erase_at, job in found]

    def needed(self, jobs: Sequence[JobId]) -> set[str]:
        """Those that others which have not ended depend on."""
        marks = ",".join("?" * len(jobs))
        query = f"SELECT DISTINCT parent FROM needs WHERE parent IN ({marks})"  # noqa: S608 - only question marks
        return {parent for (parent,) in self._open().execute(query, tuple(jobs))}

    def read_to(self) -> datetime | None:
        """Up to when all is in the read model that the broker took in; None where that is not known."""
        found = gone.noted(self._open())
        return None if found is None else _EPOCH + timedelta(microseconds=found[0])
