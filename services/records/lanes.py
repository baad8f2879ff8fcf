"""The queues: entry in the bucket `lanes` and durable consumer of each lane and priority in use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError, VersionConflictError
from switchyard.events.lane import LOOSE, LaneEntry, LaneKey, keys_of, lane_id
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.jetstream import GROUP, MAX_CONSUMERS, api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.controls import pause_fields
from switchyard.services.records.lane_entries import LANES, LanePlace, place_of
from switchyard.services.records.lane_limits import LaneLimits, ServedBy, nobody
from switchyard.services.settings import Settings

MAX_ACK_PENDING = 1_000_000
MAX_WAITING = 100_000


def lane_for(kind: str) -> LaneId:
    """The lane of a kind's jobs that require nothing."""
    return lane_id(LaneKey(kind))


def key_of(spec: JobSpec, lane: LaneId) -> LaneKey:
    """What a lane that the job waits in is made of."""
    for key in keys_of(spec):
        if lane_id(key) == lane:
            return key
    # The preference is dropped where there are too many lanes.
    plain = msgspec.structs.replace(spec, prefers={})
    return next((key for key in keys_of(plain) if lane_id(key) == lane), keys_of(plain)[0])


def demand_of(spec: JobSpec, lane: LaneId) -> LaneKey:
    """What a worker must have that starts the job: what its lane says, and what the job needs beside that."""
    key = key_of(spec, lane)
    if not spec.needs:
        return key
    both = [key.requires, spec.needs] if key.requires else [spec.needs]
    return msgspec.structs.replace(key, requires={"$and": both})


def is_ranked(key: LaneKey) -> bool:
    """Whether some workers that fit come before others, so that pulls must carry a rank."""
    return bool(key.prefers) or key.isolation.startswith(LOOSE)


def consumer_config(key: LaneKey, lane: LaneId, priority: int, lease_s: float) -> Mapping[str, Any]:
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


class Lanes:
    """Makes lanes on first use, by any writer at once; knows those that are open."""

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, served_by: ServedBy = nobody
    ) -> None:
        self._nc = nc
        self._bucket = Bucket(nc, LANES, publisher, timeout_s=settings.request_timeout_s)
        self._settings = settings
        self._limits = LaneLimits(settings, served_by)
        self._open = self._limits.entries
        self._making: dict[tuple[LaneId, int], asyncio.Lock] = {}

    async def run(self) -> None:
        """Learn what other writers make and remove, until cancelled."""
        async for entry in follow(self._bucket):
            place = place_of(entry.key)
            if entry.value is None or entry.value.closing:
                self._limits.closed(place)
            else:
                self._limits.opened(place, entry.value)

    def ready(self, lane: LaneId, priority: int) -> bool:
        """Whether entry and consumer are known to exist."""
        return (lane, priority) in self._open

    def with_limit(self, limit: str) -> list[str]:
        """The open lanes whose jobs count against a limit."""
        return sorted({lane for (lane, _), key in self._open.items() if limit in key.limits})

    def key(self, lane: LaneId, priority: int) -> LaneKey | None:
        """What an open lane is made of."""
        return self._open.get((lane, priority))

    def opened_by(self, tenant: str) -> int:
        """How many of the open lanes a tenant has opened."""
        return self._limits.opened_by(tenant)

    async def ensure(
        self, key: LaneKey, lane: LaneId, priority: int, tenant: str = "", *, checked: bool = True
    ) -> None:
        """Make the entry and the consumer unless they are known to exist.

        Args:
            key: what the lane is made of.
            lane: its name.
            priority: which of its priorities.
            tenant: whose job needs it; "" for nobody in particular.
            checked: whether limits count; they do not for a job that is in the log already.

        Raises:
            LimitError: no more lanes, or priorities in this lane, may be in use.
            UnavailableError: the broker does not answer.
        """
        place = (lane, priority)
        if place in self._open:
            return
        lock = self._making.setdefault(place, asyncio.Lock())
        try:
            async with lock:
                if place not in self._open:
                    await self._make(key, place, tenant, checked=checked)
        finally:
            if self._making.get(place) is lock and not lock.locked():
                del self._making[place]

    async def _make(self, key: LaneKey, place: tuple[LaneId, int], tenant: str, *, checked: bool) -> None:
        entry = self._limits.entry_for(key, place, tenant, checked=checked)
        with self._limits.opening(entry):
            await self.make_consumer(key, *place)
            made = await self._make_entry(entry, *place)
        self._limits.opened(place, made)

    async def make_consumer(self, key: LaneKey, lane: LaneId, priority: int) -> None:
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
        timeout_s = self._settings.request_timeout_s
        try:
            # Tried on nats-server 2.15.1: the one before is deleted with its directory, which takes as long
            # as the disk is slow, and takes the directory of the new one along. It is asked for again.
            answer = await api(self._nc, call, body, timeout_s=timeout_s, expected={MAX_CONSUMERS})
        except UnavailableError as error:
            raise UnavailableError(f"lane {lane} at priority {priority} cannot be made: {error}") from error
        if "error" in answer:
            raise LimitError(
                f"no more lanes can be made: {answer['error']['description']}", status=422, field="kind"
            )

    async def _make_entry(self, wanted: LaneEntry, lane: LaneId, priority: int) -> LaneEntry:
        """Write the entry, or open one that is closing; one of another key with the same hash is an error.

        Returns the entry that stands there: if another writer was faster, the one of its tenant.
        """
        place = LanePlace(lane, priority).key
        key = _key(wanted)
        expected = 0
        for _ in range(self._settings.append_tries):
            try:
                await self._bucket.put(place, wanted, revision=expected)
            except VersionConflictError:
                # An entry that cannot be read stands for nothing, and is written over.
                found = await self._bucket.get(place, leader=False)
                entry = found.value
                if entry is not None and _key(entry) != key:
                    raise UnavailableError(f"lane {lane} stands for {entry!r}, not {key!r}") from None
                if entry is not None and not entry.closing:
                    return entry
                expected = found.revision
            else:
                return wanted
        raise UnavailableError(f"lane {lane}: other writers were always faster")


def _key(entry: LaneEntry) -> LaneKey:
    """What a lane is made of, whoever opened it."""
    return msgspec.convert(entry, LaneKey, from_attributes=True)
