"""What is made of each try to append: counts, times, a log line and the trace it belongs to.

The event store makes one record of every try, and this is the only place that looks at it. It runs once for
every event of the system, so it counts in plain tables; the metrics are made of them when somebody looks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from switchyard.events.events import (
    NAMES,
    AnyEvent,
    Archived,
    Cancelled,
    CancelRequested,
    Claimed,
    ClaimRenewed,
    Dead,
    Expired,
    Failed,
    Leased,
    Parted,
    Proposed,
    Queued,
    Scheduled,
    Succeeded,
)
from switchyard.events.job import Job
from switchyard.events.rules.ends import loss
from switchyard.services.log import is_debug
from switchyard.services.telemetry.append import STARTS, Append, Outcome
from switchyard.services.telemetry.bounded import Bounded
from switchyard.services.telemetry.durations import Durations
from switchyard.services.telemetry.names import BY_NAME

log = structlog.get_logger()

LOST: Final = frozenset({"lease_lost", "claim_expired", "poison"})
TIMED_OUT: Final = "timeout"
WARN_S: Final = 60.0


_ONGOING: Final = frozenset({Leased, Claimed, ClaimRenewed, CancelRequested})
_LINES: Final = {
    Outcome.RECORDED: "event_recorded",
    Outcome.IGNORED: "command_ignored",
    Outcome.REJECTED: "command_rejected",
    Outcome.CONFLICT: "append_conflicted",
    Outcome.UNAVAILABLE: "append_unavailable",
    Outcome.UNKNOWN: "append_unknown",
}


class Appends(Collector):
    """Counts, times and logs appends; the log lines are of level debug.

    Args:
        names: how many kinds, and how many tenants, labels name.
    """

    def __init__(self, *, names: int) -> None:
        self._kinds = Bounded(names)
        self._tenants = Bounded(names)
        self._events: Counter[tuple[type, str]] = Counter()
        self._tenant_events: Counter[tuple[type, str]] = Counter()
        self._tries: Counter[tuple[str, Outcome]] = Counter()
        self._queued: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._append_s = Durations("switchyard_append_seconds")
        self._wait_s = Durations("switchyard_wait_seconds")
        self._run_s = Durations("switchyard_run_seconds")
        self._warned_at = -WARN_S

    def __call__(self, append: Append) -> None:
        """Take one in; whatever is wrong with that, the append is what it is."""
        try:
            self._tries[append.command, append.outcome] += 1
            if append.outcome is Outcome.RECORDED and append.event is not None:
                self._recorded(append.job, append.event, append.seconds)
            if is_debug():
                log.debug(_LINES[append.outcome], **append.fields())
        except Exception:
            if time.monotonic() - self._warned_at >= WARN_S:
                self._warned_at = time.monotonic()
                log.exception("append_not_observed", command=append.command)

    def _recorded(self, job: Job, event: AnyEvent, seconds: float) -> None:
        event_type = type(event)
        spec: Any = job if job.kind else getattr(event, "job", None) or job
        kind = self._kinds.of(spec.kind)
        self._events[event_type, kind] += 1
        self._tenant_events[event_type, self._tenants.of(spec.tenant)] += 1
        self._append_s.add((), seconds)
        if event_type in STARTS:
            if job.queued_at is not None:
                self._wait_s.add((kind,), (event.at - job.queued_at).total_seconds())
        elif job.lease is not None and event_type not in _ONGOING:
            self._ended[kind, _end_of(event)] += 1
            if job.started_at is not None:
                self._run_s.add((kind,), (event.at - job.started_at).total_seconds())
        if isinstance(event, Queued):
            self._queued[event.cause] += 1
        elif isinstance(event, Dead):
            self._dead[event.reason] += 1

    def collect(self) -> Iterator[Metric]:
        """The metrics; may be called from another thread, for which each table is copied in one step."""
        events = dict(self._events)
        by_name = {(NAMES[event_type], kind): count for (event_type, kind), count in events.items()}
        yield _counter("switchyard_events_appended", by_name)
        by_tenant = dict(self._tenant_events).items()
        yield _counter(
            "switchyard_tenant_events", {(NAMES[made], tenant): count for (made, tenant), count in by_tenant}
        )
        tries = dict(self._tries).items()
        yield _counter(
            "switchyard_appends", {(command, str(what)): count for (command, what), count in tries}
        )
        yield _counter(
            "switchyard_requeued", {(cause,): count for cause, count in dict(self._queued).items()}
        )
        started: Counter[tuple[str, ...]] = Counter()
        retries: Counter[tuple[str, ...]] = Counter()
        for (event_type, kind), count in events.items():
            if event_type in STARTS:
                started[kind,] += count
            elif event_type is Failed:
                retries[kind,] += count
        yield _counter("switchyard_attempts_started", started)
        yield _counter("switchyard_attempts_ended", dict(self._ended))
        yield _counter("switchyard_retries", retries)
        yield _counter("switchyard_jobs_dead", {(why,): count for why, count in dict(self._dead).items()})
        yield self._append_s.family()
        yield self._wait_s.family()
        yield self._run_s.family()


def _end_of(event: AnyEvent) -> str:
    """How an attempt ended that this event ends."""
    match event:
        case Succeeded():
            return "succeeded"
        case Proposed():
            return "proposed"
        case Parted():
            return "parted"
        case Dead() if loss(event):
            return "lost"
        case Failed(error=error) | Dead(error=error):
            return "timed_out" if error.code == TIMED_OUT else "failed"
        case Queued(cause=cause):
            return "lost" if cause in LOST else "released"
        case Scheduled():
            return "released"
        case Cancelled(cause=cause) | Expired(cause=cause):
            return "lost" if cause in LOST else "stopped"
        case Archived():
            return "discarded"
        case _:  # a repair, which gives the job another state
            return "discarded"


def _counter(name: str, counts: Any) -> CounterMetricFamily:
    spec = BY_NAME[name]
    family = CounterMetricFamily(name, spec.meaning, labels=spec.labels)
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family
