"""The queues: entry in the bucket `lanes` and durable consumer of each lane and priority in use."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.client import Client

from events import subjects
from events.errors import InvalidError, LimitError, UnavailableError, VersionConflictError
from events.lane import LOOSE, LaneEntry, LaneKey, keys_of, lane_id
from events.requirement import canonical, canonical_prefers
from events.spec import MAX_PRIORITY, JobSpec
from services.controls import pause_fields
from services.log_reader import Stored, api, follow, last_message
from services.publisher import Publisher
from services.quarantine import read_or, readable
from services.settings import Settings

MAX_ACK_PENDING = 1_000_000
MAX_WAITING = 100_000
MAX_CONSUMERS_REACHED = 10026
GROUP: Final = "workers"
BUCKET: Final = f"KV_{subjects.BUCKET_LANES}"
NAMED_KEYS: Final = 3
MAKING_PAUSE_S: Final = 0.02

DECODER: Final = msgspec.json.Decoder(LaneEntry)


class Entry(NamedTuple):
    """An entry of the bucket, at its sequence there."""

    lane: LaneEntry
    seq: int


def lane_for(kind: str) -> str:
    """The lane of a kind's jobs that require nothing."""
    return lane_id(LaneKey(kind))


def key_of(spec: JobSpec, lane: str) -> LaneKey:
    """What a lane that the job waits in is made of."""
    for key in keys_of(spec):
        if lane_id(key) == lane:
            return key
    # The preference is dropped where there are too many lanes.
    plain = msgspec.structs.replace(spec, prefers={})
    return next((key for key in keys_of(plain) if lane_id(key) == lane), keys_of(plain)[0])


def is_ranked(key: LaneKey) -> bool:
    """Whether some workers that fit come before others, so that pulls must carry a rank."""
    return bool(key.prefers) or key.isolation.startswith(LOOSE)


def consumer_config(key: LaneKey, lane: str, priority: int, lease_s: float) -> Mapping[str, Any]:
    """The durable consumer of a lane and priority.

    A message past `max_deliver` would stay in `WORK` undelivered, and `inactive_threshold` would delete the
    consumer: neither is set.
    """
    config = {
        "durable_name": subjects.lane_consumer(lane, priority),
        "filter_subject": subjects.work(lane, priority),
        "ack_policy": "explicit",
        "ack_wait": int(lease_s * 1e9),
        "max_deliver": -1,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": MAX_WAITING,
    }
    return (
        config | {"priority_groups": [GROUP], "priority_policy": "prioritized"} if is_ranked(key) else config
    )


def entry_subject(lane: str, priority: int) -> str:
    """Where the entry of a lane and priority stands."""
    return f"$KV.{subjects.BUCKET_LANES}.{subjects.lane_entry(lane, priority)}"


def parse_entry(message: Stored) -> tuple[str, int, Entry | None]:
    """Lane, priority and entry of a message of the bucket; None when it was removed."""
    prefix = f"$KV.{subjects.BUCKET_LANES}."
    lane, priority = subjects.parse_lane_entry(message.subject.removeprefix(prefix))
    if not subjects.is_name(lane):
        raise ValueError("the name of a lane was expected")
    if not message.data:
        return lane, priority, None
    entry = DECODER.decode(message.data)
    try:
        canonical(entry.requires)
        canonical_prefers(entry.prefers)
    except InvalidError as error:
        raise ValueError(error.message) from None
    if not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(f"a priority of 0 to {MAX_PRIORITY} was expected")
    return lane, priority, Entry(entry, message.seq)


