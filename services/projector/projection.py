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
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.ledger.line import Line, lines_of
from switchyard.events.ledger.prices import PriceBook
from switchyard.events.vocabulary.ids import Seq
from switchyard.projections import checkpoint, files, jobs
from switchyard.projections.checkpoint import Place
from switchyard.projections.database import truncate_wal
from switchyard.projections.fold import Folder, TooMuchError
from switchyard.projections.kept import gone
from switchyard.projections.known import KnownJobs, weight
from switchyard.projections.ledger import usage
from switchyard.services import clock
from switchyard.services.broker import quarantine
from switchyard.services.broker.reader import Stored, follow_batches
from switchyard.services.ledger.prices import Prices
from switchyard.services.projector.place import (
    ReplacedError,
    confirm,
    follows,
    place_of,
    stream_now,
    taken_in_ns,
)
from switchyard.services.settings import Settings

log = structlog.get_logger()

ERASABLE: Final = b'"erasable":true'
Write = Callable[[sqlite3.Connection], None]
ARCHIVED: Final = ".archived"
LOOK_S: Final = 1.0
END_S: Final = 0.2
NOTE_S: Final = 10.0
BATCHES_IN_FLIGHT: Final = 4  # one is folded, two wait, one is written
BATCH_BYTES: Final = 64 * 1024 * 1024
"""What the events of a transaction may weigh in memory together, by `known.weight`."""


class Projection:
    """Follows the log and the object store with one file.

    Args:
        nc: an open connection.
        settings: sizes and timeouts.
        writer: the file, from whose checkpoint it continues.
        reader: the same file, to look up jobs.
        prices: what units cost, loaded.
    """

    def __init__(
        self, nc: Client, settings: Settings, writer: sqlite3.Connection, reader: sqlite3.Connection,
        prices: Prices,
    ) -> None:  # fmt: skip
        self._nc = nc
        self._settings = settings
        self._writer = writer
        # It remembers at least what is not yet written, which it cannot read from the file.
        most = max(settings.projector_cache, BATCHES_IN_FLIGHT * settings.projector_batch)
        self._folder = Folder(reader, KnownJobs(most=most, behind=BATCHES_IN_FLIGHT))
        self._prices = prices
        self._start = checkpoint.read(writer)
        # Two batches may wait: one is being written while the next is folded.
        self._writes: asyncio.Queue[tuple[Write, int | None]] = asyncio.Queue(2)
        # What is folded and what is dropped are written in the order in which they were decided.
        self._order = asyncio.Lock()
        self._reader = reader
        self._noted_at = 0
        self._reached = self._start.seq
        self._read_to, self._kept_s = gone.noted(writer) or (0, settings.archive_ttl_s)
        self._kept_s = min(self._kept_s, settings.archive_ttl_s)

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
            parts = self._fold_jobs, self._fold_files, self._fold_ledger, self._prices.run
            folding = [group.create_task(part()) for part in parts]
            last = self._drop_gone() if target is None else self._find_end(done)
            folding.append(group.create_task(last))
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
            self._reached = seq or self._reached
            await self._nc.publish(subject, str(self._reached).encode())
            if target is not None and self._reached >= target:
                done.set()

    async def _fold_jobs(self) -> None:
        async for messages, place in self._read(subjects.JOBS, (), self._start.log):
            for part in parts_of(messages):
                await self._fold_part(part, place.stream_id)

    async def _fold_part(self, messages: Sequence[Stored], stream_id: str) -> None:
        taken_in = {
            message.seq: taken_in_ns(message)
            for message in messages
            if message.subject.endswith(ARCHIVED) and subjects.H_TTL in message.headers
        }
        place = place_of(stream_id, messages[-1])
        try:
            async with self._order:
                batch = self._folder.fold(
                    ((message.subject, message.headers, message.data, message.seq) for message in messages),
                    place,
                    taken_in,
                )
                await _set_aside(self._nc, messages, batch.unreadable)
                await self._writes.put((batch.write, place.seq))
                if any(_is_erasure(message) for message in messages):
                    await self._writes.put((_truncate, None))
        except TooMuchError:
            half = len(messages) // 2
            await self._fold_part(messages[:half], stream_id)
            await self._fold_part(messages[half:], stream_id)

    async def _find_end(self, done: asyncio.Event) -> None:
        """Say that all is read when nothing follows: the last events may be gone, and never come."""
        while await self._follows():  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(END_S)
        done.set()

    async def _follows(self) -> bool:
        with contextlib.suppress(UnavailableError):
            return await follows(self._nc, self._reached, timeout_s=self._settings.request_timeout_s)
        return True

    async def _drop_gone(self) -> None:
        """Remove the rows of archived jobs when the broker lets go of their events; see that none was missed.

        Raises:
            ReplacedError: an event that archived a job may have gone unread, so that its job would stay.
        """
        timeout_s = self._settings.request_timeout_s
        while True:
            try:
                stream = await stream_now(self._nc, subjects.JOBS, timeout_s=timeout_s)
                is_read = self._reached >= stream.last_seq
                is_read = is_read or not await follows(self._nc, self._reached, timeout_s=timeout_s)
            except UnavailableError:
                await asyncio.sleep(LOOK_S)
                continue
            now = jobs.microseconds(stream.at) or 0
            if self._read_to and now - self._read_to >= self._kept_s * 1e6:
                raise ReplacedError(
                    f"it was not current for {(now - self._read_to) / 1e6:.0f} s, and the log keeps the "
                    f"events of archived jobs for {self._kept_s:.0f} s"
                )
            note = None
            if is_read:
                self._kept_s = self._settings.archive_ttl_s
                if now - self._noted_at >= min(NOTE_S, self._kept_s / 4) * 1e6:
                    note, self._noted_at = (now, self._kept_s), now
                self._read_to = now
            if note or gone.is_due(self._reader, now):
                async with self._order:
                    self._folder.pass_to(now)
                    await self._writes.put((gone.write_of(now, note_of=note), None))
            await asyncio.sleep(LOOK_S)

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

    async def _fold_ledger(self) -> None:
        place = self._start.ledger
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._add_lines(place))
                    group.create_task(self._compare_terms())
            except* ReplacedError as errors:  # or other prices hold: it is added up from the first line on
                log.info("ledger_read_again", reason=str(errors.exceptions[0]))
            timeout_s = self._settings.request_timeout_s
            now = await stream_now(self._nc, subjects.LEDGER, timeout_s=timeout_s)
            place = Place(now.id)
            forget = functools.partial(usage.forget, place=place, again_to=now.last_seq)
            await self._writes.put((forget, None))

    async def _add_lines(self, place: Place) -> None:
        async for messages, reached in self._read(subjects.LEDGER, (subjects.ALL_LINES,), place):
            book = self._prices.book()
            await self._writes.put((await write_of_lines(self._nc, messages, reached, book), None))

    async def _compare_terms(self) -> None:
        """See that what is added up holds the costs of the prices that there are.

        Raises:
            ReplacedError: it does not.
        """
        while True:
            self._prices.changed.clear()
            book = self._prices.book()
            compared: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            await self._writes.put((functools.partial(_compare, book=book, compared=compared), None))
            if not await compared:
                raise ReplacedError("prices of days that are added up have changed")
            await self._prices.changed.wait()

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


