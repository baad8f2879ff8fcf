"""The outputs of a batch: a line for each line of its file, in one of two files, in the order of the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.files import FileInfo, Files
from switchyard.services.files.named import with_names
from switchyard.services.intake.batches.plan import Planned
from switchyard.services.keeper.batches.compat_lines import GoneError, body_of, error_line, result_line
from switchyard.services.records.batches.record import Batch, Refusal, line_job_id

TYPE: Final = "application/jsonl"
AT_ONCE: Final = 32
BLOCK_BYTES: Final = 64 * 1024
BLOCKS_AHEAD: Final = 16
MOST_BYTES: Final = 64 * 1024**3
ENDED_SO: Final = {
    Status.CANCELLED: "cancelled", Status.EXPIRED: "expired", Status.DEAD: "dead",
    Status.ARCHIVED: "archived",
}  # fmt: skip

STOPPED: Final = (Status.CANCELLED, Status.EXPIRED)
"""Whose word is the code of their line, whatever an attempt said before, as of one that was not submitted."""


class OutputJob(msgspec.Struct, frozen=True):
    """The job of a line, as the outputs name it."""

    id: str
    kind: str
    state: str
    attempt: int


class OutputError(msgspec.Struct, frozen=True):
    """Why a line has no result."""

    code: str
    message: str
    field: str | None = None


class ResultLine(msgspec.Struct, frozen=True):
    """A line with a result."""

    line: int
    custom_id: str | None
    job: OutputJob
    result: Any
    artifacts: Sequence[dict[str, Any]]
    usage: dict[str, float]


class ErrorLine(msgspec.Struct, frozen=True):
    """A line without one; no job was made of it where `job` is null."""

    line: int
    custom_id: str | None
    job: OutputJob | None
    error: OutputError


_ENCODE: Final = msgspec.json.Encoder().encode


class StillOpenError(Exception):
    """Jobs that had ended have not any more: somebody has started them again."""

    def __init__(self, jobs: dict[JobId, int]) -> None:
        super().__init__()
        self.jobs = jobs


class Written(NamedTuple):
    """The two files, where they have a line, and how many each has."""

    results: FileInfo | None
    errors: FileInfo | None
    succeeded: int
    failed: int


class _Output:
    """One of the two files on its way."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.lines = 0
        self._block = bytearray()
        self._blocks: asyncio.Queue[bytes] = asyncio.Queue(BLOCKS_AHEAD)

    async def add(self, line: bytes) -> None:
        self.lines += 1
        self._block += line + b"\n"
        if len(self._block) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._block:
            await self._blocks.put(bytes(self._block))
            self._block = bytearray()

    async def close(self) -> None:
        await self.flush()
        await self._blocks.put(b"")

    async def first(self) -> bytes:
        """Its first block; empty if nothing comes."""
        return await self._blocks.get()

    async def body(self, block: bytes) -> AsyncIterator[bytes]:
        while block:
            yield block
            block = await self._blocks.get()


