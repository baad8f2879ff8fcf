"""A server as one pusher sees it: how much it may be given now, and why no more."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Final

from switchyard.services.pusher import breaker
from switchyard.services.pusher.breaker import Breaker
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.store import Found

FIRST_REST_S: Final = 1.0
LONGEST_REST_S: Final = 30.0
"""How long a server rests that is full and does not say for how long; each time twice as long as before."""

LACKING_S: Final = 15.0


class Held(StrEnum):
    """Why a server is given nothing."""

    DISABLED = "disabled"
    MAINTENANCE = "maintenance"
    NOT_WELL = "not_well"
    BREAKER = "breaker_open"
    RESTING = "resting"
    FULL = "full"


class Member:
    """One server.

    Args:
        found: the server and its state, as known.
        stale_s: after how long without heartbeat it counts as silent.
    """

    def __init__(self, found: Found, stale_s: float) -> None:
        self.found = found
        self.breaker: Breaker = breaker.NEW
        self.running = 0
        """Pushes of this pusher that are under way."""
        self.left = 0
        """Tasks that the server carries on by itself, whoever pushed them."""
        self.free = 0
        """How many more it may be given, as of the last look."""
        self._stale_s = stale_s
        self._rests_until_s = self._lacks_until_s = 0.0
        self._rests = 0

    @property
    def load(self) -> float:
        """How much of what it takes it has, for comparison with others."""
        server = self.found.server
        return (self.running + self.left + 1) / (server.slots * server.weight)

    def held(self, now: datetime, now_s: float) -> Held | None:
        """Why it is given nothing now; None where it may be given something."""
        server, state = self.found.server, self.found.state
        if not server.enabled:
            return Held.DISABLED
        if server.maintenance:
            return Held.MAINTENANCE
        if not condition.takes_jobs(server, state, now, self._stale_s):
            return Held.NOT_WELL
        if not breaker.may_send(self.breaker, now_s):
            return Held.BREAKER
        if now_s < self._rests_until_s or condition.held_now(condition.of(server, state), now) is not None:
            return Held.RESTING
        is_full = now_s < self._lacks_until_s or self._room(now_s) <= 0
        return Held.FULL if is_full else None

    def look(self, now: datetime, now_s: float) -> int:
        """How many more it may be given now; noted in `free`."""
        self.breaker = breaker.seen(self.breaker, now_s)
        self.free = 0 if self.held(now, now_s) is not None else self._room(now_s)
        return self.free

    def _room(self, now_s: float) -> int:
        slots = self.found.server.slots
        if breaker.mode_at(self.breaker, now_s) is breaker.Mode.HALF_OPEN:
            return 1
        most = math.ceil(slots * breaker.share(self.breaker, now_s))
        return most - self.running - self.left

    def held_s(self, now_s: float) -> tuple[str, float] | None:
        """Why all pushers should give it nothing, and for how many seconds."""
        if breaker.mode_at(self.breaker, now_s) is breaker.Mode.OPEN:
            return condition.BREAKER, self.breaker.until_s - now_s
        left_s = self._rests_until_s - now_s
        return (condition.RESTING, left_s) if left_s > 0 else None

    # --- What happens to it

    def sent(self, now_s: float) -> None:
        """It is sent a task."""
        self.breaker = breaker.sent(self.breaker, now_s)

    def took(self, now_s: float) -> None:
        """It took a task as it should."""
        self.breaker = breaker.passed(self.breaker, now_s)
        self._rests = 0

    def failed(self, now_s: float) -> None:
        """It failed in a way that is its own."""
        self.breaker = breaker.failed(self.breaker, now_s)

    def given_up(self) -> None:
        """A push ended in a way that says nothing of it."""
        self.breaker = breaker.given_up(self.breaker)

    def lacks(self, now_s: float) -> None:
        """All its slots were taken: it is asked again when one comes, or after a while without."""
        self._lacks_until_s = now_s + LACKING_S

    def lacks_no_more(self) -> None:
        """One of its slots has come."""
        self._lacks_until_s = 0.0

    def rest(self, now_s: float, rest_s: float | None) -> None:
        """It is full, and says for how long, or does not."""
        if rest_s is None:
            rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self._rests, 16))
            self._rests += 1
        self._rests_until_s = max(self._rests_until_s, now_s + rest_s)
        self.given_up()
