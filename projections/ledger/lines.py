"""The lines of the ledger that a job's history comes to.

A line stands for each attempt whose lease has ended. An attempt whose result waits for a reviewer has its
line when that is decided, so that no attempt has two. What never held the lease, or held it no more, is in no
event and so in no line: a report of a fenced-off worker, a repeated one, a second taker of the same attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import NewerVersionError
from switchyard.events.events import Parted, Proposed, Succeeded
from switchyard.events.job import Job, evolve
from switchyard.events.ledger.line import OPERATION_CHARS, Line, amounts_of
from switchyard.events.values import ERASED, Lease
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.attempts import outcome

Entry = tuple[Recorded, datetime]
"""An event, and when the broker took it in."""


class _Ended(NamedTuple):
    """An attempt whose lease has ended, and what it used."""

    lease: Lease
    started_at: datetime
    ended_at: datetime
    usage: Mapping[str, float]


def lines(job_id: JobId, history: Iterable[Entry]) -> Iterator[Line]:
    """The lines of a job, in the order of the events by which they count.

    Args:
        job_id: the job's id.
        history: its events from the first on; one whose first were purged has no lines.

    Raises:
        NewerVersionError: a newer version of the program wrote one of them, so nobody can say how it went on.
    """
    job, started_at, judged = Job(id=job_id), None, None
    for entry, at in history:
        before, job = job, evolve(job, entry.event, entry.seq)
        if job.damage is not None:
            continue
        if job.lease is not None and before.lease is None:
            started_at = at
        elif before.lease is not None and job.lease is None:
            event = entry.event
            usage = event.usage if isinstance(event, Succeeded | Proposed | Parted) else {}
            ended = _Ended(before.lease, started_at or at, at, usage)
            if job.review is not None:
                judged = ended
            else:
                yield _line(job, entry, at, ended)
        elif judged is not None and job.review is None:
            yield _line(job, entry, at, judged)
            judged = None
    if job.damage is not None and job.damage.newer:
        raise NewerVersionError(f"job {job_id}: event {job.damage.seq}: {job.damage.reason}")


def erased_line(job: Job, entry: Recorded) -> Line:
    """The line which says that an archived job was erased; it has no units, so no bill has it."""
    return Line(
        id=entry.event_id or f"seq-{entry.seq}", seq=entry.seq, job=job.id, attempt=job.attempt, fence=0,
        tenant=job.tenant, kind=job.kind, operation=job.operation[:OPERATION_CHARS], key=job.key,
        worker="", engine="", units={}, started_at=job.created_at or entry.at,
        ended_at=job.ended_at or entry.at, at=entry.at, outcome=ERASED,
    )  # fmt: skip


def _line(job: Job, entry: Recorded, at: datetime, ended: _Ended) -> Line:
    lease, started_at, ended_at, usage = ended
    units, refused = amounts_of(usage, (ended_at - started_at).total_seconds())
    backend = lease.backend
    return Line(
        id=entry.event_id or f"seq-{entry.seq}", seq=entry.seq, job=job.id, attempt=lease.attempt,
        fence=lease.fence, tenant=job.tenant, kind=job.kind, operation=job.operation[:OPERATION_CHARS],
        key=job.key, worker=lease.worker,
        engine=lease.worker if backend is None else f"{backend.kind}/{backend.id}",
        units=units, refused=refused, started_at=started_at, ended_at=ended_at, at=at,
        outcome=outcome(entry.event),
    )  # fmt: skip
