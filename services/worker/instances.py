"""Which of a worker's connectors runs a job: one that fits it and has room, the least loaded of the best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import matches, score
from switchyard.services.connectors.protocol import Connector
from switchyard.services.connectors.registry import derives
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.worker.slots import Slots


class Instances:
    """The connectors of a worker.

    Args:
        connectors: each with an id of its own; there may be several of one kind.
        slots: those of the worker, counted by the ids.
        record: what the worker declares now.

    Raises:
        ValueError: two have the same id.
    """

    def __init__(
        self, connectors: Iterable[Connector], slots: Slots, record: Callable[[], WorkerRecord]
    ) -> None:
        self._by_id: dict[str, Connector] = {}
        self._by_kind: dict[str, list[Connector]] = defaultdict(list)
        for connector in connectors:
            if connector.id in self._by_id:
                raise ValueError(f"two connectors of a worker have the id {connector.id!r}")
            self._by_id[connector.id] = connector
            self._by_kind[connector.kind].append(connector)
        self._slots = slots
        self._record = record

    def __iter__(self) -> Iterator[Connector]:
        """All of them, as they were given."""
        return iter(self._by_id.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that they run."""
        return tuple(sorted(self._by_kind))

    def __getitem__(self, instance: str) -> Connector:
        """The one of an id; KeyError if there is none."""
        return self._by_id[instance]

    def room(self, lane: LaneKey) -> int:
        """How many more attempts of a lane's jobs there may be, the worker's own slots aside."""
        return sum(self._slots.room(connector.id) for connector in self._fitting(lane))

    def choose(self, lane: LaneKey, times: int = 1) -> Connector | None:
        """The connector for a job of a lane: of those with room what it prefers, then the least loaded.

        Args:
            lane: that of the job.
            times: how often it was delivered. A job may need more than its lane says, so one that may have
                been handed back for that meets another one each time.
        """
        free = [connector for connector in self._fitting(lane) if self._slots.room(connector.id)]
        free.sort(key=lambda one: (self._rank(one, lane), self._slots.load(one.id)))
        turn = times - 1 if derives(lane.kind) else 0
        return free[turn % len(free)] if free else None

    def _fitting(self, lane: LaneKey) -> list[Connector]:
        found = self._by_kind.get(lane.kind, [])
        if len(found) < 2 or not lane.requires:
            return found  # of a lone one the dispatcher has found out
        return [one for one in found if matches(lane.requires, self._record().only(one.id).capabilities)]

    def _rank(self, connector: Connector, lane: LaneKey) -> int:
        if not lane.prefers or len(self._by_kind[lane.kind]) < 2:
            return 0
        return score(lane.prefers, self._record().only(connector.id).capabilities)
