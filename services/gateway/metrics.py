"""What a gateway says of itself in Prometheus form; `docs/metrics.md` lists it."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from switchyard.services.telemetry.names import BY_NAME
from switchyard.services.telemetry.part import Telemetry, Value


class Metrics:
    """The counters and timings of the gateway of this process.

    Args:
        telemetry: that of the process.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        part = self._part = telemetry.part("gateway")
        self.appends = part.appends
        self.requests = part.counter("switchyard_http_requests")
        self.request_seconds = part.histogram("switchyard_http_request_seconds")
        self.submit_seconds = part.histogram("switchyard_submit_seconds")
        self._previews = part.counter("switchyard_previews")
        self.bulk_lines = part.counter("switchyard_bulk_lines")
        # The library looks labels up under a lock; each combination is looked up once.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        children = self._children.get((method, route, status))
        if children is None:
            children = self._children[method, route, status] = (
                self.requests.labels(method, route, str(status)),
                self.request_seconds.labels(method, route),
            )
        children[0].inc()
        children[1].observe(seconds)

    def preview(self, outcome: str) -> None:
        """Count a preview that came over REST."""
        self._previews.labels(outcome).inc()

    def show(self, values: Mapping[str, Value]) -> None:
        """Show these from now on."""
        for name, value in values.items():
            self._part.values(name, lambda value=value: value)  # type: ignore[misc]


def tenant_text(counts: Mapping[tuple[str, str], int], states: Iterable[str]) -> bytes:
    """What one tenant may know: its own jobs, and the states of the workers that it sees."""
    registry = CollectorRegistry()
    jobs, workers = (
        Gauge(name, BY_NAME[name].meaning, BY_NAME[name].labels, registry=registry)
        for name in ("switchyard_jobs", "switchyard_workers")
    )
    for (kind, state), count in counts.items():
        jobs.labels(kind, state).set(count)
    for state, count in Counted(states).items():
        workers.labels(state).set(count)
    return generate_latest(registry)
