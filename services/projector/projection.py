"""The log read, folded and written into a read model, from its checkpoint on.

Events are read in batches, folded in this thread and written in another, so that reading, folding and
writing overlap; rows and checkpoint share one transaction. After each commit the checkpoint is published on
`projected.<database id>`, so that nobody has to ask the file again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncGenerator, Callable
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import Seq
from switchyard.projections import checkpoint, files
from switchyard.projections.checkpoint import Place
from switchyard.projections.fold import Folder
from switchyard.services import clock
from switchyard.services.broker import quarantine
from switchyard.services.broker.reader import Stored, follow_batches
from switchyard.services.projector.place import ReplacedError, confirm, place_of, stream_now
from switchyard.services.settings import Settings

log = structlog.get_logger()

Write = Callable[[sqlite3.Connection], None]
BATCHES_IN_FLIGHT: Final = 4  # one is folded, two wait, one is written


class Projection:
    """Follows the log and the object store with one file.

    Args:
        nc: an open connection.
        settings: sizes and timeouts.
        writer: the file, from whose checkpoint it continues.
        reader: the same file, to look up jobs.
    """

    def __init__(
        self, nc: Client, settings: Settings, writer: sqlite3.Connection, reader: sqlite3.Connection
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._writer = writer
        # It remembers at least what is not yet written, which it cannot read from the file.
        cache = max(settings.projector_cache, BATCHES_IN_FLIGHT * settings.projector_batch)
        self._folder = Folder(reader, cache=cache)
        self._start = checkpoint.read(writer)
        # Two batches may wait: one is being written while the next is folded.
        self._writes: asyncio.Queue[tuple[Write, int | None]] = asyncio.Queue(2)

    async def run(self, *, until: asyncio.Event | None = None, target: int | None = None) -> None:
        """Fold and write until asked to stop or, with `target`, until that sequence.

        Raises:
            ReplacedError: the log is not the one any more that was read.
        """
        done = asyncio.Event()
        if target is not None and self._start.seq >= target:
            done.set()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write(done, target))
            folding = [group.create_task(part()) for part in (self._fold_jobs, self._fold_files)]
            if target is not None:
                await done.wait()
            elif until is not None:
                await until.wait()
            for task in folding:
                task.cancel()
            await self._writes.join()
            writing.cancel()

    async def _write(self, done: asyncio.Event, target: int | None) -> None:
        subject = subjects.projected(self._start.database_id)
        reached = self._start.seq
        while True:
            change, seq = await self._writes.get()
            # A transaction that has begun is seen through, or its connection would be closed under it.
            transaction = asyncio.ensure_future(asyncio.to_thread(change, self._writer))
            try:
                await asyncio.shield(transaction)
            except asyncio.CancelledError:
                await transaction
                raise
            self._writes.task_done()
            reached = seq or reached
            await self._nc.publish(subject, str(reached).encode())
            if target is not None and reached >= target:
                done.set()

    async def _fold_jobs(self) -> None:
        async for messages, place in self._read(subjects.JOBS, (), self._start.log):
            batch = self._folder.fold(
                ((message.subject, message.headers, message.data, message.seq) for message in messages),
                place,
            )
            await _set_aside(self._nc, messages, batch.unreadable)
            await self._writes.put((batch.write, place.seq))

    async def _fold_files(self) -> None:
        place = self._start.files
        while True:
            try:
                async for messages, reached in self._read(subjects.FILES, (subjects.ALL_FILE_METAS,), place):
                    await self._writes.put((write_of_files(messages, reached), None))
            except ReplacedError as error:  # or the last file that was read is gone: all are read again
                log.info("files_read_again", reason=str(error))
                timeout_s = self._settings.request_timeout_s
                store = await stream_now(self._nc, subjects.FILES, timeout_s=timeout_s)
                await self._writes.put((files.forget, None))
                place = Place(store.id)

    async def _read(
        self, stream: str, filters: tuple[str, ...], place: Place
    ) -> AsyncGenerator[tuple[list[Stored], Place], None]:
        """What follows a place, without end, and the place after it.

        Raises:
            ReplacedError: the stream is not the one any more that was read.
        """
        timeout_s = self._settings.request_timeout_s

        async def check() -> None:
            await confirm(self._nc, stream, place, timeout_s=timeout_s)

        batches = follow_batches(
            self._nc, stream, filters, start=place.seq + 1,
            batch=self._settings.projector_batch, check=check, timeout_s=timeout_s,
        )  # fmt: skip
        async with contextlib.aclosing(batches):
            async for messages in batches:
                place = place_of(place.stream_id, messages[-1])
                yield messages, place


async def _set_aside(nc: Client, messages: list[Stored], unreadable: list[tuple[Seq, str]]) -> None:
    """Refer to what could not be read before the checkpoint passes it."""
    if not unreadable:
        return
    by_seq = {message.seq: message for message in messages}
    for seq, reason in unreadable:
        await quarantine.set_aside(nc, subjects.JOBS, by_seq[seq], reason)


def write_of_files(messages: list[Stored], place: Place) -> Write:
    """What writes these messages of the object store, up to a place."""
    stored = [(message.subject, message.data) for message in messages]
    return functools.partial(files.apply, messages=stored, place=place, now=clock.now())
