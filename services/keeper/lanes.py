"""Lanes kept whole and few: a missing consumer is made again, and a lane long empty is removed.

Removal takes two sweeps. The first marks the entry `closing`: from then on, whoever needs the lane opens it
again, by a write that is expected to follow the mark. The second requires that nothing waits, nothing is held
and the source has caught up, deletes the consumer, looks at `WORK` once more, and deletes the entry if it is
still the one that was marked. A job that slips in between waits in `WORK` and gets its consumer back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, VersionConflictError
from switchyard.events.lane import LaneEntry
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.jetstream import NOTHING, api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.keeper.source import is_behind
from switchyard.services.records.lane_entries import LANES, LanePlace, place_of
from switchyard.services.records.lanes import Lanes
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Open(NamedTuple):
    """A lane's entry, and the revision that it has."""

    lane: LaneEntry
    revision: int


class LaneSweep:
    """Compares the bucket `lanes` with the consumers and messages of `WORK`.

    Args:
        mended: told of every lane whose consumer was missing.
    """

    def __init__(
        self,
        nc: Client,
        publisher: Publisher,
        lanes: Lanes,
        settings: Settings,
        mended: Callable[..., None],
    ) -> None:
        self._nc = nc
        self._bucket = Bucket(nc, LANES, publisher, timeout_s=settings.request_timeout_s)
        self._lanes = lanes
        self._settings = settings
        self._mended = mended
        self._marked: dict[LanePlace, int] = {}

    async def once(self) -> None:
        """One sweep."""
        have = await consumer_names(self._nc, subjects.WORK, self._settings.request_timeout_s)
        waiting = await self._waiting()
        marked, self._marked = self._marked, {}
        for place, entry in await self._entries():
            try:
                await self._one(
                    place, entry, have, marked, is_waiting=bool(waiting.get(subjects.work(*place)))
                )
            except LimitError as error:  # the broker takes no more consumers: the other lanes go on
                log.warning("lane_not_mended", lane=place.lane, priority=place.priority, error=error.message)

    async def _one(
        self, place: LanePlace, entry: Open, have: set[str], marked: dict[LanePlace, int], *, is_waiting: bool
    ) -> None:
        if place.consumer not in have:
            if not entry.lane.closing or is_waiting:
                await self._reopen(place, entry)
                self._mended("lane_without_consumer", lane=place.lane, priority=place.priority)
            else:  # a keeper that was removing it has died
                await self._delete_entry(place, entry)
        elif entry.lane.closing:
            if marked.get(place) == entry.revision:
                await self._remove(place, entry)
            else:
                self._marked[place] = entry.revision
        elif not is_waiting and await self._is_idle(place):
            await self._mark(place, entry)

    async def _entries(self) -> list[tuple[LanePlace, Open]]:
        return [
            (place_of(entry.key), Open(entry.value, entry.revision))
            for entry in await self._bucket.load()
            if entry.value is not None
        ]

    async def _waiting(self) -> dict[str, int]:
        """How many messages each lane and priority has in `WORK`, delivered or not."""
        state = (await self._work_info({"subjects_filter": "work.>"}))["state"]
        return state.get("subjects") or {}

    async def _work_info(self, query: dict[str, Any]) -> dict[str, Any]:
        timeout_s = self._settings.request_timeout_s
        call = f"STREAM.INFO.{subjects.WORK}"
        return await api(self._nc, call, query, timeout_s=timeout_s, expected=NOTHING)

    async def _is_idle(self, place: LanePlace) -> bool:
        """Whether the lane is empty, and has been for long."""
        info = await api(
            self._nc,
            f"CONSUMER.INFO.{subjects.WORK}.{place.consumer}",
            timeout_s=self._settings.request_timeout_s,
        )
        if "error" in info or info["num_pending"] or info["num_ack_pending"]:
            return False
        used = info["delivered"].get("last_active") or info["created"]
        last = datetime.fromisoformat(used[:19] + "+00:00")
        return clock.now() - last > timedelta(seconds=self._settings.lane_idle_s)

    async def _mark(self, place: LanePlace, entry: Open) -> None:
        marked = msgspec.structs.replace(entry.lane, closing=True)
        seq = await self._replace(place, entry, marked)
        if seq:
            self._marked[place] = seq

    async def _remove(self, place: LanePlace, entry: Open) -> None:
        """The second phase: everything is looked at again, and what does not hold opens the lane."""
        if is_behind(await self._work_info({})):
            self._marked[place] = entry.revision  # not yet: a job may be on its way
            return
        if not await self._is_idle(place):
            await self._reopen(place, entry)
            return
        await api(
            self._nc,
            f"CONSUMER.DELETE.{subjects.WORK}.{place.consumer}",
            timeout_s=self._settings.request_timeout_s,
        )
        if (await self._waiting()).get(subjects.work(*place)):
            await self._reopen(place, entry)
        else:
            await self._delete_entry(place, entry)

    async def _delete_entry(self, place: LanePlace, entry: Open) -> None:
        try:
            await self._bucket.delete(place.key, revision=entry.revision)
            log.info("lane_removed", lane=place.lane, priority=place.priority)
        except VersionConflictError:  # somebody opened it in between
            await self._lanes.make_consumer(entry.lane, place.lane, place.priority)

    async def _reopen(self, place: LanePlace, entry: Open) -> None:
        await self._lanes.make_consumer(entry.lane, place.lane, place.priority)
        if entry.lane.closing:
            opened = msgspec.structs.replace(entry.lane, closing=False)
            await self._replace(place, entry, opened)

    async def _replace(self, place: LanePlace, entry: Open, lane: LaneEntry) -> int:
        """Write after this very entry; the revision, or 0 when somebody else did."""
        try:
            return (await self._bucket.put(place.key, lane, revision=entry.revision)).revision
        except VersionConflictError:
            return 0


async def consumer_names(nc: Client, stream: str, timeout_s: float) -> set[str]:
    """The names of all consumers of a stream."""
    names: set[str] = set()
    while True:
        query = {"offset": len(names)}
        answer = await api(nc, f"CONSUMER.NAMES.{stream}", query, timeout_s=timeout_s, expected=NOTHING)
        page = answer.get("consumers") or []
        names.update(page)
        if not page or len(names) >= answer.get("total", 0):
            return names
