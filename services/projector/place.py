"""Whether a stream still is the one that somebody has read up to a place.

After an older copy of the broker's data was restored, or a stream was deleted and made again, its sequences
come again with other messages. What was read before is then no part of it, however far it has come since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.projections.checkpoint import Place
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import Stored, last_of_leader, read_range

NO_MESSAGE: Final = 10037


class ReplacedError(SwitchyardError):
    """The stream is another one than was read, or has lost what was read."""


class StreamNow(NamedTuple):
    """A stream's identity, which is when it was created, its last sequence, and the broker's time."""

    id: str
    last_seq: int
    at: datetime


async def stream_now(nc: Client, stream: str, *, timeout_s: float) -> StreamNow:
    """Which stream it is and how far it has come.

    Raises:
        UnavailableError: the broker does not answer, or has no such stream.
    """
    info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=timeout_s)
    if "error" in info:
        raise UnavailableError(f"the broker has no stream {stream} yet: run `switchyard topology apply`")
    return StreamNow(str(info["created"]), int(info["state"]["last_seq"]), datetime.fromisoformat(info["ts"]))


async def follows(nc: Client, seq: int, *, timeout_s: float) -> bool:
    """Whether the log holds an event after a sequence: its end may have been purged.

    Raises:
        UnavailableError: the broker does not answer.
    """
    return bool(
        await read_range(nc, subjects.JOBS, subjects.ALL_JOBS, start=seq + 1, limit=1, timeout_s=timeout_s)
    )


def place_of(stream_id: str, message: Stored) -> Place:
    """The place of a message that a consumer or a direct get brought."""
    return Place(stream_id, message.seq, taken_in_ns(message), message.subject)


def taken_in_ns(message: Stored) -> int:
    """When the broker took a message in that a consumer or a direct get brought."""
    return message.at_ns or _nanoseconds(message.headers["Nats-Time-Stamp"])


async def confirm(nc: Client, stream: str, place: Place, *, timeout_s: float) -> None:
    """Return if the stream still holds what was read up to this place.

    Raises:
        ReplacedError: it does not, or nothing says that it does.
        UnavailableError: the broker does not answer.
    """
    now = await stream_now(nc, stream, timeout_s=timeout_s)
    if now.id != place.stream_id:
        raise ReplacedError(f"it is a view of another {stream}")
    if now.last_seq < place.seq:
        raise ReplacedError(f"it is at message {place.seq}, but {stream} ends at {now.last_seq}")
    if not place.seq:
        return
    found = await api(nc, f"STREAM.MSG.GET.{stream}", {"seq": place.seq}, timeout_s=timeout_s)
    if "error" not in found:
        if _nanoseconds(found["message"]["time"]) != place.at_ns:
            raise ReplacedError(f"message {place.seq} of {stream} is another one: older data was restored")
    elif found["error"].get("err_code") != NO_MESSAGE:
        raise UnavailableError(f"the broker refused a read of {stream}: {found['error'].get('description')}")
    elif stream != subjects.JOBS or not await _went(nc, place, timeout_s):
        raise ReplacedError(f"message {place.seq} of {stream} is gone")


async def is_there(nc: Client, stream: str, seq: int, at_ns: int, *, timeout_s: float) -> bool:
    """Whether a stream holds the message that it took in at a time under a sequence, or has held it.

    Where it is gone, as those of archived jobs are, the message before it decides: in a stream that was
    restored from an older copy and has come so far again, that was taken in later.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = await _message(nc, stream, {"seq": seq}, timeout_s)
    if found is not None:
        return _nanoseconds(found["time"]) == at_ns
    before = await _before(nc, stream, seq, timeout_s)
    return before is None or _nanoseconds(before["time"]) <= at_ns


async def _before(nc: Client, stream: str, seq: int, timeout_s: float) -> dict[str, Any] | None:
    """The last message before a sequence; searched for, since the broker finds the next one only."""

    async def first(low: int) -> dict[str, Any] | None:
        found = await _message(nc, stream, {"seq": low, "next_by_subj": ">"}, timeout_s)
        return found if found is not None and found["seq"] < seq else None

    span, low, high = 1, seq, seq
    best = None
    while best is None and low > 1:
        low, high = max(1, seq - span), low
        best = await first(low)
        span *= 2
    while best is not None and best["seq"] + 1 < high:  # none lies from `high` on
        middle = (best["seq"] + 1 + high) // 2
        later = await first(middle)
        if later is None:
            high = middle
        else:
            best = later
    if best is not None and (later := await first(best["seq"] + 1)) is not None:
        best = later
    return best


async def _message(nc: Client, stream: str, query: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
    found = await api(nc, f"STREAM.MSG.GET.{stream}", query, timeout_s=timeout_s)
    if "error" not in found:
        message: dict[str, Any] = found["message"]
        return message
    if found["error"].get("err_code") != NO_MESSAGE:
        raise UnavailableError(f"the broker refused a read of {stream}: {found['error'].get('description')}")
    return None


async def _went(nc: Client, place: Place, timeout_s: float) -> bool:
    """Whether an event went because its job was archived: nothing else takes one out.

    What archived it goes too, in its time, and another job may then have the id.
    """
    job_id = subjects.job_of(place.subject)
    if job_id is None:
        return False
    last = await last_of_leader(nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=timeout_s)
    if last is not None and last.seq < place.seq:
        return False
    archived = subjects.job_event(job_id, "archived")
    if last is not None and last.subject == archived:
        return True
    return await is_there(nc, subjects.JOBS, place.seq, place.at_ns, timeout_s=timeout_s)


def _nanoseconds(written: str) -> int:
    """A time as the broker writes it; Python's own are coarser."""
    seconds, _, fraction = written.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0"))