class Lanes:
    """Makes lanes on first use, by any writer at once; knows those that are open."""

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._open: dict[tuple[str, int], LaneKey] = {}
        self._making: dict[tuple[str, int], asyncio.Lock] = {}

    async def run(self) -> None:
        """Learn what other writers make and remove, until cancelled."""
        timeout_s = self._settings.request_timeout_s
        changes = follow(self._nc, BUCKET, latest=True, timeout_s=timeout_s)
        async for lane, priority, entry in readable(self._nc, BUCKET, changes, parse_entry):
            if entry is None or entry.lane.closing:
                self._open.pop((lane, priority), None)
            else:
                self._open[lane, priority] = entry.lane

    def ready(self, lane: str, priority: int) -> bool:
        """Whether entry and consumer are known to exist."""
        return (lane, priority) in self._open

    def with_limit(self, limit: str) -> list[str]:
        """The open lanes whose jobs count against a limit."""
        return sorted({lane for (lane, _), key in self._open.items() if limit in key.limits})

    def key(self, lane: str, priority: int) -> LaneKey | None:
        """What an open lane is made of."""
        return self._open.get((lane, priority))

    async def ensure(self, key: LaneKey, lane: str, priority: int) -> None:
        """Make the entry and the consumer unless they are known to exist.

        Raises:
            LimitError: no more lanes, or priorities in this lane, may be in use.
            UnavailableError: the broker does not answer.
        """
        entry = (lane, priority)
        if entry in self._open:
            return
        lock = self._making.setdefault(entry, asyncio.Lock())
        async with lock:
            if entry not in self._open:
                self._check_limits(lane, key)
                await self.make_consumer(key, lane, priority)
                await self._make_entry(key, lane, priority)
                self._open[entry] = key
        self._making.pop(entry, None)

    def _check_limits(self, lane: str, key: LaneKey) -> None:
        in_lane = sum(1 for known, _ in self._open if known == lane)
        if in_lane >= self._settings.priorities_per_lane:
            raise LimitError(
                f"kind {key.kind!r} has {in_lane} priorities in use, which is the most",
                status=422, code="too_many_priorities", field="priority",
            )  # fmt: skip
        if len(self._open) < self._settings.lanes:
            return
        message = (
            f"kind {key.kind!r} would need one lane more than the {self._settings.lanes} that may be in use"
        )
        if guilty := self._varied(key):
            message += f"; many come of the values of {guilty} in requires"
        raise LimitError(
            message, status=422, code="too_many_lanes", field="requires" if key.requires else "kind"
        )

    def _varied(self, wanted: LaneKey) -> str:
        """The keys of this requirement that have the most different values in the lanes of its kind."""
        values: dict[str, set[bytes]] = defaultdict(set)
        for key in self._open.values():
            if key.kind == wanted.kind:
                for name in wanted.requires.keys() & key.requires.keys():
                    values[name].add(msgspec.json.encode(key.requires[name], order="deterministic"))
        names = sorted(
            (name for name in values if len(values[name]) > 1), key=lambda name: -len(values[name])
        )
        return ", ".join(f"{name} ({len(values[name])})" for name in names[:NAMED_KEYS])

    async def make_consumer(self, key: LaneKey, lane: str, priority: int) -> None:
        """Make the consumer of a lane, paused if the lane or its kind is, or leave it as it is.

        Raises:
            LimitError: the broker takes no more consumers.
            UnavailableError: the broker does not answer.
        """
        pause = await pause_fields(self._nc, lane, key.kind, timeout_s=self._settings.request_timeout_s)
        config = {**consumer_config(key, lane, priority, self._settings.lease_s), **pause}
        name = subjects.lane_consumer(lane, priority)
        call = f"CONSUMER.DURABLE.CREATE.{subjects.WORK}.{name}"
        body = {"stream_name": subjects.WORK, "config": config}
        why = ""
        for _ in range(self._settings.append_tries):
            answer = await api(self._nc, call, body, timeout_s=self._settings.request_timeout_s)
            error = answer.get("error")
            if error is None:
                return
            why = error["description"]
            if error.get("err_code") == MAX_CONSUMERS_REACHED:
                raise LimitError(f"no more lanes can be made: {why}", status=422, field="kind")
            # Tried on nats-server 2.15.1: while the one before is being deleted, its directory is in the way.
            await asyncio.sleep(MAKING_PAUSE_S)
        raise UnavailableError(f"lane {lane} at priority {priority} cannot be made: {why}")

    async def _make_entry(self, key: LaneKey, lane: str, priority: int) -> None:
        """Write the entry, or open one that is closing; one of another key with the same hash is an error."""
        subject = entry_subject(lane, priority)
        value = msgspec.json.encode(key, order="deterministic")
        expected = 0
        for _ in range(self._settings.append_tries):
            try:
                await self._publisher.publish(subject, value, {subjects.H_EXPECTED_SEQ: str(expected)})
            except VersionConflictError:
                found = await last_message(
                    self._nc, BUCKET, subject, timeout_s=self._settings.request_timeout_s
                )
                if found is None:
                    continue
                # An entry that cannot be read stands for nothing, and is written over.
                _, _, entry = await read_or(self._nc, BUCKET, found, parse_entry, (lane, priority, None))
                if entry is not None and msgspec.convert(entry.lane, LaneKey, from_attributes=True) != key:
                    raise UnavailableError(f"lane {lane} stands for {entry.lane!r}, not {key!r}") from None
                if entry is not None and not entry.lane.closing:
                    return
                expected = found.seq
            else:
                return
        raise UnavailableError(f"lane {lane}: other writers were always faster")
