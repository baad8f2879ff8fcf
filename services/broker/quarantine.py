"""What cannot be read is set aside by reference, so that it is seen, counted, and stops nobody.

Any reader of a stream or bucket may meet a message that is no JSON, of another form, or from a stranger. It
passes over it and writes a reference to `quarantine.<stream>.<sequence>`; the first writer wins, so a message
has one reference however many read it. The message itself stays where it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.errors import RejectedError
from switchyard.services import clock
from switchyard.services.broker.reader import Stored
from switchyard.services.broker.wire import header_block

log = structlog.get_logger()

_T = TypeVar("_T")
_U = TypeVar("_U")

MAX_LEVELS: Final = 128
REASON_CHARS: Final = 500
SUBJECT_CHARS: Final = 500
REMEMBERED: Final = 10_000
TIMEOUT_S: Final = 5.0

UNREADABLE: Final = (
    RejectedError,
    msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError
)  # fmt: skip
"""What parsing raises for a message that somebody else wrote."""

_Known = OrderedDict[tuple[str, int], None]
_reported: WeakKeyDictionary[Client, _Known] = WeakKeyDictionary()
"""What was set aside over a connection: streams are read again after every interruption."""


class Reference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that cannot be read.

    Args:
        stream: where it is.
        seq: its sequence there.
        subject: its subject, cut after 500 characters.
        reason: what is wrong with it.
        size_bytes: that of its body.
        tenant: whose it is, as its headers say; "" where they do not.
        kind: the job's kind, likewise.
        at: when it was found.
    """

    stream: str
    seq: int
    subject: str
    reason: str
    size_bytes: int
    at: datetime
    tenant: str = ""
    kind: str = ""


DECODER: Final = msgspec.json.Decoder(Reference)


async def set_aside(nc: Client, stream: str, message: Stored, reason: object) -> bool:
    """Refer to a message that cannot be read; False when the broker did not take the reference.

    Args:
        nc: an open connection.
        stream: where the message is.
        message: what was read.
        reason: what is wrong with it: a text or an exception.
    """
    size_bytes = len(message.data)
    return await refer(nc, stream, message.seq, message.subject, size_bytes, reason, message.headers or {})


async def refer(
    nc: Client,
    stream: str,
    seq: int,
    subject: str,
    size_bytes: int,
    reason: object,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """As `set_aside`, for one who has not got the message itself."""
    known = _reported.setdefault(nc, _Known())
    if (stream, seq) in known:
        return True
    why = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
    reference = Reference(
        stream=stream, seq=seq, subject=_text(subject, SUBJECT_CHARS),
        reason=_text(why, REASON_CHARS), size_bytes=size_bytes, at=clock.now(),
        tenant=_name(headers.get(subjects.H_TENANT, "")), kind=_name(headers.get(subjects.H_KIND, "")),
    )  # fmt: skip
    log.warning("message_set_aside", stream=stream, seq=seq, subject=reference.subject, why=reference.reason)
    guard = header_block({subjects.H_EXPECTED_SEQ: "0"})
    try:
        # Also a refusal is an answer: another reader was faster, or the stream is not there yet.
        await nc.request(
            subjects.quarantined(stream, seq), msgspec.json.encode(reference), TIMEOUT_S,
            headers=guard,  # type: ignore[arg-type]
        )  # fmt: skip
    except (nats.errors.Error, TimeoutError) as error:
        log.warning("reference_not_written", stream=stream, seq=seq, error=str(error))
        return False
    known[stream, seq] = None
    if len(known) > REMEMBERED:
        known.popitem(last=False)
    return True


async def readable(
    nc: Client,
    stream: str,
    messages: AsyncIterable[Stored] | Iterable[Stored],
    parse: Callable[[Stored], _T],
) -> AsyncGenerator[_T, None]:
    """What `parse` makes of each message; those that it cannot read are set aside."""
    if isinstance(messages, Iterable):
        for message in messages:
            async for parsed in _parsed(nc, stream, message, parse):
                yield parsed
        return
    async for message in messages:
        async for parsed in _parsed(nc, stream, message, parse):
            yield parsed


async def read_or(
    nc: Client, stream: str, message: Stored, parse: Callable[[Stored], _T], otherwise: _U
) -> _T | _U:
    """What `parse` makes of one message; `otherwise` if it cannot read it, which is then set aside."""
    async for parsed in _parsed(nc, stream, message, parse):
        return parsed
    return otherwise


async def _parsed(
    nc: Client, stream: str, message: Stored, parse: Callable[[Stored], _T]
) -> AsyncGenerator[_T, None]:
    try:
        # A decoder's own limit depends on the stack that it runs on.
        if deeper_than(message.data, MAX_LEVELS):
            raise ValueError(f"nested deeper than {MAX_LEVELS} levels")
        value = parse(message)
    except UNREADABLE as error:
        await set_aside(nc, stream, message, error)
    else:
        yield value


def _text(value: str, most: int) -> str:
    return value[:most].encode(errors="backslashreplace").decode()


def _name(value: str) -> str:
    return value if subjects.NAME.fullmatch(value) else ""