class Outputs:
    """Writes the outputs of one batch.

    Args:
        batch: as it is when all of its jobs have ended.
        store: the log.
        files: where they are stored.
        refusals: the lines that no job was made of, by number.
        maybe: up to which line a job may be there, though the cursor is before it.
    """

    def __init__(
        self, batch: Batch, store: EventStore, files: Files, refusals: dict[int, Refusal], maybe: int
    ) -> None:
        self._batch = batch
        self._store = store
        self._files = files
        self._refusals = refusals
        self._maybe = maybe
        self._results, self._errors = _Output("results"), _Output("errors")
        self._erasable = False

    async def write(
        self, pages: AsyncIterator[list[Planned]], *, names: tuple[str, str], ttl_s: float, erasable: bool
    ) -> Written:
        """Store both files.

        Args:
            pages: the plan.
            names: the ids of the two files.
            ttl_s: how long they are kept.
            erasable: whether they are stored so that they can be erased.

        Raises:
            StillOpenError: a job runs again.
            UnavailableError: the broker does not answer, or there is no room.
        """
        self._erasable = erasable
        try:
            async with asyncio.TaskGroup() as group:
                results = group.create_task(
                    self._store_one(self._results, names[0], ttl_s, erasable=erasable)
                )
                errors = group.create_task(self._store_one(self._errors, names[1], ttl_s, erasable=erasable))
                await self._walk(pages)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return Written(results.result(), errors.result(), self._results.lines, self._errors.lines)

    async def _store_one(
        self, output: _Output, file_id: str, ttl_s: float, *, erasable: bool
    ) -> FileInfo | None:
        first = await output.first()
        if not first:
            return None
        batch = self._batch
        return await self._files.put(
            tenant=batch.tenant, file_id=file_id, name=f"batch-{batch.id}.{output.word}.jsonl", type=TYPE,
            body=output.body(first), max_bytes=MOST_BYTES, ttl_s=ttl_s, key=batch.key,
            erasable=erasable,
        )  # fmt: skip

    async def _walk(self, pages: AsyncIterator[list[Planned]]) -> None:
        async for page in pages:
            made = [one for one in page if one.refusal is None and one.n <= self._maybe]
            jobs = dict(
                zip((one.n for one in made), await each(self._job, made, at_once=AT_ONCE), strict=True)
            )
            running = {job.id: line for line, job in jobs.items() if _is_open(job)}
            if running:
                raise StillOpenError(running)
            for one in page:
                await self._add(one, jobs.get(one.n))
        await self._results.close()
        await self._errors.close()

    async def _job(self, one: Planned) -> Job:
        return await self._store.load(line_job_id(self._batch.tenant, self._batch.id, one.n))

    async def _add(self, one: Planned, job: Job | None) -> None:
        is_there = job is not None and job.seq > 0
        if job is not None and job.damage is None and job.status is Status.SUCCEEDED:
            if self._batch.compat is not None:
                await self._add_body(one, job)
                return
            if self._erasable:  # names are for no other file
                job = await with_names(self._files, job)
            line = ResultLine(one.n, one.c, _shown(job), job.result, job.artifacts, job.usage)
            await self._results.add(_ENCODE(line))
            return
        shown = _shown(job) if job is not None and is_there else None
        error = _why(job) if job is not None and is_there else self._why_none(one)
        if self._batch.compat is not None:
            await self._add_error(one, error, ran=is_there)
            return
        await self._errors.add(_ENCODE(ErrorLine(one.n, one.c, shown, error)))

    async def _add_body(self, one: Planned, job: Job) -> None:
        """Add the result of a line of another service's form."""
        try:
            body = await body_of(self._files, job, one.shown)
        except GoneError as error:
            await self._add_error(one, OutputError(error.code, error.message), ran=True)
            return
        await self._results.add(result_line(one.c, job, body))

    async def _add_error(self, one: Planned, error: OutputError, *, ran: bool) -> None:
        line_id = line_job_id(self._batch.tenant, self._batch.id, one.n)
        form = "" if self._batch.compat is None else self._batch.compat.form
        line = error_line(form, line_id, one.c, error.code, error.message, error.field, ran=ran)
        await self._errors.add(line)

    def _why_none(self, one: Planned) -> OutputError:
        """Why no job was made of a line."""
        refusal = one.refusal or self._refusals.get(one.n)
        if refusal is not None:
            return OutputError(refusal.code, refusal.message, refusal.field or None)
        stopped = self._batch.stopped
        if stopped:
            return OutputError(stopped, f"the batch was {stopped} before the line was submitted")
        return OutputError("gone", "its job is not kept any more")


def _is_open(job: Job) -> bool:
    return job.seq > 0 and job.damage is None and job.status not in FINAL


def _shown(job: Job) -> OutputJob:
    return OutputJob(job.id, job.kind, job.shown_state, job.attempt)


def _why(job: Job) -> OutputError:
    """Why a job has no result."""
    if job.damage is not None:
        return OutputError("damaged", job.damage.reason)
    word = ENDED_SO.get(job.status, job.status.value)
    if job.status in STOPPED:
        return OutputError(word, f"the job is {word}" + (f": {job.reason}" if job.reason else ""))
    if job.error is not None:
        return OutputError(job.error.code, job.error.message)
    return OutputError(job.reason or word, f"the job is {word}")
