"""Which lanes fit which claimers: the bucket `lanes`, matched once for all claimers that are alike."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.records.lane_entries import LanePlace
from switchyard.services.records.lanes import is_ranked
from switchyard.services.records.workers import WorkerRecord

PROFILES: Final = 256


class Source(NamedTuple):
    """A consumer that a claimer may take from."""

    consumer: str
    lane: LaneId
    priority: int
    key: LaneKey
    rank: int | None


class Watcher(Protocol):
    """A claim under way."""

    def lane_changed(self, consumer: str) -> None:
        """A consumer was made, made again, resumed or removed."""


class Profile:
    """Claimers of the same kinds, capabilities and tenant, and the lanes that fit them."""

    def __init__(self, record: WorkerRecord) -> None:
        self.record = record
        self.sources: dict[int, dict[str, Source]] = defaultdict(dict)
        self.watchers: set[Watcher] = set()

    def match(self, consumer: str, lane: LaneId, priority: int, key: LaneKey) -> None:
        """Take the lane in, if it fits."""
        if self.record.fits(key):
            rank = self.record.rank(key) if is_ranked(key) else None
            self.sources[priority][consumer] = Source(consumer, lane, priority, key, rank)


class LaneBoard:
    """Keeps profiles current; the least used one nobody waits under is forgotten first."""

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[LaneId, int, LaneKey]] = {}
        self._profiles: OrderedDict[bytes, Profile] = OrderedDict()

    def profile(self, record: WorkerRecord) -> Profile:
        """The profile of a claimer."""
        parts: tuple[Any, ...] = (sorted(record.kinds), record.capabilities, record.tenant)
        key = msgspec.json.encode(parts, order="sorted")
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = Profile(record)
            for consumer, (lane, priority, lane_key) in self._lanes.items():
                profile.match(consumer, lane, priority, lane_key)
            self._forget()
        self._profiles.move_to_end(key)
        return profile

    def _forget(self) -> None:
        idle = [key for key, profile in self._profiles.items() if not profile.watchers]
        for key in idle[: max(0, len(self._profiles) - PROFILES)]:
            del self._profiles[key]

    def learn(self, place: LanePlace, key: LaneKey | None) -> str:
        """Take in what the bucket says of a lane; the consumer that it is about."""
        consumer, (lane, priority) = place.consumer, place
        if key is None:
            self._lanes.pop(consumer, None)
        else:
            self._lanes[consumer] = lane, priority, key
        for profile in self._profiles.values():
            profile.sources[priority].pop(consumer, None)
            if key is not None:
                profile.match(consumer, LaneId(lane), priority, key)
        return consumer

    def notify(self, consumer: str) -> None:
        """Notify the claims under way that take from a consumer that it has changed."""
        for profile in list(self._profiles.values()):
            if not any(consumer in sources for sources in profile.sources.values()):
                continue
            for watcher in list(profile.watchers):
                watcher.lane_changed(consumer)

    def watchers(self) -> list[Watcher]:
        """All claims under way."""
        return [watcher for profile in self._profiles.values() for watcher in profile.watchers]
