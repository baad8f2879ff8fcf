"""What workers were seen to lack when a job was handed to them whose lane does not say what it needs."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from switchyard.events.lane import LaneKey
from switchyard.services.connectors.supply import MOST_FILES, MOST_LACKING, Lack
from switchyard.services.dispatch.models.prospects import abilities, missing_of, offer_of
from switchyard.services.records.workers import WorkerRecord

LASTS_S: Final = 120.0
"""How long it counts; a job that waits on is handed to a worker twice a minute at least."""
MOST: Final = 1_000


class Lacking:
    """Remembers it for a while."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str, tuple[tuple[str, str], ...]], float] = OrderedDict()

    def note(self, record: WorkerRecord, demand: LaneKey, tenant: str) -> None:
        """A worker was handed a job that it does not fit; what it lacks counts if that is files alone.

        Args:
            record: that of the worker.
            demand: all that the job needs of a worker.
            tenant: whose job it is.
        """
        for _, found in abilities(record, demand.kind):
            if offer_of(demand.kind, found) is None:
                continue
            files = missing_of(demand.kind, demand.requires, found)
            if files and len(files) <= MOST_FILES:
                key = record.id, demand.kind, tenant, files
                self._seen.pop(key, None)
                self._seen[key] = time.monotonic()
        while len(self._seen) > MOST:
            self._seen.popitem(last=False)

    def of(self, worker: str) -> list[Lack]:
        """What a worker was seen to lack of late, the newest last."""
        now = time.monotonic()
        for key in [key for key, at in self._seen.items() if now - at > LASTS_S]:
            del self._seen[key]
        found = [Lack(kind, tenant, list(files)) for who, kind, tenant, files in self._seen if who == worker]
        return found[-MOST_LACKING:]
