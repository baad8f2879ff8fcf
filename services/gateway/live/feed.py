"""The live feed: one reading of the log per gateway process, shared by everyone who waits for something.

It hands each event to the subscriptions that ask for it, wakes requests that wait for a job's end, and
knows the latest progress of running jobs. Sockets and server-sent events stand on `live_session.Session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, NamedTuple

import nats.errors
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.part_reader import read_few
from switchyard.services.broker.reader import Stored, follow_batches, last_message
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.live.cursor import Cursor
from switchyard.services.gateway.live.folded.parts import STAGE, PartsProgress, Sum
from switchyard.services.gateway.live.index import (
    Attempts,
    Index,
    LiveEvent,
    Progress,
    Recent,
    by_session,
)
from switchyard.services.gateway.live.labels import JobLabels
from switchyard.services.gateway.live.lines import ENDS, LogLines
from switchyard.services.gateway.live.reports import Reports
from switchyard.services.gateway.live.subscription import Subscription
from switchyard.services.projector.place import is_there
from switchyard.services.settings import Settings

log = structlog.get_logger()

WARM_EVENTS: Final = 1024
LOOK_S: Final = 0.25
CHECK_S: Final = 5.0
LOG_READS: Final = 4
LAG_TRIES: Final = 5
LAG_PAUSE_S: Final = 0.02
DOZE_S: Final = 60.0


class LogState(NamedTuple):
    """Which log it is and what it holds."""

    stream_id: str
    first_seq: int
    last_seq: int


class Sums:
    """Hands out how far the parts of jobs are, as the progress of these.

    Args:
        feed: that of the process.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed

    def latest(self, job_id: str) -> Progress | None:
        """What an attempt that runs has reported last."""
        return self._feed.attempts.latest(job_id)

    def has_readers(self) -> bool:
        """Whether anybody listens."""
        return bool(self._feed.index)

    def head(self) -> int:
        """The last event that has come."""
        return self._feed.head

    def take(self, job_id: str, found: Sum, *, kept: bool) -> None:
        """Hand out a sum; or keep it for who has just come."""
        progress = Progress(
            fence=found.fence, attempt=found.attempt, tenant=found.tenant, kind=found.kind,
            fraction=found.fraction, stage=STAGE, message=found.message,
        )  # fmt: skip
        if kept:
            self._feed.attempts.report(job_id, progress)
        else:
            self._feed.reports.take(job_id, progress)


