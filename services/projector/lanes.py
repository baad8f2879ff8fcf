"""What waits in the lanes, by kind: sums over as many consumers as there are lanes and priorities."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services.broker.bucket import Bucket, Mirror
from switchyard.services.broker.jetstream import consumers_of
from switchyard.services.records.lane_entries import LANES, place_of

LOOK_S: Final = 10.0
"""8,000 consumers take 32 answers of the broker: they are not asked for with every scrape."""


class Standing(NamedTuple):
    """The lanes of a kind.

    Args:
        ahead: messages that no worker was handed.
        unacknowledged: messages that a worker was handed and has not answered.
    """

    ahead: int
    unacknowledged: int


class LaneWatch:
    """Knows which kind each lane is of, and asks the broker how its consumer stands.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._lanes = Mirror(Bucket(nc, LANES, timeout_s=timeout_s))
        self._found: dict[str, Standing] = {}
        self._looked_at = -LOOK_S

    async def run(self) -> None:
        """Follow the lanes until cancelled."""
        await self._lanes.run()

    @property
    def in_use(self) -> int:
        """How many lanes and priorities there are."""
        return len(self._lanes.entries)

    async def by_kind(self) -> dict[str, Standing]:
        """How the lanes of each kind stand, at most `LOOK_S` ago; nothing before they are known.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if not self._lanes.synced.is_set() or time.monotonic() - self._looked_at < LOOK_S:
            return self._found
        self._looked_at = time.monotonic()
        kinds = {
            place_of(key).consumer: entry.value.kind
            for key, entry in self._lanes.entries.items()
            if entry.value is not None
        }
        ahead: Counter[str] = Counter()
        unacknowledged: Counter[str] = Counter()
        for info in await consumers_of(self._nc, subjects.WORK, timeout_s=self._timeout_s):
            kind = kinds.get(info["name"])
            if kind is not None:
                ahead[kind] += info["num_pending"]
                unacknowledged[kind] += info["num_ack_pending"]
        self._found = {kind: Standing(ahead[kind], unacknowledged[kind]) for kind in set(kinds.values())}
        return self._found
