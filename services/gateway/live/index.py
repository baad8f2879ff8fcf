"""What passes by, and who wants it: found by what is asked for, never by asking every subscription."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.encoding.json_value import dumps
from switchyard.events.events import AnyEvent, Archived, Blocked, Scheduled, Submitted, Unreadable
from switchyard.services.broker.reader import Stored
from switchyard.services.gateway.live.cursor import Cursor
from switchyard.services.projector.place import taken_in_ns

if TYPE_CHECKING:
    from switchyard.services.gateway.live.session import Session
    from switchyard.services.gateway.live.subscription import Subscription

RECENT_EVENTS: Final = 4096
RECENT_BYTES: Final = 32 * 1024 * 1024
ANY: Final = "*"  # stands for every tenant in a key; no tenant has this name
WITH_LABELS: Final = frozenset({"submitted", "scheduled", "blocked", "archived"})
KEEPS_THE_ATTEMPT: Final = frozenset({"claim_renewed", "cancel_requested"})

Key = tuple[str, ...]
Pairs = frozenset[tuple[str, str]]
"""Labels: names with values."""


class LiveEvent:
    """An event of the log as it came; decoded and encoded once, when the first reader wants it."""

    def __init__(self, stored: Stored, stream_id: str) -> None:
        # A stranger's message may have fewer tokens; `is_event` says so, and nobody is shown it.
        tokens = stored.subject.split(".", 3)
        self.job_id, self.name = (tokens[1], tokens[2]) if len(tokens) > 2 else ("", "")
        self.seq = stored.seq
        self.size = len(stored.data)
        self.is_last = not stored.pending
        """Whether there was nothing after it when it was read."""
        self.labels: Pairs | None = None
        """Those of its job, once somebody needs them; see `JobLabels`."""
        self._stored = stored
        self._stream_id = stream_id

    @property
    def is_event(self) -> bool:
        """Whether it is an event of a job at all."""
        return subjects.job_of(self._stored.subject) is not None

    @property
    def is_readable(self) -> bool:
        """Whether its content is known."""
        return not isinstance(self.decoded(), Unreadable)

    def decoded(self) -> AnyEvent | Unreadable:
        """What happened."""
        stored = self._stored
        return decode(stored.subject, stored.data, stored.headers)

    def own_labels(self) -> Pairs | None:
        """The job's labels, where they stand in the event: in the first one, and in `archived`."""
        if self.name not in WITH_LABELS:
            return None
        match self.decoded():
            case Submitted(job=spec) | Scheduled(job=spec) | Blocked(job=spec) if spec is not None:
                return frozenset(spec.labels.items())
            case Archived(summary=summary):
                labels = summary.get("labels")
                words = labels.items() if isinstance(labels, dict) else ()
                return frozenset((name, value) for name, value in words if isinstance(value, str))
        return None

    # Headers are read only when a reader makes it necessary: most events have none.

    @cached_property
    def tenant(self) -> str:
        """Whose job it is."""
        return self._stored.headers.get(subjects.H_TENANT, "")

    @cached_property
    def kind(self) -> str:
        """The job's kind."""
        return self._stored.headers.get(subjects.H_KIND, "")

    @cached_property
    def at_ns(self) -> int:
        """When the broker took it in."""
        return taken_in_ns(self._stored)

    @cached_property
    def cursor(self) -> str:
        """Where a reader that has seen it resumes."""
        return str(Cursor(self._stream_id, self.seq, self.at_ns))

    @cached_property
    def fragment(self) -> bytes:
        """The fields of its message that all readers share."""
        return b'"cursor":"%b","event":%b' % (self.cursor.encode(), dumps(self._view()))

    def _view(self) -> dict[str, Any]:
        stored = self._stored
        return event_view(recorded(stored.subject, stored.headers, stored.data, stored.seq))


class Recent:
    """The newest events of the log, without a hole: everything after `floor` up to the head."""

    def __init__(self) -> None:
        self.floor = 0
        self._events: deque[LiveEvent] = deque()
        self._bytes = 0

    def clear(self, floor: int) -> None:
        """Forget everything; the next event is the first one after `floor`."""
        self.floor = floor
        self._events.clear()
        self._bytes = 0

    def append(self, event: LiveEvent) -> None:
        """Add the log's next event; the oldest ones make room."""
        self._events.append(event)
        self._bytes += event.size
        while len(self._events) > RECENT_EVENTS or self._bytes > RECENT_BYTES:
            oldest = self._events.popleft()
            self._bytes -= oldest.size
            self.floor = oldest.seq

    def after(self, seq: int) -> Iterator[LiveEvent]:
        """The events after `seq`, which is not below the floor, oldest first."""
        wanted: list[LiveEvent] = []
        for event in reversed(self._events):
            if event.seq <= seq:
                break
            wanted.append(event)
        return reversed(wanted)

    def at_ns(self, seq: int) -> int:
        """When the broker took in the event of this sequence; 0 when it is not among them."""
        for event in reversed(self._events):
            if event.seq <= seq:
                return event.at_ns if event.seq == seq else 0
        return 0

    def damaged_after(self, job_id: str, seq: int) -> bool:
        """Whether an event of the job that cannot be read came after `seq`."""
        return any(event.job_id == job_id and not event.is_readable for event in self.after(seq))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker publishes about a running attempt: its progress, or a line of its output."""

    fence: int
    attempt: int = 0
    tenant: str = ""
    kind: str = ""
    at: str = ""
    parent: str = ""
    """The job that it is a part of, if it is one."""


class Progress(Report, frozen=True, kw_only=True, dict=True):
    """How far an attempt is."""

    fraction: float | None = None
    stage: str = ""
    message: str = ""
    eta_s: float | None = None

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What readers see of it."""
        return {
            "fraction": self.fraction,
            "stage": self.stage,
            "message": self.message,
            "eta_s": self.eta_s,
            "attempt": self.attempt,
        }

    @cached_property
    def encoded(self) -> bytes:
        """What readers see of it, as JSON."""
        return dumps(self.fields)


