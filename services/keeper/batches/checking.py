"""Checks the file of a batch and makes the plan of it, a block at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.files import FileInfo, Files
from switchyard.services.intake.batches.lines import lines_of
from switchyard.services.intake.batches.plan import PLAN_LINE_BYTES, Coming, Planner, encode
from switchyard.services.records.batches.record import Batch, Fault
from switchyard.services.settings import Settings

FAULTS: Final = 20
YIELD_BYTES: Final = 64 * 1024
PLAN_TYPE: Final = "application/jsonl"


class Checked(NamedTuple):
    """What came of a check: the plan and how many lines it has, or what is wrong with the file."""

    plan: FileInfo | None
    lines: int
    faults: tuple[Fault, ...]


class _FaultyError(InvalidError):
    """There is no use in reading on."""


class Checker:
    """Checks files.

    Args:
        files: where they are.
        settings: limits.
    """

    def __init__(self, files: Files, settings: Settings) -> None:
        self._files = files
        self._settings = settings

    async def check(self, batch: Batch, *, file_id: str, ttl_s: float) -> Checked:
        """Read the file of a batch, and store the plan.

        Args:
            batch: whose file.
            file_id: the id of the plan.
            ttl_s: how long the plan is kept.

        Raises:
            DamagedFileError: its bytes are not those that were stored.
            UnavailableError: the broker does not answer, or there is no room.
        """
        try:
            info = await self._files.info(batch.tenant, batch.input)
        except NotFoundError:
            return Checked(None, 0, (Fault(0, "unknown_file", "the input file is not there any more"),))
        faults: list[Fault] = []
        counted = [0]
        try:
            plan = await self._files.put(
                tenant=batch.tenant, file_id=file_id, name=f"batch-{batch.id}.plan.jsonl", type=PLAN_TYPE,
                body=self._plan(batch, info, faults, counted, ttl_s), max_bytes=self._most_bytes(info),
                ttl_s=ttl_s, key=batch.key, erasable=info.lock is not None,
            )  # fmt: skip
        except _FaultyError:
            return Checked(None, counted[0], tuple(faults))
        return Checked(plan, counted[0], ())

    def _most_bytes(self, info: FileInfo) -> int:
        return info.size_bytes * 2 + self._settings.batch_lines * PLAN_LINE_BYTES

    async def _plan(
        self, batch: Batch, info: FileInfo, faults: list[Fault], counted: list[int], ttl_s: float
    ) -> AsyncIterator[bytes]:
        """The plan, as long as the file can be one.

        Raises:
            _FaultyError: it cannot; `faults` says why.
        """
        most, most_lines = self._settings.bulk_line_bytes, self._settings.batch_lines
        planner = Planner(batch)
        since = 0
        if info.size_bytes > self._settings.batch_bytes:
            what = f"the file has {info.size_bytes} bytes of at most {self._settings.batch_bytes}"
            faults.append(Fault(0, "file_too_large", what))
            raise _FaultyError(what)
        async with contextlib.aclosing(self._files.read(info)) as blocks:
            async for line in lines_of(blocks, most):
                if line.text is not None:
                    if not line.text.strip():
                        continue
                    try:
                        line.text.decode()
                    except UnicodeDecodeError as error:
                        what = f"byte {error.start + 1} of the line is not UTF-8"
                        faults.append(Fault(line.number, "not_utf8", what))
                        if len(faults) == FAULTS:
                            break
                        continue
                counted[0] += 1
                if counted[0] > most_lines:
                    what = f"the file has more than {most_lines} lines"
                    faults.append(Fault(line.number, "too_many_lines", what))
                    break
                if faults:
                    continue
                planned = planner.plan(line.number, line.text, most)
                if planner.coming is not None:
                    await self._store(batch, info, planner.coming, ttl_s)
                yield encode(planned)
                since += len(line.text or b"")
                if since > YIELD_BYTES:
                    since = 0
                    await asyncio.sleep(0)  # others of this process have their turn
        if not counted[0] and not faults:
            faults.append(Fault(0, "empty", "the file has no line"))
        if faults:
            raise _FaultyError(faults[0].message)

    async def _store(self, batch: Batch, info: FileInfo, coming: Coming, ttl_s: float) -> None:
        """Store a document that came within a line, as its file was; the same again takes its place."""
        data = coming.document.data
        await self._files.put(
            tenant=batch.tenant, file_id=coming.file_id, name=coming.document.name, type=coming.document.type,
            body=_once(data), max_bytes=len(data), ttl_s=ttl_s, key=batch.key, erasable=info.lock is not None,
        )  # fmt: skip


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
