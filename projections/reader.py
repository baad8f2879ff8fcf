"""Questions to the read model, each answered from an index in well under a millisecond."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Unpack

import msgspec

from switchyard.events.errors import UnavailableError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, WorkerId
from switchyard.projections import checkpoint, database, files, tenants
from switchyard.projections.checkpoint import Checkpoint
from switchyard.projections.dead_letters import DeadFilters
from switchyard.projections.dead_letters import places as dead_places
from switchyard.projections.guarded import guarded
from switchyard.projections.jobs import decode, microseconds
from switchyard.projections.known import PAGE_BYTES
from switchyard.projections.labels import KEY
from switchyard.projections.lists import batches, brief, ids, parts
from switchyard.projections.lists.brief import Brief
from switchyard.projections.lists.cursors import decode_cursor, encode_cursor
from switchyard.projections.lists.pages import JOB_CURSOR, Asked, jobs_page

_FILE_CURSOR: Final = msgspec.json.Decoder(tuple[str, str])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUEUE_STATES: Final = ("scheduled", "blocked", "queued", "running", "retrying", "review", "cancelling")


@guarded
class ReadModel:
    """One process's view of the file; it notices when a rebuilt file has taken the place of the old one.

    Every question raises `UnavailableError` while there is no file, or it is damaged: the projector is
    notified, and builds another.

    Args:
        path: the file, which the projector makes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def on_damage(self, reason: str) -> None:
        """Notify the projector that the file which is open is damaged, and read it no more."""
        database.mark_damaged(self._path, self._inode, reason)
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- Where it stands

    @property
    def path(self) -> Path:
        """The file, for questions that take a connection of their own."""
        return self._path

    def exists(self) -> bool:
        """Whether a projector has made the file."""
        return self._path.exists()

    def checkpoint(self) -> Checkpoint:
        """How far it has come."""
        return checkpoint.read(self._open())

    # --- Jobs

    def job(self, job_id: JobId) -> Job | None:
        """One job."""
        row = self._one("SELECT doc FROM jobs WHERE id = ?", (job_id,))
        return None if row is None else decode(row[0])

    def states(self, jobs: Sequence[JobId]) -> dict[JobId, str]:
        """The states of those of these jobs that it knows."""
        return parts.states(self._open(), jobs)

    def jobs_since(self, tenant: str, seq: int) -> tuple[Checkpoint, list[JobId]]:
        """The jobs of a tenant that have events after a sequence, and how far the read model has come."""
        connection = self._open()
        connection.execute("BEGIN")  # both are of one moment
        try:
            query = "SELECT id FROM jobs WHERE tenant = ? AND seq > ?"
            ids = [JobId(job_id) for (job_id,) in connection.execute(query, (tenant, seq))]
            return checkpoint.read(connection), ids
        finally:
            connection.rollback()

    def jobs(self, *, tenant: str | None, limit: int, **asked: Unpack[Asked]) -> tuple[list[Job], str | None]:
        """A page of jobs, newest first by default, and the cursor of the next page, if there is one.

        Args:
            tenant: whose; None for all.
            limit: most jobs of a page.
            asked: which they are, and in which order.

        Raises:
            InvalidError: the cursor is not one of ours.
        """
        return jobs_page(self._open(), tenant, limit, decode, asked, PAGE_BYTES)

    def briefs(
        self, *, tenant: str | None, limit: int, **asked: Unpack[Asked]
    ) -> tuple[list[Brief], str | None]:
        """As `jobs`, without what may be large in each."""
        return jobs_page(self._open(), tenant, limit, brief.decode, asked)

    def children(self, job_id: JobId, limit: int) -> list[JobId]:
        """The jobs that depend on one and have not ended, by id."""
        query = "SELECT child FROM needs WHERE parent = ? ORDER BY child LIMIT ?"
        return [child for (child,) in self._open().execute(query, (job_id, limit))]

    def job_ids(self, *, tenant: str | None, limit: int, **which: Any) -> ids.Ids:
        """The ids of some jobs, as `ids_of` has it."""
        return ids.ids_of(self._open(), limit, tenant=tenant, **which)

    def jobs_by_key(self, key: str, since: datetime) -> int:
        """How many jobs an API key has submitted from a time on, by its id."""
        query = f"SELECT count(*) FROM labels WHERE key = '{KEY}' AND value = ? AND created_at >= ?"  # noqa: S608 - our own name
        row = self._one(query, (key, microseconds(since) or 0))
        return 0 if row is None else int(row[0])

    def dead_letters(
        self, filters: DeadFilters, *, cursor: str | None, limit: int
    ) -> tuple[list[Job], str | None]:
        """A page of dead letters, the latest first, and the cursor of the next page, if there is one.

        Raises:
            InvalidError: the cursor is not one of ours.
        """
        if cursor is not None:
            below = min(filters.below, decode_cursor(cursor, JOB_CURSOR))
            filters = dataclasses.replace(filters, below=below)
        connection = self._open()
        connection.execute("BEGIN")  # the page is of one moment
        try:
            found = dead_places(connection, filters, limit + 1)
            query = "SELECT doc FROM jobs WHERE id = ?"
            page = [decode(connection.execute(query, (job_id,)).fetchone()[0]) for _, job_id in found[:limit]]
        finally:
            connection.rollback()
        return page, encode_cursor(found[limit - 1]) if len(found) > limit else None

    def attempts(self, job_id: JobId) -> list[dict[str, Any]]:
        """The job's attempts, first to last."""
        names = ("attempt", "worker", "fence", "started_at", "ended_at", "outcome")
        rows = self._open().execute(
            "SELECT attempt, worker, fence, started_at, ended_at, outcome FROM attempts WHERE job_id = ? "
            "ORDER BY attempt",
            (job_id,),
        )
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for attempt in found:
            attempt["started_at"] = _time(attempt["started_at"])
            attempt["ended_at"] = _time(attempt["ended_at"])
        return found

    def due(self, before: datetime, limit: int) -> list[JobId]:
        """Ids of jobs whose wake-up was due before a time."""
        rows = self._open().execute(
            "SELECT id FROM jobs WHERE wake_at < ? ORDER BY wake_at LIMIT ?", (microseconds(before), limit)
        )
        return [job_id for (job_id,) in rows]

    def waiting(self, lane: LaneId, priority: int, limit: int, after_seq: int) -> list[Job]:
        """Queued jobs of a lane and priority in the order of their claimable events."""
        rows = self._open().execute(
            "SELECT doc FROM jobs WHERE state = 'queued' AND lane = ? AND priority = ? AND claimable_seq > ? "
            "ORDER BY claimable_seq LIMIT ?",
            (lane, priority, after_seq, limit),
        )
        return [decode(doc) for (doc,) in rows]

    def claimable(self, lane: LaneId, priority: int) -> set[int]:
        """The claimable events of the jobs of a lane and priority that wait or run."""
        rows = self._open().execute(
            "SELECT claimable_seq FROM jobs WHERE state = 'queued' AND lane = ? AND priority = ? UNION ALL "
            "SELECT claimable_seq FROM jobs WHERE state IN ('running', 'cancelling') "
            "AND lane = ? AND priority = ?",
            (lane, priority, lane, priority),
        )
        return {seq for (seq,) in rows}

    def waiting_of(
        self,
        tenants: Sequence[str],
        excluded: Sequence[str],
        lane: LaneId,
        priority: int,
        limit: int,
    ) -> list[Job]:
        """Queued jobs of a lane and priority in the order of their claimable events.

        Args:
            tenants: whose; of all where none is named.
            excluded: whose not.
            lane: their lane.
            priority: theirs.
            limit: how many at most.
        """
        chosen, names = "", (*tenants, *excluded)
        for word, some in (("IN", tenants), ("NOT IN", excluded)):
            if some:
                chosen += f" AND tenant {word} ({', '.join('?' * len(some))})"
        rows = self._open().execute(
            f"SELECT doc FROM jobs WHERE state = 'queued' AND lane = ? AND priority = ?{chosen} "  # noqa: S608 - marks alone
            "ORDER BY claimable_seq LIMIT ?",
            (lane, priority, *names, limit),
        )
        return [decode(doc) for (doc,) in rows]

    def blocked(self, limit: int, after_id: str) -> list[Job]:
        """Jobs that wait for others, in the order of their ids."""
        rows = self._open().execute(
            "SELECT doc FROM jobs WHERE state = 'blocked' AND id > ? ORDER BY id LIMIT ?", (after_id, limit)
        )
        return [decode(doc) for (doc,) in rows]

    def parted(self, after_id: str, rows: int) -> tuple[list[Job], str]:
        """Jobs that have ended in parts, as `parts.parted` has it."""
        return parts.parted(self._open(), after_id, rows)

    def place(self, job: Job) -> int:
        """How many queued jobs of its lane go before it."""
        higher = self._one(
            "SELECT coalesce(sum(jobs), 0) FROM counts WHERE lane = ? AND state = 'queued' AND priority > ?",
            (job.lane, job.priority),
        )
        earlier = self._one(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND lane = ? AND priority = ? "
            "AND claimable_seq < ?",
            (job.lane, job.priority, job.claimable_seq),
        )
        return int(higher[0]) + int(earlier[0]) if higher and earlier else 0

    def running_in(self, lanes: Sequence[str]) -> int:
        """How many jobs of these lanes run."""
        marks = ",".join("?" * len(lanes))
        where = f"lane IN ({marks}) AND state IN ('running', 'cancelling')"
        row = self._one(f"SELECT coalesce(sum(jobs), 0) FROM counts WHERE {where}", tuple(lanes))  # noqa: S608 - only question marks
        return int(row[0]) if row else 0

    def jobs_in(self, lanes: Sequence[str], tenant: str, limit: int) -> list[Brief]:
        """Jobs of a tenant that run in these lanes, at most so many."""
        if not lanes:  # SQLite takes no index for a condition that nothing fulfils
            return []
        marks = ",".join("?" * len(lanes))
        where = f"state IN ('running', 'cancelling') AND tenant = ? AND lane IN ({marks})"
        # The planner would go through all that a tenant has.
        query = f"SELECT doc FROM jobs INDEXED BY jobs_running WHERE {where} LIMIT ?"  # noqa: S608 - only question marks
        return [brief.decode(doc) for (doc,) in self._open().execute(query, (tenant, *lanes, limit))]

    # --- Queues and workers

    def queues(self, *, tenant: str | None) -> list[dict[str, Any]]:
        """Counts of jobs that are not final, by lane and priority, with the time of the oldest that waits."""
        where, values = ("WHERE tenant = ?", (tenant,)) if tenant is not None else ("", ())
        rows = self._open().execute(
            f"SELECT kind, lane, priority, state, sum(jobs) FROM counts {where} "  # noqa: S608 - our own names
            "GROUP BY kind, lane, priority, state ORDER BY kind, lane, priority DESC",
            values,
        )
        queues: dict[tuple[str, int], dict[str, Any]] = {}
        for kind, lane, priority, state, jobs in rows:
            if state not in _QUEUE_STATES:
                continue
            queue = queues.setdefault(
                (lane, priority),
                {"kind": kind, "lane": lane, "priority": priority, **dict.fromkeys(_QUEUE_STATES, 0)},
            )
            queue[state] = jobs
        for (lane, priority), queue in queues.items():
            queue["waiting"] = queue.pop("queued")
            queue["oldest_waiting_at"] = (
                self._oldest_waiting(LaneId(lane), priority, tenant) if queue["waiting"] else None
            )
        return list(queues.values())

    def _oldest_waiting(self, lane: LaneId, priority: int, tenant: str | None) -> datetime | None:
        row = self._one(
            "SELECT doc FROM jobs WHERE state = 'queued' AND lane = ? AND priority = ? "
            "AND tenant = coalesce(?, tenant) ORDER BY claimable_seq LIMIT 1",
            (lane, priority, tenant),
        )
        return None if row is None else decode(row[0]).queued_at

    def counts(self, *, tenant: str | None = None) -> dict[tuple[str, str], int]:
        """Jobs by kind and state."""
        where, values = ("WHERE tenant = ?", (tenant,)) if tenant is not None else ("", ())
        rows = self._open().execute(
            f"SELECT kind, state, sum(jobs) FROM counts {where} GROUP BY kind, state",  # noqa: S608 - our own names
            values,
        )
        return {(kind, state): jobs for kind, state, jobs in rows}

    def batch(self, tenant: str, batch: str) -> Mapping[str, int]:
        """The jobs of a batch by state."""
        return batches.read(self._open(), tenant, batch)

    def use(self, tenant: str) -> tenants.Use:
        """What a tenant's jobs take of what all share."""
        return tenants.read(self._open(), tenant)

    def workers(self) -> list[dict[str, Any]]:
        """What the log says of each worker."""
        names = ("id", "running", "started", "succeeded", "failed", "lost")
        rows = self._open().execute(f"SELECT {', '.join(names)} FROM workers ORDER BY id")  # noqa: S608
        return [dict(zip(names, row, strict=True)) for row in rows]

    def tallies(self, worker: WorkerId) -> dict[str, int]:
        """What the log says of one worker: attempts that it started, and how those that ended did."""
        names = ("started", "succeeded", "failed", "lost")
        row = self._one(f"SELECT {', '.join(names)} FROM workers WHERE id = ?", (worker,))  # noqa: S608
        return dict(zip(names, row or (0, 0, 0, 0), strict=True))

    def running_on(self, worker: WorkerId) -> list[tuple[JobId, Fence]]:
        """Job id and fence of each lease that a worker holds."""
        jobs = self.jobs_on(worker)
        return [(job.id, job.lease.fence) for job in jobs if job.lease is not None]

    def jobs_on(self, worker: WorkerId) -> list[Job]:
        """The jobs that a worker runs."""
        rows = self._open().execute(
            "SELECT doc FROM jobs WHERE worker = ? AND state IN ('running', 'cancelling')", (worker,)
        )
        return [decode(doc) for (doc,) in rows]

    # --- Files

    def files_kept(self, tenant: str, now: datetime) -> tuple[int, int, int]:
        """How many files a tenant keeps, their bytes, and up to which sequence of the object store."""
        query = (
            "SELECT count(*), coalesce(sum(size_bytes), 0), (SELECT value FROM meta WHERE key = 'files_seq') "
            "FROM files WHERE tenant = ? AND expires_at > ?"
        )
        row = self._one(query, (tenant, files.timestamp(now)))
        return (0, 0, 0) if row is None else (int(row[0]), int(row[1]), int(row[2] or 0))

    def files(
        self, tenant: str, cursor: str | None, limit: int, *, now: datetime
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a tenant's files, newest first, and the cursor of the next page, if there is one."""
        names = ("id", "name", "type", "size_bytes", "sha256", "created_at", "expires_at", "key")
        where, values = "tenant = ? AND expires_at > ?", [tenant, files.timestamp(now)]
        if cursor is not None:
            where += " AND (created_at, id) < (?, ?)"
            created_at, file_id = decode_cursor(cursor, _FILE_CURSOR)
            values += [created_at, file_id]
        rows = (
            self._open()
            .execute(
                f"SELECT {', '.join(names)} FROM files WHERE {where} "  # noqa: S608 - our own names
                "ORDER BY created_at DESC, id DESC LIMIT ?",
                (*values, limit + 1),
            )
            .fetchall()
        )
        page = [dict(zip(names, row, strict=True)) for row in rows[:limit]]
        for file in page:
            file["key"] = file["key"] or None
        more = encode_cursor((page[-1]["created_at"], page[-1]["id"])) if len(rows) > limit else None
        return page, more

    # --- The file itself

    def _one(self, query: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._open().execute(query, values).fetchone()
        return row

    def _open(self) -> sqlite3.Connection:
        try:
            inode = self._path.stat().st_ino
            if self._connection is None or inode != self._inode:
                self.close()
                self._connection = database.open_reader(self._path)
                self._inode = inode
        except OSError as error:
            raise UnavailableError("the read model is not there yet; is a projector running?") from error
        return self._connection


def _time(microseconds_: int | None) -> str | None:
    if microseconds_ is None:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds_)).isoformat().replace("+00:00", "Z")