def parts_of(messages: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    """The same, a few at once where they are large: all of a batch is in memory until it is written."""
    begun, heavy = 0, 0
    for index, message in enumerate(messages):
        more = weight(message.data)
        if heavy and more and heavy + more > BATCH_BYTES:
            yield messages[begun:index]
            begun, heavy = index, 0
        heavy += more
    yield messages[begun:] if begun else messages


def _is_erasure(message: Stored) -> bool:
    """Whether an event archives a job that is erased then; one that only looks like it costs little."""
    return message.subject.endswith(".archived") and ERASABLE in message.data


def _truncate(connection: sqlite3.Connection) -> None:
    if not truncate_wal(connection):
        log.warning("wal_not_truncated", reason="a reader is in the way; it goes with the next erasure")


async def _set_aside(nc: Client, messages: Sequence[Stored], unreadable: list[tuple[Seq, str]]) -> None:
    """Refer to what could not be read before the checkpoint passes it."""
    if not unreadable:
        return
    by_seq = {message.seq: message for message in messages}
    for seq, reason in unreadable:
        await quarantine.set_aside(nc, subjects.JOBS, by_seq[seq], reason)


def _compare(connection: sqlite3.Connection, *, book: PriceBook, compared: asyncio.Future[bool]) -> None:
    """Answer, from the thread that writes, whether rows hold costs by this book."""
    is_by = usage.is_by(connection, book)
    compared.get_loop().call_soon_threadsafe(_answer, compared, is_by)


def _answer(compared: asyncio.Future[bool], is_by: bool) -> None:  # noqa: FBT001 - passed on by the loop
    if not compared.done():
        compared.set_result(is_by)


async def write_of_lines(nc: Client, messages: list[Stored], place: Place, book: PriceBook) -> Write:
    """What adds up the lines of these messages of the ledger, up to a place; it refers to what is none."""
    lines: list[Line] = []
    for message in messages:
        try:
            lines += lines_of(message.data)
        except ValueError as error:
            await quarantine.set_aside(nc, subjects.LEDGER, message, error)
    return functools.partial(usage.apply, lines=lines, place=place, book=book)


def write_of_files(messages: list[Stored], place: Place) -> Write:
    """What writes these messages of the object store, up to a place."""
    stored = [(message.subject, message.data) for message in messages]
    return functools.partial(files.apply, messages=stored, place=place, now=clock.now())
