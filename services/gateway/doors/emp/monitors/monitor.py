"""A monitor over a WebSocket, of either generation: its first message says which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

from switchyard.events.errors import InvalidError, RejectedError, UnavailableError
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.monitors import full_state
from switchyard.services.gateway.doors.emp.monitors.boards import BOARDS, Snapshots
from switchyard.services.gateway.doors.emp.monitors.relay import Listener
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.live.index import LiveEvent, Progress
from switchyard.services.gateway.live.messages import Item

Message = Mapping[str, Any]
CHANNELS: Final = 64
BEHIND_S: Final = 2.0
"""How long the whole state waits for a read model that is behind."""
OF_SUBSCRIPTION: Final = "monitor-subscription"


class Monitor(Listener):
    """Sees how everything is.

    Args:
        session: its connection.
    """

    pings: ClassVar[bool] = True

    def __init__(self, session: EmpSession) -> None:
        self._session = session
        self._hub = session.hub
        self._boards = session.hub.app[BOARDS]
        self._board = self._boards.of(session.tenant)
        self._generation = names.PYTHON
        self._snapshots: Snapshots | None = None
        self.limit_bytes = session.hub.settings.body_bytes
        self._handlers: Mapping[str, Callable[[Message], Awaitable[None]]] = {
            "subscribe": self._subscribe, "get_system_status": self._system_status,
            "request_stats": self._request_stats, "subscribe_stats": self._system_status,
            "stay_alive": self._stay_alive, "monitor_connect": self._connect,
            "request_full_state": self._full_state, "heartbeat": self._heartbeat,
        }  # fmt: skip

    async def begin(self) -> None:
        """Welcome it, and show it how everything is."""
        session = self._session
        self._hub.join(session)
        session.send(
            "connection_established", message=f"Welcome Monitor {session.id}! Connected to Switchyard",
            monitor_id=session.id,
        )  # fmt: skip
        self._snapshots = self._boards.join(session)
        self._board.relay.join(self, names.PYTHON)

    async def received(self, message: Message) -> None:
        """Do what a message asks for."""
        type_ = message.get("type")
        handler = self._handlers.get(type_) if isinstance(type_, str) else None
        if handler is None:
            raise RejectedError(f"Unsupported message type: {str(type_)[:80]}", code="unknown_type")
        await handler(message)

    async def end(self) -> None:
        """Hear nothing any more."""
        self._board.relay.leave(self)
        if self._snapshots is not None:
            self._snapshots.leave()

    def hear(self, item: Item) -> None:
        """Take messages that all monitors share."""
        self._session.say(item)

    def event(self, event: LiveEvent) -> None:
        """Events come through the relay."""

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """Progress comes through the relay."""

    def missed(self) -> None:
        """Snapshots show the state."""

    # --- What it asks for

    def _speak_typescript(self) -> None:
        if self._generation == names.PYTHON:
            self._generation = names.TYPESCRIPT
            self._board.relay.join(self, names.TYPESCRIPT)
            if self._snapshots is not None:
                self._snapshots.leave()
                self._snapshots = None

    async def _subscribe(self, message: Message) -> None:
        session = self._session
        if "topics" in message:
            topics = _words(message, "topics")
            self._speak_typescript()
            self.topics = frozenset(topics)
            session.say(wire.item_ts("subscribed", monitor_id=session.id, topics=topics))
            return
        channels = _words(message, "channels")
        session.send("subscription_confirmed", channels=channels)
        session.send(
            "subscription_confirmed", job_id=OF_SUBSCRIPTION, monitor_id=session.id, channels=channels
        )
        await self._system_status(message)

    async def _system_status(self, message: Message) -> None:
        del message
        self._board.look()
        if self._snapshots is None:
            self._snapshots = self._boards.join(self._session)
        self._snapshots.wake()

    async def _request_stats(self, message: Message) -> None:
        self._session.send("response_stats", stats=self._boards.stats(self._session.tenant))
        named = message.get("message_id")
        if isinstance(named, str):
            self._session.send("ack", original_id=named, original_type="request_stats")

    async def _stay_alive(self, message: Message) -> None:
        del message
        self._session.send("stay_alive_response")

    async def _connect(self, message: Message) -> None:
        self._speak_typescript()
        self._session.say(wire.item_ts("monitor_connected", monitor_id=self._session.id))
        if message.get("request_full_state"):
            await self._full_state(message)

    async def _full_state(self, message: Message) -> None:
        self._speak_typescript()
        page, size = full_state.page_of(message)
        session = self._session
        with contextlib.suppress(RejectedError, UnavailableError, TimeoutError):
            # What happened before it listened is in no event that it will hear.
            async with asyncio.timeout(BEHIND_S):
                await self._hub.caught_up(session.feed.head)
        item = full_state.snapshot(self._hub, session.tenant, session.id, page, size)
        await session.deliver(item)

    async def _heartbeat(self, message: Message) -> None:
        del message
        self._speak_typescript()
        now = wire.milliseconds()
        self._session.say(
            wire.item_ts("heartbeat_ack", at_ms=True, monitor_id=self._session.id, server_timestamp=now)
        )


def _words(message: Message, field: str) -> list[str]:
    words = message.get(field) or []
    if not isinstance(words, list) or len(words) > CHANNELS or not all(isinstance(one, str) for one in words):
        raise InvalidError(f"{field}: a list of at most {CHANNELS} texts was expected", field=field)
    return words
