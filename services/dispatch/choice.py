"""Which of several lanes of one priority goes next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.dispatch.fair_share import FairShare
from switchyard.services.dispatch.heads import Head
from switchyard.services.dispatch.work import Work


class Source(NamedTuple):
    """A consumer that takers take from."""

    consumer: str
    lane: LaneId
    priority: int
    key: LaneKey
    rank: int | None


@dataclass(slots=True)
class Candidate:
    """A lane that has something, and its head; `work` where the job is in hand already."""

    source: Source
    head: Head
    work: Work | None = None


class Choice:
    """The oldest head goes first; where tenants share fairly, the lane whose turn it is stands for all.

    Args:
        weights: those of the tenants of a kind that shares its workers fairly.
    """

    def __init__(self, weights: Callable[[str], dict[str, int]]) -> None:
        self._fair = FairShare(weights)

    def best(self, lanes: Collection[Candidate]) -> Candidate:
        """The one to take from now."""
        return min(self._standing_for_all(lanes), key=lambda lane: lane.head.seq)

    def _standing_for_all(self, lanes: Collection[Candidate]) -> Iterator[Candidate]:
        shared: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
        for lane in lanes:
            if lane.source.key.tenant:
                shared[lane.source.key.kind][lane.source.key.tenant].append(lane)
            else:
                yield lane
        for kind, tenants in shared.items():
            first = self._fair.order(kind, tenants)[0]
            yield min(tenants[first], key=lambda lane: lane.head.seq)

    def took(self, source: Source) -> None:
        """Count a start for its tenant."""
        if source.key.tenant:
            self._fair.started(source.key.kind, source.key.tenant)


def older_than(lanes: dict[str, Candidate], held: Candidate) -> list[Candidate]:
    """The lanes whose heads go before what is held, as far as is known; sharing tenants take turns."""
    shared = held.source.key.kind if held.source.key.tenant else None
    return [
        lane
        for lane in lanes.values()
        if lane.work is None
        and lane.head.seq < held.head.seq
        and not (lane.source.key.tenant and lane.source.key.kind == shared)
    ]
