"""The bucket `lanes`: an entry for each lane and priority in use."""

from __future__ import annotations

from typing import Final, NamedTuple

from switchyard.events import subjects
from switchyard.events.errors import InvalidError
from switchyard.events.lane import LaneEntry
from switchyard.events.requirements.requirement import canonical, canonical_prefers
from switchyard.events.values import MAX_PRIORITY
from switchyard.services.broker.bucket import Form, Key, json_values


class LanePlace(NamedTuple):
    """A lane's name and one of its priorities."""

    lane: str
    priority: int

    @property
    def key(self) -> Key:
        """Of its entry."""
        return self.lane, str(self.priority)

    @property
    def consumer(self) -> str:
        """The durable consumer that gives its jobs out."""
        return subjects.lane_consumer(*self)


def place_of(key: Key) -> LanePlace:
    """The place that an entry is of."""
    return LanePlace(key[0], int(key[1]))


def _is_place(key: Key) -> None:
    if not subjects.is_name(key[0]):
        raise ValueError("the name of a lane was expected")
    place = place_of(key)
    if place.key != key or not 0 <= place.priority <= MAX_PRIORITY:
        raise ValueError(f"a priority of 0 to {MAX_PRIORITY} was expected")


def _can_be_matched(_key: Key, entry: LaneEntry) -> None:
    try:
        canonical(entry.requires)
        canonical_prefers(entry.prefers)
    except InvalidError as error:
        raise ValueError(error.message) from None


LANES: Final = Form(
    name=subjects.BUCKET_LANES, parts=("lane", "priority"),
    values=json_values(LaneEntry, order="deterministic"), check=_is_place, belongs=_can_be_matched,
)  # fmt: skip
