"""Whether a stream still is the one that somebody has read up to a place.

After an older copy of the broker's data was restored, or a stream was deleted and made again, its sequences
come again with other messages. What was read before is then no part of it, however far it has come since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from nats.aio.client import Client

from events import subjects
from events.errors import SwitchyardError, UnavailableError
from projections.checkpoint import Place
from services.log_reader import Stored, api, last_of_leader

NO_MESSAGE: Final = 10037


class ReplacedError(SwitchyardError):
    """The stream is another one than was read, or has lost what was read."""


class StreamNow(NamedTuple):
    """A stream's identity, which is when it was created, and its last sequence."""

    id: str
    last_seq: int


async def stream_now(nc: Client, stream: str, *, timeout_s: float) -> StreamNow:
    """Which stream it is and how far it has come.

    Raises:
        UnavailableError: the broker does not answer, or has no such stream.
    """
    info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=timeout_s)
    if "error" in info:
        raise UnavailableError(f"the broker has no stream {stream} yet: run `switchyard topology apply`")
    return StreamNow(str(info["created"]), int(info["state"]["last_seq"]))


def place_of(stream_id: str, message: Stored) -> Place:
    """The place of a message that a consumer or a direct get brought."""
    at_ns = message.at_ns or _nanoseconds(message.headers["Nats-Time-Stamp"])
    return Place(stream_id, message.seq, at_ns, message.subject)


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
    elif not await _was_archived(nc, place, timeout_s):
        raise ReplacedError(f"message {place.seq} of {stream} is gone")


async def _was_archived(nc: Client, place: Place, timeout_s: float) -> bool:
    """Whether an event went because its job was archived afterwards: nothing else takes one out."""
    job_id = subjects.job_of(place.subject)
    if job_id is None:
        return False
    archived = subjects.job_event(job_id, "archived")
    last = await last_of_leader(nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=timeout_s)
    return last is not None and last.seq > place.seq and last.subject == archived


def _nanoseconds(told: str) -> int:
    """A time as the broker tells it; Python's own are coarser."""
    seconds, _, fraction = told.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0"))
