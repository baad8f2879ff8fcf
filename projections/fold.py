"""A batch of events folded in memory into the rows that it changes, written once per row."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.events import Unreadable
from switchyard.events.job import Job, evolve
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections import attempts, checkpoint, counts, dead_letters, jobs, labels, tenants, workers
from switchyard.projections.checkpoint import Place

_LOOK_UP_AT_ONCE: Final = 500
_TOKENS: Final = 3
NO_JOB: Final = "its subject is not that of a job's event"

Message = tuple[str, Mapping[str, str] | None, bytes, Seq]
"""Subject, headers, body and sequence of a message of the log."""


class Batch:
    """What a batch of events changes: each job as it was and is, and the attempts that began or ended.

    `unreadable` are the messages that are no event of a job, or damage one, with the reason. `place` is the
    last message of it.
    """

    def __init__(self) -> None:
        self.place = Place()
        self.before: dict[str, Job] = {}
        self.after: dict[str, Job] = {}
        self.archived: list[str] = []
        self.attempts = attempts.Attempts()
        self.workers = workers.Workers()
        self.unreadable: list[tuple[Seq, str]] = []

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows and the checkpoint in one transaction."""
        changes = [(before, self.after[job_id]) for job_id, before in self.before.items()]
        with connection:
            jobs.write(connection, self.after.values())
            labels.write(connection, [after for before, after in changes if before.status is Status.ABSENT])
            self.attempts.write(connection)
            self.workers.forget(attempts.forget(connection, self.archived))
            dead_letters.write(connection, changes)
            counts.write(connection, changes)
            tenants.write(connection, changes)
            self.workers.write(connection)
            checkpoint.write(connection, "log", self.place)


class Folder:
    """Folds events in order; remembers the latest jobs.

    Args:
        reader: a connection that sees what was written before the oldest batch not yet written.
        cache: jobs to remember; more than the batches not yet written hold, so that none is read back stale.
    """

    def __init__(self, reader: sqlite3.Connection, *, cache: int) -> None:
        self._reader = reader
        self._size = cache
        self._cache: OrderedDict[str, Job] = OrderedDict()

    def fold(self, messages: Iterable[Message], place: Place | None = None) -> Batch:
        """The batch of these messages; `place` says more of the last one."""
        batch = Batch()
        cache = self._cache
        named = [(_named(message[0]), *message) for message in messages]
        self._load({job_id for job_id, *_ in named})
        for job_id, subject, headers, body, seq in named:
            before = cache.get(job_id)
            if before is None:
                if subjects.job_of(subject) is None:
                    batch.unreadable.append((seq, NO_JOB))
                    continue
                before = Job(id=JobId(job_id))
            event = decode(subject, body, headers)
            after = evolve(before, event, seq)
            cache[job_id] = after
            cache.move_to_end(job_id)
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
        if named:
            batch.place = place or Place(seq=named[-1][-1], subject=named[-1][1])
        while len(cache) > self._size:
            cache.popitem(last=False)
        return batch

    def _load(self, wanted: set[str]) -> None:
        """Bring jobs into the cache that were folded before."""
        missing = [job_id for job_id in wanted if job_id not in self._cache]
        for start in range(0, len(missing), _LOOK_UP_AT_ONCE):
            page = missing[start : start + _LOOK_UP_AT_ONCE]
            marks = ",".join("?" * len(page))
            query = f"SELECT id, doc FROM jobs WHERE id IN ({marks})"  # noqa: S608 - only question marks
            for job_id, doc in self._reader.execute(query, page):
                self._cache[job_id] = jobs.decode(doc)


def _named(subject: str) -> str:
    """The second token of a subject that has three; "" for another, which is no event."""
    tokens = subject.split(".", 2)
    return tokens[1] if len(tokens) == _TOKENS else ""
