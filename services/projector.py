"""Keeps the read model of this host current, and rebuilds it.

Events are read in batches, folded in this thread and written in another, so that reading, folding and
writing overlap; rows and checkpoint share one transaction. After each commit the checkpoint is told on
`projected.<database id>`, so that nobody has to ask the file again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events import subjects
from events.errors import SwitchyardError, UnavailableError
from projections import checkpoint, database, files
from projections.fold import Folder
from services import quarantine
from services.broker import unlisten
from services.garbage import collect_less_often
from services.log_reader import Stored, api, follow_batches, read_range
from services.settings import Settings

log = structlog.get_logger()

Write = Callable[[sqlite3.Connection], None]
REBUILD_TIMEOUT_S = 3600.0
BATCHES_IN_FLIGHT = 4  # one is folded, two wait, one is written


class ProjectorBusyError(SwitchyardError):
    """Another process writes this read model."""


class Projector:
    """The one writer of a host's read model.

    Args:
        nc: an open connection.
        path: the file; the data directory's own when not given.
    """

    def __init__(self, nc: Client, settings: Settings, path: Path | None = None) -> None:
        self._nc = nc
        self._settings = settings
        self._path = path or database.path_in(settings.data_dir)
        self._rebuild_asked: list[Msg] = []
        self._restart = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Project until cancelled.

        Raises:
            ProjectorBusyError: another projector writes the file.
        """
        with exclusive(self._path):
            while True:
                self._restart.clear()
                await self._project()
                asked, self._rebuild_asked = self._rebuild_asked, []
                await build(self._nc, self._settings, self._path)
                for message in asked:
                    await message.respond(b"done")

    async def _project(self) -> None:
        """Project into the file as it stands, until a rebuild is asked for."""
        stream = await log_now(self._nc, self._settings)
        reason = database.why_useless(self._path, stream.id, stream.last_seq)
        if reason is not None:
            if self._path.exists():
                log.warning("read_model_discarded", path=str(self._path), reason=reason)
                database.remove(self._path)
            await build(self._nc, self._settings, self._path)
        writer = database.open_writer(self._path, stream.id)
        with contextlib.closing(writer), contextlib.closing(database.open_reader(self._path)) as reader:
            start = checkpoint.read(writer)
            asked = await self._nc.subscribe(subjects.rebuild(start.database_id), cb=self._on_rebuild)
            self.ready.set()
            told_to = False
            try:
                await project(
                    self._nc, self._settings, writer, _folder(reader, self._settings), start,
                    until=self._restart,
                )  # fmt: skip
                told_to = True
            finally:
                # Whoever else has asked by now is answered as well.
                await unlisten(self._nc, asked, drain=told_to)

    async def _on_rebuild(self, message: Msg) -> None:
        self._rebuild_asked.append(message)
        self._restart.set()


async def project(
    nc: Client,
    settings: Settings,
    writer: sqlite3.Connection,
    folder: Folder,
    start: checkpoint.Checkpoint,
    *,
    until: asyncio.Event | None = None,
    target: int | None = None,
) -> None:
    """Fold and write from the checkpoint on, until told to stop or, with `target`, until that sequence."""
    # Two batches may wait: one is being written while the next is folded.
    writes: asyncio.Queue[tuple[Write, int | None]] = asyncio.Queue(2)
    done = asyncio.Event()

    async def write() -> None:
        subject = subjects.projected(start.database_id)
        reached = start.seq
        while True:
            change, seq = await writes.get()
            # A transaction that has begun is seen through, or its connection would be closed under it.
            transaction = asyncio.ensure_future(asyncio.to_thread(change, writer))
            try:
                await asyncio.shield(transaction)
            except asyncio.CancelledError:
                await transaction
                raise
            writes.task_done()
            reached = seq or reached
            await nc.publish(subject, str(reached).encode())
            if target is not None and reached >= target:
                done.set()

    async def fold_jobs() -> None:
        batches = follow_batches(
            nc, subjects.JOBS, start=start.seq + 1,
            batch=settings.projector_batch, timeout_s=settings.request_timeout_s,
        )  # fmt: skip
        async with contextlib.aclosing(batches):
            async for messages in batches:
                batch = folder.fold(
                    (message.subject, message.headers, message.data, message.seq) for message in messages
                )
                await _set_aside(nc, messages, batch.unreadable)
                await writes.put((batch.write, batch.seq))

    async def fold_files() -> None:
        batches = follow_batches(
            nc, subjects.FILES, [subjects.ALL_FILE_METAS], start=start.files_seq + 1,
            batch=settings.projector_batch, timeout_s=settings.request_timeout_s,
        )  # fmt: skip
        async with contextlib.aclosing(batches):
            async for messages in batches:
                await writes.put((functools.partial(files.apply, messages=_plain(messages)), None))

    if target is not None and start.seq >= target:
        done.set()
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        folding = [group.create_task(part()) for part in (fold_jobs, fold_files)]
        if target is not None:
            await done.wait()
        elif until is not None:
            await until.wait()
        for task in folding:
            task.cancel()
        await writes.join()
        writing.cancel()


