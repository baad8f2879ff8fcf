"""What a pusher says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from nats.aio.client import Client

from switchyard.services import clock
from switchyard.services.pusher.fleet import Fleet
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Check
from switchyard.services.records.servers.store import Servers
from switchyard.services.settings import Settings
from switchyard.services.telemetry.checks import common
from switchyard.services.telemetry.part import Checks, Part


class Observer:
    """Shows checks and servers, and answers for the pusher's health.

    Args:
        part: the pusher's.
        nc: its connection.
        servers: the registry.
        settings: after how long a server is stale.
        fleet: what is under way.
        started: whether all that it needs to know is known.
    """

    def __init__(
        self, part: Part, nc: Client, servers: Servers, settings: Settings, fleet: Fleet,
        started: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._servers = servers
        self._settings = settings
        self._made = part.counter("switchyard_server_checks")
        self._took = part.histogram("switchyard_server_check_seconds")
        self._pushed = part.counter("switchyard_pushes")
        self._push_took = part.histogram("switchyard_push_seconds")
        part.values("switchyard_servers", self._states)
        part.values("switchyard_pushes_running", lambda: {(): float(fleet.running)})

        async def checks() -> Checks:
            return common(nc) | {"started": {"ok": started()}}

        part.checks = checks

    def checked(self, check: Check) -> None:
        """Count a check."""
        self._made.labels(check.outcome.value).inc()
        self._took.observe(check.latency_s)

    def pushed(self, word: str, took_s: float) -> None:
        """Count a push."""
        self._pushed.labels(word).inc()
        self._push_took.observe(took_s)

    def _states(self) -> dict[tuple[str, ...], float]:
        """Servers by what is shown of them."""
        now, stale_s = clock.now(), self._settings.server_stale_s
        counts: Counter[tuple[str, ...]] = Counter()
        for server, _, state in self._servers.all():
            if not server.enabled:
                counts["disabled",] += 1
            elif server.maintenance:
                counts["maintenance",] += 1
            else:
                counts[condition.shown(server, state, now, stale_s),] += 1
        return {labels: float(count) for labels, count in counts.items()}
