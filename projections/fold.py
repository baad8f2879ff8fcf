"""A batch of events folded in memory into the rows that it changes, written once per row."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from events.codec import decode
from events.job import Job, evolve
from events.spec import Status
from projections import attempts, checkpoint, counts, jobs, workers

_LOOK_UP_AT_ONCE: Final = 500


class Batch:
    """The rows that a batch of events changes."""

    def __init__(self) -> None:
        self.seq = 0
        self.jobs: dict[str, Job] = {}
        self.labels: list[tuple[str, str, str]] = []
        self.attempts = attempts.Attempts()
        self.counts = counts.Counts()
        self.workers = workers.Workers()

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows and the checkpoint in one transaction."""
        with connection:
            jobs.write(connection, self.jobs.values())
            connection.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?, ?)", self.labels)
            self.attempts.write(connection)
            self.counts.write(connection)
            self.workers.write(connection)
            checkpoint.write(connection, self.seq)


class Folder:
    """Folds events in order; remembers the latest jobs.

    Args:
        reader: a connection that sees what was written before the oldest batch not yet written.
        cache: jobs to remember; more than two batches hold, so that a batch on its way is never read back.
    """

    def __init__(self, reader: sqlite3.Connection, *, cache: int) -> None:
        self._reader = reader
        self._size = cache
        self._cache: OrderedDict[str, Job] = OrderedDict()

    def fold(self, messages: Iterable[tuple[str, bytes, int]]) -> Batch:
        """The batch of these messages (subject, body, sequence).

        Raises:
            UnknownEventError: an event that a newer version wrote.
        """
        batch = Batch()
        cache = self._cache
        named = [(subject.split(".", 2)[1], subject, body, seq) for subject, body, seq in messages]
        self._load({job_id for job_id, *_ in named})
        for job_id, subject, body, seq in named:
            before = cache.get(job_id) or Job(id=job_id)
            event = decode(subject, body)
            after = evolve(before, event, seq)
            cache[job_id] = after
            cache.move_to_end(job_id)
            batch.jobs[job_id] = after
            if before.status is Status.ABSENT and after.labels:
                batch.labels += [(key, value, job_id) for key, value in after.labels.items()]
            batch.counts.change(before, after)
            batch.attempts.change(before, after, event)
            batch.workers.change(before, after, event)
            batch.seq = seq
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
