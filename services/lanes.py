"""The queues: entry in the bucket `lanes` and durable consumer of each lane and priority in use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.client import Client

from events import subjects
from events.errors import LimitError, UnavailableError, VersionConflictError
from events.lane import LaneKey, lane_id
from events.spec import JobSpec
from services.controls import pause_fields
from services.log_reader import api, last_message
from services.publisher import Publisher
from services.settings import Settings

MAX_ACK_PENDING = 1_000_000
MAX_WAITING = 100_000
MAX_CONSUMERS_REACHED = 10026


def lane_for(kind: str) -> str:
    """The lane of a kind's jobs that require nothing."""
    return lane_id(LaneKey(kind))


def key_of(spec: JobSpec) -> LaneKey:
    """What the lane of a job is made of."""
    return LaneKey(spec.kind, spec.requires, spec.prefers, spec.isolation)


def consumer_config(lane: str, priority: int, lease_s: float) -> Mapping[str, Any]:
    """The durable consumer of a lane and priority.

    A message past `max_deliver` would stay in `WORK` undelivered, and `inactive_threshold` would delete the
    consumer: neither is set.
    """
    return {
        "durable_name": subjects.lane_consumer(lane, priority),
        "filter_subject": subjects.work(lane, priority),
        "ack_policy": "explicit",
        "ack_wait": int(lease_s * 1e9),
        "max_deliver": -1,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": MAX_WAITING,
    }


class Lanes:
    """Makes lanes on first use, by any writer at once; remembers those that it has seen ready."""

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._ready: set[tuple[str, int]] = set()
        self._making: dict[tuple[str, int], asyncio.Lock] = {}

    def ready(self, lane: str, priority: int) -> bool:
        """Whether entry and consumer are known to exist."""
        return (lane, priority) in self._ready

    async def ensure(self, key: LaneKey, lane: str, priority: int) -> None:
        """Make the entry and the consumer unless they are known to exist.

        Raises:
            LimitError: no more lanes, or priorities in this lane, may be in use.
            UnavailableError: the broker does not answer.
        """
        entry = (lane, priority)
        if entry in self._ready:
            return
        lock = self._making.setdefault(entry, asyncio.Lock())
        async with lock:
            if entry not in self._ready:
                self._check_limits(lane, key.kind)
                await self._make_consumer(lane, priority, key.kind)
                await self._make_entry(key, lane, priority)
                self._ready.add(entry)
        self._making.pop(entry, None)

    async def restore(self, key: LaneKey, lane: str, priority: int) -> None:
        """Make the consumer of a lane whose entry stands.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._make_consumer(lane, priority, key.kind)

    def _check_limits(self, lane: str, kind: str) -> None:
        if len(self._ready) >= self._settings.lanes:
            raise LimitError(
                f"kind {kind!r} would need one lane more than the {self._settings.lanes} that may be in use",
                status=422, code="too_many_lanes", field="kind",
            )  # fmt: skip
        in_lane = sum(1 for known, _ in self._ready if known == lane)
        if in_lane >= self._settings.priorities_per_lane:
            raise LimitError(
                f"kind {kind!r} has {in_lane} priorities in use, which is the most",
                status=422, code="too_many_priorities", field="priority",
            )  # fmt: skip

    async def _make_consumer(self, lane: str, priority: int, kind: str) -> None:
        pause = await pause_fields(self._nc, lane, kind, timeout_s=self._settings.request_timeout_s)
        config = {**consumer_config(lane, priority, self._settings.lease_s), **pause}
        name = subjects.lane_consumer(lane, priority)
        call = f"CONSUMER.DURABLE.CREATE.{subjects.WORK}.{name}"
        body = {"stream_name": subjects.WORK, "config": config}
        answer = await api(self._nc, call, body, timeout_s=self._settings.request_timeout_s)
        error = answer.get("error")
        if error is None:
            return
        if error.get("err_code") == MAX_CONSUMERS_REACHED:
            raise LimitError(f"no more lanes can be made: {error['description']}", status=422, field="kind")
        raise UnavailableError(f"lane {lane} at priority {priority} cannot be made: {error['description']}")

    async def _make_entry(self, key: LaneKey, lane: str, priority: int) -> None:
        """Write the entry unless it is there; an entry of another key with the same hash is an error."""
        subject = f"$KV.{subjects.BUCKET_LANES}.{subjects.lane_entry(lane, priority)}"
        value = msgspec.json.encode(key, order="deterministic")
        try:
            await self._publisher.publish(subject, value, {subjects.H_EXPECTED_SEQ: "0"})
        except VersionConflictError:
            stream = f"KV_{subjects.BUCKET_LANES}"
            found = await last_message(self._nc, stream, subject, timeout_s=self._settings.request_timeout_s)
            if found is not None and not found.data:  # deleted: write over the marker
                await self._publisher.publish(subject, value, {subjects.H_EXPECTED_SEQ: str(found.seq)})
            elif found is not None and found.data != value:
                raise UnavailableError(f"lane {lane} stands for {found.data!r}, not {value!r}") from None