class LiveFeed:
    """What happens now, for one gateway process.

    It reads the log only while somebody needs it, and for a minute after: reading every event costs a gateway
    that takes jobs in by the thousand a third of its time.

    Args:
        nc: an open connection that reconnects for ever.
        settings: limits and timeouts.
        read_model: that of this host.
        freshness: waits for it.
    """

    def __init__(self, nc: Client, settings: Settings, read_model: ReadModel, freshness: Freshness) -> None:
        self.nc = nc
        self.settings = settings
        self.stream_id = ""
        self.head = 0
        self.generation = 0
        self.ready = asyncio.Event()  # cleared while nobody needs the feed
        self.index = Index()
        self.recent = Recent()
        self.attempts = Attempts(settings.progress_jobs)
        self.reports = Reports(self)
        self.lines = LogLines(self)
        self.parts = PartsProgress(Sums(self), read_model, freshness)
        self.labels = JobLabels(self)
        self.log_reads = asyncio.Semaphore(LOG_READS)
        self.slow_readers = 0
        self._first = 0
        self._reset_reason = ""
        self._warm = 0
        self._interrupted = asyncio.Event()
        self._needs = 0
        self._needed = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._waiting = 0

    # --- What is asked of it

    @contextlib.contextmanager
    def needed(self) -> Iterator[None]:
        """Keep the feed reading; it is current once `ready` is set."""
        self._needs += 1
        self._needed.set()
        try:
            yield
        finally:
            self._needs -= 1
            if not self._needs:
                self._needed.clear()

    @property
    def is_needed(self) -> bool:
        """Whether somebody keeps it reading."""
        return self._needs > 0

    def cursor(self, seq: int) -> str:
        """The cursor of a sequence in this log, with its event's mark where that is a recent one."""
        return str(Cursor(self.stream_id, seq, self.recent.at_ns(seq)))

    async def holds(self, seq: int, at_ns: int) -> bool:
        """Whether the log holds, or has held, the event that the broker took in at this time as `seq`.

        Raises:
            UnavailableError: the broker does not answer.
        """
        timeout_s = self.settings.request_timeout_s
        return not at_ns or await is_there(self.nc, subjects.JOBS, seq, at_ns, timeout_s=timeout_s)

    def progress(self, job_id: str) -> dict[str, Any] | None:
        """The latest progress of the job's newest attempt: fraction, stage, message, eta_s and attempt."""
        latest = self.attempts.latest(job_id)
        return None if latest is None else latest.fields

    async def wait_final(self, job_id: str, after_seq: int, timeout_s: float) -> bool:
        """Wait until the job has ended or is damaged; False when it has not within the time.

        Args:
            job_id: the job.
            after_seq: the sequence of the job's last event as the caller has read it; an end that came later
                counts even when it passed before this call.
            timeout_s: seconds to wait.

        Raises:
            UnavailableError: too many requests wait already.
        """
        if self._waiting >= self.settings.sockets:
            raise UnavailableError(f"{self._waiting} requests wait already")
        self._waiting += 1
        try:
            with self.needed():
                async with asyncio.timeout(timeout_s):
                    await self._until_ended(job_id, after_seq)
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waiting -= 1

    async def _until_ended(self, job_id: str, after_seq: int) -> None:
        if not self.ready.is_set():
            await self.ready.wait()
            await self.tenant_of(job_id)  # what happened to the job while the feed did not read
        if self.attempts.ended_after(job_id, after_seq) or self.recent.damaged_after(job_id, after_seq):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(future)
        try:
            await future
        finally:
            waiters = self._waiters.get(job_id, set())
            waiters.discard(future)
            if not waiters:
                self._waiters.pop(job_id, None)

    async def tenant_of(self, job_id: str) -> str | None:
        """Whose job it is; None for an unknown one.

        Raises:
            UnavailableError: the broker does not answer.
        """
        # A replica that lags does not know a new job yet.
        for _ in range(LAG_TRIES if self.settings.replicas > 1 else 1):
            last = await last_message(
                self.nc,
                subjects.JOBS,
                subjects.job_filter(JobId(job_id)),
                timeout_s=self.settings.request_timeout_s,
            )
            if last is not None:
                event = LiveEvent(last, self.stream_id)
                final = event.name in ENDS or not event.is_readable
                self.attempts.saw(job_id, event.name, event.seq, final=final)
                return event.tenant if event.is_readable else await self._first_tenant(job_id)
            await asyncio.sleep(LAG_PAUSE_S)
        return None

    async def _first_tenant(self, job_id: str) -> str | None:
        """Whose job it is by its first event: one that cannot be read may be anybody's doing."""
        first = await read_few(
            self.nc, subjects.JOBS, subjects.job_filter(JobId(job_id)),
            limit=1, timeout_s=self.settings.request_timeout_s,
        )  # fmt: skip
        return LiveEvent(first[0], self.stream_id).tenant if first else None

    async def log_state(self, stream: str = subjects.JOBS) -> LogState:
        """What the broker says of a stream.

        Raises:
            UnavailableError: it does not answer, or there is no such stream.
        """
        info = await api(self.nc, f"STREAM.INFO.{stream}", timeout_s=self.settings.request_timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {stream}: {info['error'].get('description')}")
        identity = hashlib.sha256(info["created"].encode()).hexdigest()[:12]
        return LogState(identity, max(1, info["state"]["first_seq"]), info["state"]["last_seq"])

    def resync(self, subscription: Subscription) -> None:
        """Take a subscription of the log as it was to the head of the log as it is."""
        subscription.position, subscription.generation = self.head, self.generation
        subscription.session.resync(subscription, self._reset_reason, first=self._first)

    # --- Reading

    async def run(self) -> None:
        """Read until cancelled, through broker outages, without gap or duplicate."""
        # Heard live and not from its stream: that is kept in memory and does not survive its broker.
        reports = await listen(self.nc, subjects.ALL_PROGRESS, self.reports.heard)
        try:
            while True:
                await self._read_until_interrupted()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await unlisten(self.nc, reports)

    async def _read_until_interrupted(self) -> None:
        if not self._needed.is_set():
            self._forget()
            await self._needed.wait()
        reconnects = self.nc.stats["reconnects"]
        self._interrupted.clear()
        with contextlib.suppress(UnavailableError):  # the lines of output may still be away
            await self.lines.pin()
        try:
            self._take_up(
                await self.log_state(), is_ours=await self.holds(self.head, self.recent.at_ns(self.head))
            )
        except UnavailableError as error:
            log.debug("live_feed_waiting", error=str(error))
            await asyncio.sleep(LOOK_S)
            return
        async with asyncio.TaskGroup() as tasks:
            reports = (self.reports.latest(), self.reports.settle(), self.reports.previews.follow())
            others = (self._events(), self.lines.follow(), self.parts.run())
            readers = [tasks.create_task(part) for part in (*others, *reports)]
            await self._until_interrupted(reconnects)
            for reader in readers:
                reader.cancel()

    def _forget(self) -> None:
        """Be as if just started: nobody is there who would miss anything."""
        self.ready.clear()
        self.stream_id = ""
        self.lines.clear()
        self.labels.clear()
        self.recent.clear(self.head)
        self.attempts.clear()
        self.reports.clear()
        self.parts.clear()

    def _take_up(self, state: LogState, *, is_ours: bool) -> None:
        """Begin, continue after the head, or, when the log is not what it was, restart and notify all."""
        if self.stream_id and (
            state.stream_id != self.stream_id or state.last_seq < self.head or not is_ours
        ):
            ahead = "ahead" if state.last_seq < self.head else "replaced"
            self._reset_reason = "other_log" if state.stream_id != self.stream_id else ahead
            self.generation += 1
            self.stream_id, self.head, self._first = state.stream_id, state.last_seq, state.first_seq - 1
            self.recent.clear(self.head)
            self.attempts.clear()
            self.reports.clear()
            self.labels.clear()
            log.warning("live_feed_reset", reason=self._reset_reason, head=self.head)
            for subscription in self.index.all():
                self.resync(subscription)
        elif not self.stream_id:
            # A little history serves readers who come back, and bridges the lag of replicas.
            self.stream_id, self._warm = state.stream_id, state.last_seq
            self.head = max(state.first_seq - 1, state.last_seq - WARM_EVENTS)
            self.recent.clear(self.head)
        if self.head >= self._warm:
            self.ready.set()

    async def _until_interrupted(self, reconnects: int) -> None:
        """Return when the connection was lost and found, the log is not the one read, or nobody needs it."""
        loop = asyncio.get_running_loop()
        next_check = loop.time() + CHECK_S
        needed_at = loop.time()
        while self.nc.stats["reconnects"] == reconnects:
            if self._needed.is_set():
                needed_at = loop.time()
            elif loop.time() - needed_at >= DOZE_S:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._interrupted.wait()
                    return
            if loop.time() < next_check:
                continue
            next_check = loop.time() + CHECK_S
            with contextlib.suppress(UnavailableError):
                state = await self.log_state()
                if state.stream_id != self.stream_id or state.last_seq < self.head:
                    return

    async def _events(self) -> None:
        async with self.follow(subjects.JOBS, self.head + 1) as batches:
            async for batch in batches:
                events = [LiveEvent(stored, self.stream_id) for stored in batch]
                for place, event in enumerate(events):
                    if event.seq <= self.head:  # the log has lost its end and continues from an earlier one
                        self._interrupted.set()
                        return
                    if self.index.log_readers:
                        await self.lines.before(event)
                    if self.labels.lacks(event):
                        # For the whole batch at once. Until the event is handed out nothing is waited for:
                        # a subscription that came meanwhile would miss it.
                        await self.labels.learn(events[place:])
                    self._saw_event(event)

    def follow(self, stream: str, start: int) -> contextlib.aclosing[AsyncGenerator[list[Stored], None]]:
        """The messages of a stream from a sequence on, in batches as they come."""
        timeout_s = self.settings.request_timeout_s
        return contextlib.aclosing(follow_batches(self.nc, stream, start=start, timeout_s=timeout_s))

    # --- Handing out

    def _saw_event(self, event: LiveEvent) -> None:
        self.head = event.seq
        self.recent.append(event)
        if self.head >= self._warm or event.is_last:
            self.ready.set()
        if not event.is_event:
            return
        final = event.name in ENDS
        self.attempts.saw(event.job_id, event.name, event.seq, final=final)
        self.parts.saw(event, final=final)
        waiters = self._waiters.get(event.job_id, ())
        if final or (waiters and not event.is_readable):  # a damaged job does not end by itself
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self.index:  # without readers, an event's headers are not looked at
            found = self.index.find(event.job_id, event.tenant, event.kind, event.labels)
            for session, ids in by_session(entry for entry in found if entry.wants(event)):
                session.event(event, ids)
