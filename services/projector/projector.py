"""Keeps the read model of this host current, and rebuilds it.

The file is disposable. One that is damaged, was deleted, or is a view of a log that the broker does not hold
any more is rebuilt, whenever that is noticed: here, by a reader that leaves a mark beside it, or as the
log is read. What hinders the projector, as a full disk does, is tried again; it never ends another part.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.projections import checkpoint, database, jobs
from switchyard.projections.kept import gone
from switchyard.services.broker.connection import unlisten
from switchyard.services.broker.reader import read_range
from switchyard.services.gc import collect_less_often
from switchyard.services.ledger.prices import Prices
from switchyard.services.projector.lock import ProjectorBusyError, ProjectorLock
from switchyard.services.projector.observing import Observed
from switchyard.services.projector.place import ReplacedError, StreamNow, confirm, place_of, stream_now
from switchyard.services.projector.projection import Projection, write_of_files, write_of_lines
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry

log = structlog.get_logger()

REBUILD_TIMEOUT_S: Final = 3600.0
LOOK_S: Final = 1.0  # nothing reports a file that is deleted
PAUSE_S: Final = 1.0
MOST_PAUSE_S: Final = 60.0
CALM_S: Final = 600.0

__all__ = ["Projector", "ProjectorBusyError", "build", "rebuild"]


class UselessError(SwitchyardError):
    """The read model cannot be gone on with."""


class Projector:
    """The one writer of a host's read model.

    Args:
        nc: an open connection.
        path: the file; the data directory's own when not given.
        telemetry: that of the process; one that nobody reads when not given.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        path: Path | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._path = path or database.path_in(settings.data_dir)
        self._rebuild_asked: list[Msg] = []
        self._restart = asyncio.Event()
        self._useless: str | None = None
        self._pauses = 0
        self._failed_at = -CALM_S
        self.ready = asyncio.Event()
        part = (telemetry or Telemetry("projector")).part("projector")
        self._observed = Observed(part, nc, settings, self._path, self.ready.is_set)

    async def run(self) -> None:
        """Project until cancelled.

        Raises:
            ProjectorBusyError: another projector writes the file.
            UnavailableError: the broker does not answer at the start, or holds no log.
        """
        lock = ProjectorLock(self._path)
        with lock.held():
            asked = await self._nc.subscribe(subjects.rebuild(lock.id), cb=self._on_rebuild)
            try:
                async with self._observed.running():
                    while True:
                        lock.take()  # it may have been deleted with the directory
                        try:
                            await self._project()
                        except Exception as error:  # noqa: BLE001 - it is logged, and no reason for others to end
                            await self._on_failure(_cause(error))
            finally:
                await unlisten(self._nc, asked)

    async def _on_failure(self, error: BaseException) -> None:
        """Have the file rebuilt if that is what is wrong, and wait before another try if need be.

        Raises:
            BaseException: the error itself, if there has never been a read model to serve.
        """
        if isinstance(error, UselessError | ReplacedError):
            self._useless = str(error)
        else:
            self._useless = database.damage_of(error) or self._useless
        is_damage = self._useless is not None
        if not self.ready.is_set() and not is_damage:
            raise error
        if is_damage:
            log.warning("read_model_useless", path=str(self._path), reason=self._useless)
        else:
            known = isinstance(error, SwitchyardError | sqlite3.Error | OSError)
            log.error("projector_failed", error=str(error), exc_info=None if known else error)
        # The first new build is due at once; what fails again and again waits longer and longer.
        loop = asyncio.get_running_loop()
        calm = loop.time() - self._failed_at > CALM_S
        self._pauses = 0 if calm else self._pauses + 1
        self._failed_at = loop.time()
        if self._pauses or not is_damage:
            await asyncio.sleep(min(MOST_PAUSE_S, PAUSE_S * 2**self._pauses))

    async def _project(self) -> None:
        """Project into the file as it stands, or into a new one, until a rebuild is asked for."""
        path, reason = self._path, self._useless or database.why_useless(self._path)
        if reason is not None:
            if path.exists():
                log.warning("read_model_discarded", path=str(path), reason=reason)
            database.remove(path)
        asked = list(self._rebuild_asked)
        self._restart.clear()
        if reason is not None or asked:
            await build(self._nc, self._settings, path)
            self._useless = None
            for message in asked:
                self._rebuild_asked.remove(message)
                await message.respond(b"done")
        inode = path.stat().st_ino
        writer = database.open_writer(path, "")
        with contextlib.closing(writer), contextlib.closing(database.open_reader(path)) as reader:
            start = checkpoint.read(writer)
            # At the start too, so that nobody is served what the log does not hold.
            await confirm(self._nc, subjects.JOBS, start.log, timeout_s=self._settings.request_timeout_s)
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(inode))
                if not self._rebuild_asked:
                    prices = await _prices(self._nc, self._settings)
                    projection = Projection(self._nc, self._settings, writer, reader, prices)
                    await projection.run(until=self._restart)
                watching.cancel()

    async def _watch(self, inode: int) -> None:
        """Raise as soon as the file is not what readers see, or one of them has found it damaged.

        Raises:
            UselessError: it is.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            if reason := database.why_lost(self._path, inode):
                raise UselessError(reason)

    async def _on_rebuild(self, message: Msg) -> None:
        self._rebuild_asked.append(message)
        self._restart.set()


def _cause(error: BaseException) -> BaseException:
    return _cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def build(nc: Client, settings: Settings, live: Path) -> None:
    """Build the read model from the whole log beside the live file, then swap; the caller is its writer."""
    collect_less_often()
    fresh = live.with_name(live.name + ".new")
    database.remove(fresh)
    timeout_s = settings.request_timeout_s
    stream = await stream_now(nc, subjects.JOBS, timeout_s=timeout_s)
    store = await stream_now(nc, subjects.FILES, timeout_s=timeout_s)
    ledger = await stream_now(nc, subjects.LEDGER, timeout_s=timeout_s)
    writer = database.open_writer(fresh, stream.id, store.id, ledger.id, indexed=False)
    # Nobody reads the file before it is whole, and a crash begins it again.
    writer.execute("PRAGMA synchronous = OFF")
    with contextlib.closing(writer), contextlib.closing(database.open_reader(fresh)) as reader:
        await _read_files(nc, settings, writer)
        prices = await _prices(nc, settings)
        await _read_ledger(nc, settings, writer, prices)
        await Projection(nc, settings, writer, reader, prices).run(target=stream.last_seq)
        await asyncio.to_thread(database.index, writer)
        await _drop_gone(nc, settings, writer, stream)
    database.swap(fresh, live)
    log.info("read_model_rebuilt", seq=stream.last_seq)


async def _drop_gone(nc: Client, settings: Settings, writer: sqlite3.Connection, since: StreamNow) -> None:
    """Remove what has gone from the log since it was begun to be read, and note how far that was."""
    kept_s = settings.archive_ttl_s
    now = (await stream_now(nc, subjects.JOBS, timeout_s=settings.request_timeout_s)).at
    read_to = since.at
    if (now - since.at).total_seconds() >= kept_s:
        log.warning(
            "archived_jobs_kept_too_shortly", rebuild_s=(now - since.at).total_seconds(), kept_s=kept_s
        )
        read_to = now
    await asyncio.to_thread(gone.drop_all, writer, jobs.microseconds(now) or 0)
    gone.note(writer, jobs.microseconds(read_to) or 0, kept_s)


async def _read_files(nc: Client, settings: Settings, writer: sqlite3.Connection) -> None:
    """Write all files that are there now, so that a rebuilt read model lacks none."""
    place = checkpoint.read(writer).files
    while stored := await read_range(
        nc, subjects.FILES, subjects.ALL_FILE_METAS,
        start=place.seq + 1, limit=settings.projector_batch, timeout_s=settings.request_timeout_s,
    ):  # fmt: skip
        place = place_of(place.stream_id, stored[-1])
        await asyncio.to_thread(write_of_files(stored, place), writer)


async def _read_ledger(nc: Client, settings: Settings, writer: sqlite3.Connection, prices: Prices) -> None:
    """Add up all lines that are there now, so that a rebuilt read model lacks none."""
    place = checkpoint.read(writer).ledger
    while stored := await read_range(
        nc, subjects.LEDGER, subjects.ALL_LINES,
        start=place.seq + 1, limit=settings.projector_batch, timeout_s=settings.request_timeout_s,
    ):  # fmt: skip
        place = place_of(place.stream_id, stored[-1])
        await asyncio.to_thread(await write_of_lines(nc, stored, place, prices.book()), writer)


async def _prices(nc: Client, settings: Settings) -> Prices:
    """What units cost, as far as it can be read now: what is missing comes as it is followed."""
    prices = Prices(nc, None, settings)
    try:
        await prices.load()
    except UnavailableError as error:
        log.warning("prices_not_read", error=str(error))
    return prices


async def rebuild(nc: Client, settings: Settings) -> None:
    """Rebuild this host's read model; a running projector does it itself and continues with the new file.

    Raises:
        UnavailableError: the broker does not answer, or the projector that holds the file does not.
    """
    path = database.path_in(settings.data_dir)
    lock = ProjectorLock(path)
    try:
        with lock.held():
            await build(nc, settings, path)
    except ProjectorBusyError:
        try:
            await nc.request(subjects.rebuild(lock.holder()), b"", timeout=REBUILD_TIMEOUT_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the running projector did not rebuild: {error}") from error
