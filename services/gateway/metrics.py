"""What an operator watches, in Prometheus form; `docs/api.md` lists it."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from switchyard.services import clock
from switchyard.services.event_store import EventStore
from switchyard.services.records.room import Fill

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every one, which nobody reads

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """The counters and timings of one gateway process, in a registry of its own."""

    def __init__(self, store: EventStore) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "switchyard_http_requests", "Requests answered", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "switchyard_http_request_seconds", "Time to answer", ["method", "route"],
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.submit_seconds = Histogram(
            "switchyard_submit_seconds", "Time from a submission's body to its acknowledged event",
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.appended = Counter(
            "switchyard_events_appended", "Events that this gateway wrote", ["type"], registry=self.registry
        )
        self.bulk_lines = Counter(
            "switchyard_bulk_lines", "Lines of bulk submissions answered", ["status"], registry=self.registry
        )
        self.projection_lag = Gauge(
            "switchyard_projection_lag_events", "Events that the read model is behind the log",
            registry=self.registry,
        )  # fmt: skip
        self.jobs, self.workers = _by_state(self.registry)
        self.stream_bytes = Gauge(
            "switchyard_stream_bytes", "Bytes in a stream", ["stream"], registry=self.registry
        )
        self.stream_limit = Gauge(
            "switchyard_stream_limit_bytes",
            "Bytes that a stream may hold",
            ["stream"],
            registry=self.registry,
        )
        self.quarantined = Gauge(
            "switchyard_quarantined_messages", "Messages that no reader could read", ["stream"],
            registry=self.registry,
        )  # fmt: skip
        self.lost_slots = Gauge(
            "switchyard_lost_slots", "Slots of live workers that hold code which outlived its attempt",
            registry=self.registry,
        )  # fmt: skip
        self.unreadable_workers = Gauge(
            "switchyard_unreadable_workers", "Records of workers that cannot be read", registry=self.registry
        )
        Gauge(
            "switchyard_clock_offset_seconds", "Seconds that this host's clock is ahead of the broker's",
            registry=self.registry,
        ).set_function(clock.CLOCK.offset_s)  # fmt: skip
        self.live_connections = Gauge(
            "switchyard_live_connections", "Open WebSockets and event streams", registry=self.registry
        )
        self.registry.register(_Conflicts(store))
        ProcessCollector(registry=self.registry)
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

    def show_jobs(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set the jobs by kind and state."""
        _show_jobs(self.jobs, counts)

    def show_quarantined(self, counts: Mapping[str, int]) -> None:
        """Set the messages that are set aside by stream."""
        self.quarantined.clear()
        for stream, count in counts.items():
            self.quarantined.labels(stream).set(count)

    def show_fills(self, fills: Iterable[Fill]) -> None:
        """Set how full each stream is; one without a limit has none here."""
        for fill in fills:
            self.stream_bytes.labels(fill.stream).set(fill.used_bytes)
            if fill.most_bytes > 0:
                self.stream_limit.labels(fill.stream).set(fill.most_bytes)

    def show_workers(self, states: Iterable[str]) -> None:
        """Set the live workers by state."""
        _show_workers(self.workers, states)

    def text(self) -> bytes:
        """All of them in the text format 0.0.4."""
        return generate_latest(self.registry)


def tenant_text(counts: Mapping[tuple[str, str], int], states: Iterable[str]) -> bytes:
    """What one tenant may know: its own jobs, and the states of the workers that it sees."""
    registry = CollectorRegistry()
    jobs, workers = _by_state(registry)
    _show_jobs(jobs, counts)
    _show_workers(workers, states)
    return generate_latest(registry)


def _by_state(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    jobs = Gauge("switchyard_jobs", "Jobs in the read model", ["kind", "state"], registry=registry)
    return jobs, Gauge("switchyard_workers", "Live workers", ["state"], registry=registry)


def _show_jobs(gauge: Gauge, counts: Mapping[tuple[str, str], int]) -> None:
    gauge.clear()
    for (kind, state), count in counts.items():
        gauge.labels(kind, state).set(count)


def _show_workers(gauge: Gauge, states: Iterable[str]) -> None:
    gauge.clear()
    for state, count in Counted(states).items():
        gauge.labels(state).set(count)


class _Conflicts(Collector):
    def __init__(self, store: EventStore) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "switchyard_append_conflicts", "Appends decided again because another writer was first",
            value=self._store.conflicts,
        )  # fmt: skip
