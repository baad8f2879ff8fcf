"""A batch of events folded in memory into the rows that it changes, written once per row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.events import Unreadable
from switchyard.events.job import Job, evolve
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections import (
    attempts,
    checkpoint,
    counts,
    dead_letters,
    jobs,
    labels,
    tenants,
    workers,
)
from switchyard.projections.checkpoint import Place
from switchyard.projections.kept import needs
from switchyard.projections.kept.gone import gone_at
from switchyard.projections.known import KnownJobs, weight
from switchyard.projections.lists import batches
from switchyard.projections.series import table as series

_LOOK_UP_AT_ONCE: Final = 500
_TOKENS: Final = 3
LOAD_BYTES: Final = 64 * 1024 * 1024
"""What the jobs of a batch that are read back may weigh together, by `known.weight`."""
NO_TIMES: Final[Mapping[Seq, int]] = {}
NO_JOB: Final = "its subject is not that of a job's event"

Message = tuple[str, Mapping[str, str] | None, bytes, Seq]
"""Subject, headers, body and sequence of a message of the log."""
_Named = tuple[str, str, Mapping[str, str] | None, bytes, Seq]


class TooMuchError(Exception):
    """The jobs of a batch are too large together."""


class Batch:
    """What a batch of events changes: each job as it was and is, and the attempts that began or ended.

    `unreadable` are the messages that are no event of a job, or damage one, with the reason. `place` is the
    last message of it. `gone` says when the summaries of archived jobs go, in epoch microseconds. `again` are
    archived jobs in whose place others of the same ids have begun. `rest` is what is to be written after it.
    """

    def __init__(self) -> None:
        self.place = Place()
        self.before: dict[str, Job] = {}
        self.after: dict[str, Job] = {}
        self.archived: list[str] = []
        self.attempts = attempts.Attempts()
        self.workers = workers.Workers()
        self.unreadable: list[tuple[Seq, str]] = []
        self.gone: dict[str, int] = {}
        self.again: list[Job] = []
        self.rest: Batch | None = None

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows and the checkpoint in one transaction."""
        with connection:
            part: Batch | None = self
            while part is not None:
                part.write_rows(connection)
                part = part.rest

    def write_rows(self, connection: sqlite3.Connection) -> None:
        """Write the rows of this part; part of the caller's transaction."""
        changes = [(before, self.after[job_id]) for job_id, before in self.before.items()]
        again = {job.id for job in self.again}
        new = [after for before, after in changes if before.status is Status.ABSENT or after.id in again]
        jobs.write(connection, self.after.values(), self.gone)
        labels.forget(connection, self.again)
        labels.write(connection, new)
        self.attempts.write(connection)
        self.workers.forget(attempts.forget(connection, self.archived))
        dead_letters.write(connection, changes)
        counts.write(connection, changes)
        batches.write(connection, changes)
        series.write(connection, changes)
        needs.write(connection, changes)
        tenants.write(connection, changes)
        self.workers.write(connection)
        checkpoint.write(connection, "log", self.place)


