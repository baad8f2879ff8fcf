"""What happens to a tenant's jobs, for its monitors: each event is put into words once, not once for each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import structlog

from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.events.events import (
    AnyEvent,
    Blocked,
    Claimed,
    Leased,
    Scheduled,
    Submitted,
    Succeeded,
    Unreadable,
)
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.gateway.app_keys import LIVE
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.hub import Hub
from switchyard.services.gateway.doors.emp.monitors import words
from switchyard.services.gateway.live.index import LiveEvent, LogLine, Progress
from switchyard.services.gateway.live.messages import Item, Subscribe
from switchyard.services.gateway.live.session import Session
from switchyard.services.gateway.live.subscription import Subscription

log = structlog.get_logger()

BACKLOG: Final = 20_000
RETRY_S: Final = 0.5
TOGETHER_S: Final = 0.1
"""How long messages wait for others, so that each monitor is written to once for all of them."""
TOGETHER_BYTES: Final = 128 * 1024
PROGRESS: Final = 1000
"""Jobs whose progress is shown between two snapshots."""


class _Reading(Session):
    """The one subscription that all monitors of a tenant share."""

    def __init__(self, relay: Relay, principal: Principal, hub: Hub, tasks: asyncio.TaskGroup) -> None:
        super().__init__(hub.app[LIVE], principal, tasks)
        self._relay = relay

    def put(self, item: Item) -> None:
        """Pass over what the feed says of subscriptions."""

    def event(self, event: LiveEvent, ids: list[str]) -> None:
        del ids
        self._relay.event(event)

    def progress(self, job_id: str, progress: Progress, ids: list[str]) -> None:
        del ids
        self._relay.progress(job_id, progress)

    def log_line(self, job_id: str, line: LogLine, ids: list[str]) -> None:
        """Pass it over."""

    def resync(self, subscription: Subscription, reason: str, *, first: int) -> None:
        del subscription, first
        log.warning("emp_events_missed", role="monitor", reason=reason)


class Relay:
    """Gives what happens to whoever listens.

    Args:
        hub: what all connections share.
        tenant: whose jobs.
    """

    def __init__(self, hub: Hub, tenant: str) -> None:
        self._hub = hub
        self._tenant = tenant
        self._listeners: dict[str, set[Listener]] = {names.PYTHON: set(), names.TYPESCRIPT: set()}
        self._said = {generation: _Said() for generation in self._listeners}
        self._due: asyncio.TimerHandle | None = None
        self._waiting: deque[LiveEvent] = deque()
        self._filled = asyncio.Event()
        self._progress: dict[str, Progress] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anybody listens."""
        return any(self._listeners.values())

    def join(self, listener: Listener, generation: str) -> None:
        """Give somebody what happens, in the words of a generation."""
        self.leave(listener)
        self._listeners[generation].add(listener)

    def leave(self, listener: Listener) -> None:
        """Give it nothing any more."""
        for there in self._listeners.values():
            there.discard(listener)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to read, unless that has begun."""
        if self._task is None:
            self._task = tasks.create_task(self._run())

    def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        principal = Principal("emp", self._tenant, implied({Role.VIEWER}), "", float("inf"))
        feed = self._hub.app[LIVE]
        with feed.needed():
            await feed.ready.wait()
            async with asyncio.TaskGroup() as tasks:
                reading = _Reading(self, principal, self._hub, tasks)
                try:
                    while True:
                        try:
                            await reading.subscribe(Subscribe("all", tenants=(self._tenant,)))
                            break
                        except UnavailableError:
                            await asyncio.sleep(RETRY_S)
                    await self._translate()
                finally:
                    reading.end(1000, "")

    # --- From the log

    def event(self, event: LiveEvent) -> None:
        """Take an event; a backlog that is too long is dropped, for the snapshots show the state."""
        if len(self._waiting) >= BACKLOG:
            log.warning("emp_monitor_events_dropped", events=len(self._waiting))
            self._waiting.clear()
        self._waiting.append(event)
        self._filled.set()

    def progress(self, job_id: str, progress: Progress) -> None:
        """Take a progress, in the place of an older one."""
        if job_id in self._progress or len(self._progress) < PROGRESS:
            self._progress[job_id] = progress

    async def _translate(self) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            live = self._waiting.popleft()
            event = live.decoded()
            while not isinstance(event, Unreadable):
                try:
                    await self._say_event(live, event)
                except NotFoundError:
                    break
                except UnavailableError:
                    await asyncio.sleep(RETRY_S)
                else:
                    break

    async def _say_event(self, live: LiveEvent, event: AnyEvent) -> None:
        match event:
            case Submitted(job=spec) | Scheduled(job=spec) | Blocked(job=spec) if spec is not None:
                known = self._hub.note_spec(live.job_id, spec)
            case Leased(worker=worker) | Claimed(worker=worker):
                known = (await self._hub.learn(live.job_id, self._tenant))._replace(worker=worker)
                self._hub.worked(live.job_id, worker)
            case _:
                known = await self._hub.learn(live.job_id, self._tenant)
        result = event.result if isinstance(event, Succeeded) else None
        for generation, listeners in self._listeners.items():
            if listeners:
                for item in words.of_event(known, event, generation, result):
                    self._say(generation, item)

    # --- To the monitors

    def flush(self) -> None:
        """Say how far jobs are, as of now, and all that waits to be said."""
        latest, self._progress = self._progress, {}
        for job_id, progress in latest.items():
            known = self._hub.known(job_id)
            if known is None or self._hub.app[LIVE].attempts.stale(job_id, progress.fence):
                continue
            for generation, listeners in self._listeners.items():
                if listeners:
                    self._say(generation, words.of_progress(known, progress, generation))
        self._deliver()

    def workers_changed(
        self, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Say which workers have come, gone or changed."""
        if self._listeners[names.TYPESCRIPT]:
            for item in words.of_workers(before, now):
                self._say(names.TYPESCRIPT, item)

    def _say(self, generation: str, item: Item) -> None:
        said = self._said[generation]
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(TOGETHER_S, self._deliver)
        said.add(item)
        if said.size_bytes >= TOGETHER_BYTES:
            self._deliver_to(generation)

    def _deliver(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        for generation in self._said:
            self._deliver_to(generation)

    def _deliver_to(self, generation: str) -> None:
        """Give what has been said to who listens: the same bytes to all who want the same of it."""
        items = self._said[generation].taken()
        bundles: dict[frozenset[str] | None, Item | None] = {}
        for listener in self._listeners[generation]:
            topics = listener.topics
            if topics not in bundles:
                wanted = [item for item in items if words.is_of(item, topics)]
                bundles[topics] = wire.together(wanted) if wanted else None
            bundle = bundles[topics]
            if bundle is not None:
                listener.hear(bundle)


class _Said:
    """What is to be given to who listens."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size_bytes = 0

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.size_bytes += len(item.body)

    def taken(self) -> list[Item]:
        items, self.items, self.size_bytes = self.items, [], 0
        return items


class Listener:
    """Hears what happens; a monitor is one."""

    topics: frozenset[str] | None = None
    """What it wants to hear of; None for everything."""

    def hear(self, item: Item) -> None:
        """Take messages that all share, in their frames."""
