"""One live connection, whatever carries it: its subscriptions and the messages on their way out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from switchyard.events.errors import ForbiddenError, LimitError, NotFoundError, RejectedError
from switchyard.services.gateway.live.frames import PREVIEW
from switchyard.services.gateway.live.index import LiveEvent, LogLine, Progress
from switchyard.services.gateway.live.messages import Item, Subscribe, Watch, message, shared_message
from switchyard.services.gateway.live.replay import catch_up, first_position
from switchyard.services.gateway.live.subscription import Reader, Subscription
from switchyard.services.gateway.live.watch.view import View, Watcher

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed

GOING_AWAY: Final = 1001
SLOW_READER: Final = 1013
BATCH: Final = 64
BATCH_BYTES: Final = 256 * 1024
CLOSE_S: Final = 5.0
LINGER_S: Final = 60.0


class Ending(NamedTuple):
    """Why a connection is closed, as a WebSocket close code and reason."""

    code: int
    reason: str

    @property
    def linger_s(self) -> float:
        """How long a reader may take to read the reason; a gateway that stops does not wait for long."""
        return CLOSE_S if self.code == GOING_AWAY else LINGER_S


class Late(Protocol):
    """A place in the queue for a message that is made when its turn comes."""

    def take(self) -> Item | None:
        """The message; None for none any more."""


class _NextPreview(NamedTuple):
    """A place in the queue for what is the latest preview of a job when its turn comes."""

    job_id: str


class Session:
    """The subscriptions of one connection and what waits to be sent to it, within limits.

    Everything but `take` and `room` acts at once and never waits for the reader; a reader that lets more wait
    than the limits allow is ended.

    Args:
        feed: where the events come from.
        reader: whose connection it is.
        tasks: runs what is replayed; lives as long as the connection.
    """

    def __init__(self, feed: LiveFeed, reader: Reader, tasks: asyncio.TaskGroup) -> None:
        self.feed = feed
        self.reader = reader
        self.only = ""
        """The one job that it may follow; "" where there is no such bound."""
        self.ending: Ending | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self._watchers: dict[str, Watcher | None] = {}  # None while its view is being opened
        self._tasks = tasks
        self._limit = feed.settings.socket_buffer
        self._limit_bytes = feed.settings.socket_buffer_bytes
        # Progress stands in the queue as its key, so that the latest is sent in the place of the first.
        self._queue: deque[Item | _NextPreview | tuple[str, int] | Late] = deque()
        self._previews: set[str] = set()
        self._progress: dict[tuple[str, int], tuple[list[str], Progress]] = {}
        self._bytes = 0
        self._breaking: asyncio.TimerHandle | None = None
        self._give_up: Callable[[], None] = lambda: None
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # --- What the client asks for

    async def subscribe(self, request: Subscribe) -> None:
        """Start a subscription: its first messages are queued when this returns.

        Raises:
            RejectedError: it cannot be had: see the subclass.
            UnavailableError: the broker does not answer.
        """
        request.check()
        if self.only and request.jobs != (self.only,):
            raise ForbiddenError(f"jobs: this ticket is for job {self.only} alone", field="jobs")
        self._check_another(request.id)
        subscription = Subscription(self, request)
        self.subscriptions[request.id] = subscription
        try:
            await self._require_jobs(request)
            start = await first_position(self.feed, request.after)
            if request.previews and self.subscriptions.get(request.id) is subscription:
                self.feed.reports.previews.watch(subscription)
        except BaseException:
            self._remove(subscription)
            raise
        if self.ending is not None or self.subscriptions.get(request.id) is not subscription:
            return
        subscription.begin(start)
        self.put(message("subscribed", id=request.id, cursor=subscription.cursor()))
        if start.resync is not None:
            self.resync(subscription, start.resync, first=start.first)
        self.feed.labels.want(subscription)
        subscription.replay = self._tasks.create_task(catch_up(self.feed, subscription))

    async def watch(self, wish: Watch, opening: Callable[[], Awaitable[View]]) -> None:
        """Start to watch a state: the word for its first message is queued when this returns.

        Args:
            wish: what the client sent.
            opening: gives what it asks for.

        Raises:
            RejectedError: it cannot be had: see the subclass.
            UnavailableError: what there is is not known now.
        """
        if self.only:
            raise ForbiddenError(f"what: this ticket is for job {self.only} alone", field="what")
        self._check_another(wish.id)
        self._watchers[wish.id] = None
        try:
            view = await opening()
        except BaseException:
            self._watchers.pop(wish.id, None)
            raise
        if self.ending is None and self._watchers.get(wish.id, self) is None:
            watcher = self._watchers[wish.id] = Watcher(self, wish.id, view, wish.after)
            view.join(watcher)

    def _check_another(self, name: str) -> None:
        limit = self.feed.settings.socket_subscriptions
        if name in self.subscriptions or name in self._watchers:
            raise RejectedError(f"subscription {name} exists", code="duplicate_id", field="id")
        if len(self.subscriptions) + len(self._watchers) >= limit:
            raise LimitError(f"a connection may have {limit} subscriptions", code="too_many_subscriptions")

    async def _require_jobs(self, request: Subscribe) -> None:
        for index, job_id in enumerate(request.jobs or ()):
            tenant = await self.feed.tenant_of(job_id)
            if tenant is None or (tenant != self.reader.tenant and not self.reader.is_admin):
                raise NotFoundError(f"there is no job {job_id}", field=f"jobs[{index}]")

    def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; nothing that is not queued yet is sent for it.

        Raises:
            NotFoundError: there is no such subscription.
        """
        if subscription_id in self._watchers:
            self._unwatch(subscription_id)
            return
        subscription = self.subscriptions.get(subscription_id)
        if subscription is None:
            raise NotFoundError(f"there is no subscription {subscription_id}", field="id")
        self._remove(subscription)

    def _unwatch(self, name: str) -> None:
        watcher = self._watchers.pop(name)
        if watcher is not None:
            watcher.end()

    def _remove(self, subscription: Subscription) -> None:
        if self.subscriptions.get(subscription.id) is subscription:
            del self.subscriptions[subscription.id]
        self.feed.index.remove(subscription)
        self.feed.labels.unwant(subscription)
        if subscription.request.previews:
            self.feed.reports.previews.unwatch(subscription)
        if subscription.replay is not None:
            subscription.replay.cancel()

    def cursor(self) -> str | None:
        """Where all subscriptions to events can resume; None while one is being brought up to now.

        None as well where there are none, and states are watched alone.
        """
        feed, subscriptions = self.feed, self.subscriptions.values()
        if self._watchers and not subscriptions:
            return None
        if not all(subscription.caught_up for subscription in subscriptions):
            return None
        # A reader that comes from another gateway may be ahead of this one.
        hindmost = min(subscriptions, key=lambda each: max(feed.head, each.position), default=None)
        if hindmost is None or hindmost.position <= feed.head:
            return feed.cursor(feed.head)
        return hindmost.cursor()

    # --- What it receives

    def event(self, event: LiveEvent, ids: list[str]) -> None:
        """Queue an event for these subscriptions."""
        self.put(shared_message("event", ids, event.fragment, event.cursor))

    def progress(self, job_id: str, progress: Progress, ids: list[str]) -> None:
        """Queue the latest progress of a job in the place of an older one of the same attempt.

        With more jobs than the buffer has places, the job's next progress has to do.
        """
        key = (job_id, progress.fence)
        if key not in self._progress:
            if len(self._progress) >= self._limit or self.ending is not None:
                return
            self._queue.append(key)
            self._filled.set()
        else:
            ids = list(dict.fromkeys([*self._progress[key][0], *ids]))
        self._progress[key] = (ids, progress)

    def log_line(self, job_id: str, line: LogLine, ids: list[str]) -> None:
        """Queue a line of a job's output."""
        self.put(message("log", ids=ids, job_id=job_id, attempt=line.attempt, at=line.at, line=line.line))

    def preview(self, job_id: str) -> None:
        """Queue the latest preview of a job, whichever that is when the reader takes it."""
        if self.ending is None and job_id not in self._previews:
            self._previews.add(job_id)
            self._queue.append(_NextPreview(job_id))
            self._filled.set()

    def resync(self, subscription: Subscription, reason: str, *, first: int) -> None:
        """Report that events are missing, and continue from the head."""
        feed = self.feed
        head = feed.cursor(feed.head)
        resync = message("resync", id=subscription.id, reason=reason, head=head, first=feed.cursor(first))
        self.put(resync._replace(cursor=head))

    def put(self, item: Item) -> None:
        """Queue a message; a queue that is full ends the connection."""
        if self.ending is not None:
            return
        self._queue.append(item)
        self._bytes += len(item.body)
        waiting = len(self._queue) - len(self._progress) - len(self._previews)
        if waiting > self._limit or self._bytes > self._limit_bytes:
            self.feed.slow_readers += 1
            self._queue.clear()
            self._progress.clear()
            self._previews.clear()
            self._bytes = 0
            self.end(SLOW_READER, "slow reader")
            return
        if not self.has_room:
            self._room.clear()
        self._filled.set()

    def nudge(self, late: Late) -> None:
        """Queue the word that there is a message; what is in it is decided when there is room."""
        if self.ending is None:
            self._queue.append(late)
            self._filled.set()

    def end(self, code: int, reason: str) -> None:
        """Close the connection after what is queued was sent; the first reason counts."""
        if self.ending is not None:
            return
        self.ending = Ending(code, reason)
        for subscription in list(self.subscriptions.values()):
            self._remove(subscription)
        for name in list(self._watchers):
            self._unwatch(name)
        self._filled.set()
        self._room.set()
        if self._breaking is not None:
            self._break_off_in(CLOSE_S)

    # --- The way out

    @property
    def has_room(self) -> bool:
        """Whether less than half of the buffer is in use; replays leave the rest to what is new."""
        return 2 * len(self._queue) < self._limit and 2 * self._bytes < self._limit_bytes

    async def room(self) -> None:
        """Wait until the reader has taken enough."""
        while not self.has_room and self.ending is None:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> list[Item]:
        """Wait for messages and take some; [] when the connection is to be closed."""
        while True:
            while not self._queue and self.ending is None:
                self._filled.clear()
                await self._filled.wait()
            taken: list[Item] = []
            size = 0
            while self._queue and len(taken) < BATCH and size < BATCH_BYTES:
                entry = self._queue.popleft()
                if isinstance(entry, Item):
                    size += len(entry.body)
                    self._bytes -= len(entry.body)
                    taken.append(entry)
                elif isinstance(entry, _NextPreview):
                    size += self._take_preview(entry.job_id, taken)
                elif isinstance(entry, tuple):
                    self._take_progress(entry, taken)
                else:
                    item = entry.take()
                    if item is not None:
                        size += len(item.body)
                        taken.append(item)
            if self.has_room:
                self._room.set()
            if taken or (not self._queue and self.ending is not None):
                return taken

    @contextlib.contextmanager
    def sending(self, give_up: Callable[[], None]) -> Iterator[None]:
        """End the session when the reader does not take what is sent in the block, and give up on it.

        The block is not cancelled: aiohttp cannot wait for its transport any more after such a wait was
        cancelled once. A transport that is emptied or aborted ends the wait.

        Args:
            give_up: begins to close the connection, with the reason.
        """
        self._give_up = give_up
        self._break_off_in(2 * self.feed.settings.socket_ping_s if self.ending is None else CLOSE_S)
        try:
            yield
        finally:
            if self._breaking is not None:
                self._breaking.cancel()
                self._breaking = None

    def _break_off_in(self, seconds: float) -> None:
        if self._breaking is not None:
            self._breaking.cancel()
        self._breaking = asyncio.get_running_loop().call_later(seconds, self._break_off)

    def _break_off(self) -> None:
        self._breaking = None
        self.end(SLOW_READER, "slow reader")
        self._give_up()

    def _take_progress(self, key: tuple[str, int], taken: list[Item]) -> None:
        job_id, fence = key
        ids, progress = self._progress.pop(key)
        wanted = [name for name in ids if name in self.subscriptions]
        if wanted and not self.feed.attempts.stale(job_id, fence):
            fragment = b'"job_id":"%b","progress":%b' % (job_id.encode(), progress.encoded)
            taken.append(shared_message("progress", wanted, fragment))

    def _take_preview(self, job_id: str, taken: list[Item]) -> int:
        """Take what is the latest now; its bytes."""
        self._previews.discard(job_id)
        shown = self.feed.reports.previews.latest(job_id)
        if shown is None or not any(
            each.request.previews and job_id in (each.jobs or ()) for each in self.subscriptions.values()
        ):
            return 0
        taken.append(Item(PREVIEW, b"", shown=shown))
        return len(shown.frame)
