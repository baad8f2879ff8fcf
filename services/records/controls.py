"""What operators have stopped: workers, lanes and kinds that are paused, and workers that are asked to drain.

A wish stands in the bucket `controls`. A worker follows its own. That of a lane or a kind is carried out by
the broker: its consumers are paused, which outlasts restarts of the broker and of everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.events.lane import LaneEntry
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, follow, json_values
from switchyard.services.broker.jetstream import api, consumers_of
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.lane_entries import LANES, place_of

FOREVER: Final = "2200-01-01T00:00:00Z"
"""Until when a consumer is paused: the broker counts in nanoseconds of 63 bits, which end in 292 years."""
ASKED_ONE_BY_ONE: Final = 20
AT_ONCE: Final = 32
TRIES: Final = 8
CONSUMER_NOT_FOUND: Final = 10014

What = Literal["worker", "lane", "kind"]
Wish = Literal["paused", "draining"]


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wished for, by whom and since when."""

    state: Wish
    by: str
    at: datetime


CONTROLS: Final = Form(
    name=subjects.BUCKET_CONTROLS, parts=("what", "name"), values=json_values(Control), is_dotted=True,
    gone=Gone("DEL", ttl_s=3600),
)  # fmt: skip

log = structlog.get_logger()


class Lane(msgspec.Struct, frozen=True):
    """A lane and the kind of its jobs."""

    name: str
    kind: str


# --- The wishes


async def read(nc: Client, what: What, name: str, *, timeout_s: float) -> tuple[Control | None, int]:
    """The wish for one thing, and the sequence to expect when it is changed.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = await Bucket(nc, CONTROLS, timeout_s=timeout_s).get((what, name), leader=False)
    return found.value, found.revision


async def write(
    publisher: Publisher, what: What, name: str, control: Control | None, *, expected: int | None = None
) -> None:
    """Set the wish for one thing, or take it back.

    Raises:
        VersionConflictError: it was changed since it had the sequence `expected`.
        UnavailableError: the broker does not answer.
    """
    bucket, key = Bucket.writer(CONTROLS, publisher), (what, name)
    if control is None:
        await bucket.delete(key, revision=expected)
    else:
        await bucket.put(key, control, revision=expected)


async def wishes(nc: Client, worker: str, *, timeout_s: float) -> AsyncGenerator[Wish | None, None]:
    """What is wished for a worker, now and whenever it changes, without end."""
    changes = follow(Bucket(nc, CONTROLS, timeout_s=timeout_s), "worker", worker)
    async with contextlib.aclosing(changes):
        async for entry in changes:
            yield None if entry.value is None else entry.value.state


async def all_controls(nc: Client, *, timeout_s: float) -> dict[tuple[str, str], Control]:
    """Every wish, by what it concerns and its name.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = await Bucket(nc, CONTROLS, timeout_s=timeout_s).load()
    return {(entry.key[0], entry.key[1]): entry.value for entry in found if entry.value is not None}


async def forget_worker(nc: Client, publisher: Publisher, worker: str, *, timeout_s: float) -> None:
    """Take back what was wished for a worker that is gone; another one never has its id.

    Raises:
        UnavailableError: the broker does not answer.
    """
    control, seq = await read(nc, "worker", worker, timeout_s=timeout_s)
    if control is not None:
        with contextlib.suppress(VersionConflictError):
            await write(publisher, "worker", worker, None, expected=seq)


# --- Lanes and kinds


def is_paused(lane: Lane, controls: Iterable[tuple[str, str]]) -> bool:
    """Whether the lane or its kind is among what is paused."""
    return ("lane", lane.name) in controls or ("kind", lane.kind) in controls


async def pause_fields(nc: Client, lane: str, kind: str, *, timeout_s: float) -> Mapping[str, Any]:
    """What the configuration of a lane's new consumer says of a pause: something if lane or kind is paused.

    Raises:
        UnavailableError: the broker does not answer.
    """
    for what, name in (("lane", lane), ("kind", kind)):
        control, _ = await read(nc, what, name, timeout_s=timeout_s)  # type: ignore[arg-type]
        if control is not None:
            return {"pause_until": FOREVER}
    return {}


def lane_of(entry: Entry[LaneEntry]) -> tuple[str, Lane | None]:
    """The consumer that an entry of the bucket `lanes` stands for, and its lane; None when removed."""
    place = place_of(entry.key)
    return place.consumer, None if entry.value is None else Lane(place.lane, entry.value.kind)


async def carry_out(nc: Client, what: What, name: str, *, timeout_s: float) -> int:
    """Pause or resume the consumers of a lane or a kind as the bucket wishes; how many there are.

    A wish that changes meanwhile is carried out as well: whoever comes last leaves all as it is wished.

    Raises:
        UnavailableError: the broker does not answer, or the wish changes all the time.
    """
    for _ in range(TRIES):
        _, before = await read(nc, what, name, timeout_s=timeout_s)
        controls = await all_controls(nc, timeout_s=timeout_s)
        entries = await Bucket(nc, LANES, timeout_s=timeout_s).load()
        lanes = {consumer: lane for consumer, lane in map(lane_of, entries) if lane is not None}
        wanted = {
            consumer: is_paused(lane, controls)
            for consumer, lane in lanes.items()
            if name == (lane.name if what == "lane" else lane.kind)
        }
        await settle(nc, wanted, timeout_s=timeout_s)
        _, after = await read(nc, what, name, timeout_s=timeout_s)
        if after == before:
            return len(wanted)
    raise UnavailableError(f"others keep pausing and resuming {what} {name}")


async def settle(nc: Client, wanted: Mapping[str, bool], *, timeout_s: float) -> int:
    """Pause and resume consumers where they are not as wanted; how many were changed.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    found = await _paused(nc, wanted, timeout_s)
    wrong = [name for name, pause in wanted.items() if found.get(name, pause) is not pause]

    async def change(name: str) -> None:
        body = {"pause_until": FOREVER} if wanted[name] else None
        answer = await api(nc, f"CONSUMER.PAUSE.{subjects.WORK}.{name}", body, timeout_s=timeout_s)
        error = answer.get("error")
        if error is not None and error.get("err_code") != CONSUMER_NOT_FOUND:
            raise UnavailableError(f"consumer {name} cannot be paused or resumed: {error['description']}")

    for first in range(0, len(wrong), AT_ONCE):
        await asyncio.gather(*(change(name) for name in wrong[first : first + AT_ONCE]))
    return len(wrong)


async def _paused(nc: Client, names: Iterable[str], timeout_s: float) -> dict[str, bool]:
    """Which of the consumers that exist are paused."""
    asked = list(names)
    if len(asked) > ASKED_ONE_BY_ONE:
        found = await consumers_of(nc, subjects.WORK, timeout_s=timeout_s)
        return {consumer["name"]: bool(consumer.get("paused")) for consumer in found}
    calls = (api(nc, f"CONSUMER.INFO.{subjects.WORK}.{name}", timeout_s=timeout_s) for name in asked)
    answers = await asyncio.gather(*calls)
    return {answer["name"]: bool(answer.get("paused")) for answer in answers if "error" not in answer}