class LogLine(Report, frozen=True, kw_only=True):
    """A line of an attempt's output."""

    line: str = ""


class Attempts:
    """Which reports are of a job's newest attempt, and the latest of them, for a limited number of jobs.

    Args:
        jobs: how many jobs are remembered; the ones longest without news are forgotten first.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        # The lowest fence whose reports are still true, and whether the job has ended.
        self._floors: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._latest: OrderedDict[str, Progress] = OrderedDict()
        self.changes = 0
        """How often what is known of progress has changed."""

    def clear(self) -> None:
        """Forget everything: sequences of another log are not comparable."""
        self._floors.clear()
        self._latest.clear()
        self.changes += 1

    def saw(self, job_id: str, name: str, seq: int, *, final: bool) -> None:
        """Learn an event: all but two either start an attempt or end the one before."""
        if name in KEEPS_THE_ATTEMPT or seq <= self._floors.get(job_id, (0, False))[0]:
            return
        _remember(self._floors, job_id, (seq, final), self._jobs)
        latest = self._latest.get(job_id)
        if latest is not None and latest.fence < seq:
            del self._latest[job_id]
            self.changes += 1

    def report(self, job_id: str, progress: Progress) -> bool:
        """Learn a progress; False when it is not of the newest attempt."""
        latest = self._latest.get(job_id)
        if self.stale(job_id, progress.fence) or (latest is not None and progress.fence < latest.fence):
            return False
        _remember(self._latest, job_id, progress, self._jobs)
        self.changes += 1
        return True

    def knows(self, job_id: str) -> bool:
        """Whether an event is remembered that began or ended an attempt of the job."""
        return job_id in self._floors

    def stale(self, job_id: str, fence: int) -> bool:
        """Whether a later event has ended the attempt with this fence."""
        return fence < self._floors.get(job_id, (0, False))[0]

    def ended_after(self, job_id: str, seq: int) -> bool:
        """Whether the job is known to have ended after `seq`."""
        floor, final = self._floors.get(job_id, (0, False))
        return final and floor > seq

    def latest(self, job_id: str) -> Progress | None:
        """The latest progress of the newest attempt."""
        return self._latest.get(job_id)

    def running(self) -> Iterator[tuple[str, Progress]]:
        """The latest progress of every attempt that is known to run, newest first."""
        for job_id, progress in reversed(self._latest.items()):
            if job_id in self._floors:
                yield job_id, progress


def _remember(table: OrderedDict[str, Any], key: str, value: Any, limit: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)


class Index:
    """The subscriptions that have caught up, by what they ask for."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[Subscription, None]] = {}
        self.log_readers = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._by_key)

    def add(self, subscription: Subscription) -> None:
        """From now on the subscription is found."""
        for key in subscription.keys:
            self._by_key.setdefault(key, {})[subscription] = None
        self.log_readers += subscription.request.logs

    def remove(self, subscription: Subscription) -> None:
        """Find it no more; nothing if it was not there."""
        found = False
        for key in subscription.keys:
            entries = self._by_key.get(key, {})
            found |= entries.pop(subscription, True) is None
            if not entries:
                self._by_key.pop(key, None)
        self.log_readers -= found and subscription.request.logs

    def find(self, job_id: str, tenant: str, kind: str, labels: Pairs | None = None) -> list[Subscription]:
        """The subscriptions that a message about this job belongs to, each once.

        Args:
            job_id: the job.
            tenant: whose it is.
            kind: its kind.
            labels: its labels; None where nobody asks for jobs of this tenant by label.
        """
        keys: tuple[Key, ...] = (
            ("job", job_id), ("kind", tenant, kind), ("kind", ANY, kind), ("tenant", tenant), ("all",),
        )  # fmt: skip
        found = [subscription for key in keys for subscription in self._by_key.get(key, ())]
        for pair in labels or ():
            for scope in (tenant, ANY):
                # By one of its labels each is found, once; the others have to hold too.
                entries = self._by_key.get(("label", scope, *pair), ())
                found += [entry for entry in entries if entry.selects(job_id, tenant, kind, labels)]
        return found

    def all(self) -> list[Subscription]:
        """Every subscription, each once."""
        return list({subscription: None for entries in self._by_key.values() for subscription in entries})


def by_session(subscriptions: Iterable[Subscription]) -> list[tuple[Session, list[str]]]:
    """The connections that a message goes to, each once, with the subscriptions that it belongs to."""
    sessions: dict[Session, list[str]] = {}
    for subscription in subscriptions:
        sessions.setdefault(subscription.session, []).append(subscription.id)
    return list(sessions.items())
