"""The lines that a job has printed, as they are stored."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.part_reader import read_few

log = structlog.get_logger()

AT_ONCE: Final = 256


class Line(NamedTuple):
    """A line, its sequence, and where it stands in the text of its attempt, if it is a part of that."""

    seq: int
    text: str
    text_at: int | None = None


class _Stored(msgspec.Struct, frozen=True):
    line: str = ""
    text_at: int | None = None


_DECODER: Final = msgspec.json.Decoder(_Stored)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


async def lines_of(nc: Client, job_id: JobId, after: int, *, timeout_s: float) -> tuple[list[Line], int]:
    """Up to `AT_ONCE` lines of a job with a sequence over `after`, and where to continue; 0 for no more now.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = await read_few(
        nc, subjects.LOGS, subjects.log(job_id), start=after + 1, limit=AT_ONCE, timeout_s=timeout_s
    )
    lines = []
    for stored in found:
        try:
            line = _DECODER.decode(stored.data)
            lines.append(Line(stored.seq, line.line, line.text_at))
        except _UNREADABLE as error:
            log.warning("log_line_unreadable", subject=stored.subject, error=str(error))
    return lines, found[-1].seq if len(found) == AT_ONCE else 0