class Folder:
    """Folds events in order; remembers the latest jobs.

    Args:
        reader: a connection that sees what was written before the oldest batch not yet written.
        known: remembers jobs.
    """

    def __init__(self, reader: sqlite3.Connection, known: KnownJobs) -> None:
        self._reader = reader
        self._known = known
        self._gone: dict[str, int] = {}
        self._now = 0

    def pass_to(self, now: int) -> None:
        """Take it that all rows are removed which are gone by this time, before the next batch is written."""
        self._now = max(self._now, now)
        for job_id in [job_id for job_id, at in self._gone.items() if at <= now]:
            del self._gone[job_id]
            self._known.replace(Job(id=JobId(job_id)), b"")  # the file may not have what is to be removed yet

    def fold(
        self, messages: Iterable[Message], place: Place | None = None, taken_in: Mapping[Seq, int] = NO_TIMES
    ) -> Batch:
        """The batch of these messages.

        Args:
            messages: in the order of the log.
            place: says more of the last one.
            taken_in: when the broker took in those that archive a job, in nanoseconds since the epoch.

        Raises:
            TooMuchError: their jobs are too large together; nothing was folded, and fewer may be.
        """
        named = [(_named(message[0]), *message) for message in messages]
        wanted = {job_id for job_id, *_ in named}
        self._load(wanted, most_bytes=LOAD_BYTES if len(named) > 1 else None)
        self._known.begin(wanted)
        batch = self._fold(named, place, taken_in)
        self._trim()
        return batch

    def _trim(self) -> None:
        for job_id in self._known.trim():
            self._gone.pop(job_id, None)

    def _fold(self, named: Sequence[_Named], place: Place | None, taken_in: Mapping[Seq, int]) -> Batch:
        batch = Batch()
        known = self._known
        for index, (job_id, subject, headers, body, seq) in enumerate(named):
            before = known.get(job_id)
            if before is not None and before.status is Status.ARCHIVED and job_id in batch.after:
                # What it was is written before what it is now: each job stands once in a batch.
                batch.rest = self._fold(named[index:], place, taken_in)
                batch.unreadable += batch.rest.unreadable
                batch.place = batch.rest.place
                return batch
            if before is None:
                if subjects.job_of(subject) is None:
                    batch.unreadable.append((seq, NO_JOB))
                    continue
                before = Job(id=JobId(job_id))
            event = decode(subject, body, headers)
            after = evolve(before, event, seq)
            if before.status is Status.ARCHIVED and after.status is not Status.ARCHIVED:
                batch.again.append(before)
                self._gone.pop(job_id, None)
            if after.status is Status.ARCHIVED:
                known.replace(after, body)  # its summary stands for all that it was
            else:
                known.put(after, body)
            batch.before.setdefault(job_id, before)
            batch.after[job_id] = after
            if after.damage is not None:
                if after.damage.seq == seq:
                    batch.unreadable.append((seq, after.damage.reason))
                elif isinstance(event, Unreadable):
                    batch.unreadable.append((seq, event.reason))
                continue
            if (before.lease is None) is not (after.lease is None):
                batch.attempts.change(before, after, event)
                batch.workers.change(before, after, event)
            if after.status is Status.ARCHIVED:
                batch.archived.append(job_id)
                self._note_gone(batch, job_id, gone_at(headers, taken_in.get(seq)))
        if named:
            batch.place = place or Place(seq=named[-1][-1], subject=named[-1][1])
        return batch

    def _load(self, wanted: set[str], *, most_bytes: int | None) -> None:
        """Remember jobs that were folded before."""
        missing = [job_id for job_id in wanted if job_id not in self._known]
        loaded_bytes = 0
        for start in range(0, len(missing), _LOOK_UP_AT_ONCE):
            page = missing[start : start + _LOOK_UP_AT_ONCE]
            marks = ",".join("?" * len(page))
            query = f"SELECT id, gone_at, doc FROM jobs WHERE id IN ({marks})"  # noqa: S608 - only question marks
            for job_id, gone, doc in self._reader.execute(query, page):
                if gone is not None and gone <= self._now:
                    continue
                if gone is not None:
                    self._gone[job_id] = gone
                self._known.put(jobs.decode(doc), doc)
                loaded_bytes += weight(doc)
                if most_bytes is not None and loaded_bytes > most_bytes:
                    self._trim()
                    raise TooMuchError

    def _note_gone(self, batch: Batch, job_id: str, at: int | None) -> None:
        for known in (batch.gone, self._gone):
            known.pop(job_id, None)
            if at is not None:
                known[job_id] = at


def _named(subject: str) -> str:
    """The second token of a subject that has three; "" for another, which is no event."""
    tokens = subject.split(".", 2)
    return tokens[1] if len(tokens) == _TOKENS else ""
