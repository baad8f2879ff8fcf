"""One WebSocket of the door: who it is, what is sent to it, within limits, and which peer speaks over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, Protocol

import structlog
from aiohttp import web

from switchyard.events.errors import LimitError, SwitchyardError
from switchyard.services.access.principal import Caller, Principal
from switchyard.services.gateway.doors.emp import wire
from switchyard.services.gateway.doors.emp.hub import HUB
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.live.index import LiveEvent, LogLine, Progress
from switchyard.services.gateway.live.messages import Item
from switchyard.services.gateway.live.session import Session
from switchyard.services.gateway.live.subscription import Subscription

log = structlog.get_logger()

LARGE_BYTES: Final = 256 * 1024
PAUSE_S: Final = 0.5
SUBSCRIPTIONS: Final = 1000
"""Jobs that one connection may follow beside its own."""


class _Large:
    """A message whose bytes do not count as buffered: there is one at a time."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self.taken = asyncio.Event()

    def take(self) -> Item:
        self.taken.set()
        return self._item


class Peer(Protocol):
    """What speaks over a connection, by its role. All but the hooks runs in its own task."""

    pings: ClassVar[bool]
    """Whether who answers no ping is taken for gone."""
    limit_bytes: int
    """The largest message that may come in chunks."""

    async def begin(self) -> None:
        """The connection is there: welcome it, and subscribe to what it is to see."""

    async def received(self, message: dict[str, Any]) -> None:
        """A message has come, whole.

        Raises:
            SwitchyardError: it is refused; the peer is sent an `error`.
        """

    async def end(self) -> None:
        """The connection is over; called once, also when `begin` failed."""

    def event(self, event: LiveEvent) -> None:
        """An event of the log has come that is subscribed to; nothing may be waited for."""

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """The message for the latest progress of a job, when there is room for it; None for none."""

    def missed(self) -> None:
        """Events of the log are missing: it is another one, or was cut."""


class EmpSession(Session):
    """A connection at this door.

    Args:
        feed: where the events come from.
        principal: who it is.
        tasks: what runs as long as it does.
        request: what opened it.
        role: `client`, `worker` or `monitor`.
        id: what the peer calls itself.
    """

    def __init__(
        self,
        feed: LiveFeed,
        principal: Principal,
        tasks: asyncio.TaskGroup,
        *,
        request: web.Request,
        role: str,
        id_: str,
    ) -> None:
        super().__init__(feed, principal, tasks)
        self.request = request
        self.hub = request.app[HUB]
        self.role = role
        self.id = id_
        self.principal = principal
        self.peer: Peer
        self.patience_s = 0.0
        """How long a peer may leave what is sent to it unread, where that is longer than for others."""
        self.takes_chunks = False
        """Whether the peer joins messages that come in chunks."""
        self.cursor_sent: str | None = None
        """Where its peer resumes when it comes back: the last event of which it was sent all."""
        self._spawned: set[asyncio.Task[None]] = set()

    @property
    def tenant(self) -> str:
        """Whose connection it is."""
        return self.principal.tenant

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by."""
        return self.tenant, self.role, self.id

    @property
    def caller(self) -> Caller:
        """Who asks for what the peer asks for."""
        return self.principal.caller()

    def count(self) -> None:
        """Count a request of its caller.

        Raises:
            RateLimitedError: it asks too often.
        """
        self.request.app[DOORKEEPER].count(self.request, self.principal)

    # --- Out

    @property
    def has_queued(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue)

    def say(self, item: Item) -> None:
        """Queue a message; a queue that is full ends the connection."""
        super().put(item)

    def send(self, type_: str, **fields: Any) -> None:
        """Queue a message of the Python generation."""
        self.say(wire.item(type_, **fields))

    async def deliver(self, item: Item) -> None:
        """Queue a message; a large one waits for its turn, and until it is taken.

        Raises:
            UnavailableError: the gateway holds as many large messages as it may, for too long.
        """
        size_bytes = len(item.body)
        if size_bytes <= LARGE_BYTES:
            self.say(item)
            return
        async with self.hub.budget.held(size_bytes):
            large = _Large(item)
            self.nudge(large)
            while self.ending is None and not large.taken.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(large.taken.wait(), PAUSE_S)

    def fail(self, problem: BaseException) -> None:
        """Queue an `error`."""
        self.say(wire.error(problem))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside what comes in, until the connection ends; the peer is sent what goes wrong."""
        task = self._tasks.create_task(self._guarded(work))
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    def stop(self) -> None:
        """End what was spawned."""
        for task in list(self._spawned):
            task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SwitchyardError as error:
            self.fail(error)

    # --- What the live feed says

    def put(self, item: Item) -> None:
        """Pass over what the feed says of subscriptions: these peers know nothing of them."""

    def event(self, event: LiveEvent, ids: list[str]) -> None:
        """Give an event to the peer."""
        del ids
        if self.ending is None:
            self.peer.event(event)

    def log_line(self, job_id: str, line: LogLine, ids: list[str]) -> None:
        """Pass it over."""

    def preview(self, job_id: str) -> None:
        """Pass it over."""

    def resync(self, subscription: Subscription, reason: str, *, first: int) -> None:
        """Say that events are missing."""
        del subscription, first
        log.warning("emp_events_missed", role=self.role, reason=reason)
        self.peer.missed()

    def _take_progress(self, key: tuple[str, int], taken: list[Item]) -> None:
        job_id, fence = key
        _, progress = self._progress.pop(key)
        if not self.feed.attempts.stale(job_id, fence):
            found = self.peer.progress(job_id, progress)
            if found is not None:
                taken.append(found)

    def _check_another(self, name: str) -> None:
        del name
        if len(self.subscriptions) >= SUBSCRIPTIONS:
            message = f"a connection may follow {SUBSCRIPTIONS} jobs beside its own"
            raise LimitError(message, code="too_many_subscriptions")

    def _break_off_in(self, seconds: float) -> None:
        super()._break_off_in(max(seconds, self.patience_s) if self.ending is None else seconds)