def _folder(reader: sqlite3.Connection, settings: Settings) -> Folder:
    """A folder that remembers at least what is not yet written, which the file cannot tell it."""
    return Folder(reader, cache=max(settings.projector_cache, BATCHES_IN_FLIGHT * settings.projector_batch))


async def _set_aside(nc: Client, messages: list[Stored], unreadable: list[tuple[int, str]]) -> None:
    """Refer to what could not be read before the checkpoint passes it."""
    if not unreadable:
        return
    by_seq = {message.seq: message for message in messages}
    for seq, reason in unreadable:
        await quarantine.set_aside(nc, subjects.JOBS, by_seq[seq], reason)


def _plain(messages: list[Stored]) -> list[tuple[str, bytes, int]]:
    return [(message.subject, message.data, message.seq) for message in messages]


async def build(nc: Client, settings: Settings, live: Path) -> None:
    """Build the read model from the whole log beside the live file, then swap; the caller is its writer."""
    collect_less_often()
    fresh = live.with_name(live.name + ".new")
    database.remove(fresh)
    stream = await log_now(nc, settings)
    writer = database.open_writer(fresh, stream.id, indexed=False)
    # Nobody reads the file before it is whole, and a crash begins it anew.
    writer.execute("PRAGMA synchronous = OFF")
    with contextlib.closing(writer), contextlib.closing(database.open_reader(fresh)) as reader:
        await _read_files(nc, settings, writer)
        folder, start = _folder(reader, settings), checkpoint.read(writer)
        await project(nc, settings, writer, folder, start, target=stream.last_seq)
        await asyncio.to_thread(database.index, writer)
    database.swap(fresh, live)
    log.info("read_model_rebuilt", seq=stream.last_seq)


async def _read_files(nc: Client, settings: Settings, writer: sqlite3.Connection) -> None:
    """Write all files that are there now, so that a rebuilt read model lacks none."""
    start = 1
    while stored := await read_range(
        nc, subjects.FILES, subjects.ALL_FILE_METAS,
        start=start, limit=settings.projector_batch, timeout_s=settings.request_timeout_s,
    ):  # fmt: skip
        await asyncio.to_thread(files.apply, writer, _plain(stored))
        start = stored[-1].seq + 1


async def rebuild(nc: Client, settings: Settings) -> None:
    """Rebuild this host's read model; a running projector does it itself and goes on with the new file.

    Raises:
        UnavailableError: the broker does not answer, or the projector that holds the file does not.
    """
    path = database.path_in(settings.data_dir)
    try:
        with exclusive(path):
            await build(nc, settings, path)
    except ProjectorBusyError:
        with contextlib.closing(database.open_reader(path)) as reader:
            database_id = checkpoint.read(reader).database_id
        try:
            await nc.request(subjects.rebuild(database_id), b"", timeout=REBUILD_TIMEOUT_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the running projector did not rebuild: {error}") from error


class LogNow(NamedTuple):
    """The log's identity, which is when it was created, and its last sequence."""

    id: str
    last_seq: int


async def log_now(nc: Client, settings: Settings) -> LogNow:
    """Which log it is and how far it has come.

    Raises:
        UnavailableError: the broker does not answer, or holds no log.
    """
    info = await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=settings.request_timeout_s)
    if "error" in info:
        raise UnavailableError("the broker has no event log yet: run `switchyard topology apply`")
    return LogNow(str(info["created"]), int(info["state"]["last_seq"]))


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Be the one writer of a read model.

    Raises:
        ProjectorBusyError: another process is.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProjectorBusyError(f"another projector writes {path}") from None
        yield
