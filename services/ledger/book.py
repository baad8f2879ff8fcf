"""The stream `LEDGER` as it is written: each line once, however often it is brought.

A line stands under the subject of its block: 4,096 sequences of `JOBS`. A write is refused if anything came
into the block since it was read, so what stands there already is always seen. One subject for each line would
do as well, but the broker keeps every subject in memory, and lines are kept for years.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.events.ledger.line import Line, encode, lines_of, page
from switchyard.services.broker.publisher import AckLostError, Publisher, PublishRefusedError
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import read_range

log = structlog.get_logger()

BLOCKS: Final = 16
"""Blocks that are remembered; one holds the ids of 4,096 lines at most."""
MESSAGE_BYTES: Final = 256 * 1024
TRIES: Final = 20
PAUSE_S: Final = 0.05


class _Block:
    """What is known to stand under one subject."""

    __slots__ = ("ids", "last_seq")

    def __init__(self) -> None:
        self.last_seq = 0
        self.ids: set[str] = set()


class Book:
    """Writes lines.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, publisher: Publisher, *, timeout_s: float) -> None:
        self._nc = nc
        self._publisher = publisher
        self._timeout_s = timeout_s
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._writing = asyncio.Lock()

    async def write(self, lines: Sequence[Line]) -> int:
        """Write those of these lines that are not there; returns how many.

        Raises:
            UnavailableError: the broker does not answer, or has no room: some may have been written.
        """
        by_block: defaultdict[str, list[Line]] = defaultdict(list)
        for line in lines:
            by_block[subjects.ledger(line.seq)].append(line)
        written = 0
        async with self._writing:
            for subject, some in by_block.items():
                written += await self._write(subject, some)
        return written

    async def _write(self, subject: str, lines: list[Line]) -> int:
        written = 0
        for attempt in range(TRIES):
            block = await self._block(subject)
            missing = {line.id: line for line in lines if line.id not in block.ids}
            if not missing:
                return written
            part, body = _fitting(list(missing.values()))
            headers = {subjects.H_EXPECTED_SEQ: str(block.last_seq)}
            try:
                seq = await self._publisher.publish(subject, body, headers)
            except (VersionConflictError, AckLostError) as error:
                # Another keeper was faster, or it is not known: what stands there now decides.
                log.debug("ledger_read_again", subject=subject, error=str(error))
                self._blocks.pop(subject, None)
                await asyncio.sleep(PAUSE_S * min(attempt, 10) * random.random())  # noqa: S311 - keeps keepers apart
            except PublishRefusedError as error:
                raise UnavailableError(f"the ledger takes no line: {error}") from error
            else:
                block.last_seq = seq
                block.ids.update(part)
                written += len(part)
                if len(part) == len(missing):
                    return written
        raise UnavailableError(f"{subject}: {TRIES} writers of the ledger were faster in a row")

    async def _block(self, subject: str) -> _Block:
        """The block, read if it is not remembered; a replica that lags is found out by the write."""
        block = self._blocks.get(subject)
        if block is None:
            block = _Block()
            while found := await read_range(
                self._nc, subjects.LEDGER, subject, start=block.last_seq + 1, timeout_s=self._timeout_s
            ):
                for message in found:
                    try:
                        block.ids.update(line.id for line in lines_of(message.data))
                    except ValueError as error:
                        await set_aside(self._nc, subjects.LEDGER, message, error)
                block.last_seq = found[-1].seq
            self._blocks[subject] = block
            while len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(subject)
        return block


def _fitting(lines: list[Line]) -> tuple[list[str], bytes]:
    """The ids of those that fit into a message, at least of one, and its body."""
    ids: list[str] = []
    parts: list[bytes] = []
    size_bytes = 0
    for line in lines:
        part = encode(line)
        size_bytes += len(part) + 1
        if parts and size_bytes > MESSAGE_BYTES:
            break
        ids.append(line.id)
        parts.append(part)
    return ids, page(parts)
