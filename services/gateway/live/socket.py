"""A WebSocket that carries a session: frames out, pings, and the end, whatever is spoken over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from aiohttp import WSMessage, WSMsgType, web

from switchyard.services.gateway.live.messages import Item
from switchyard.services.gateway.live.session import CLOSE_S, SLOW_READER, Ending, Session
from switchyard.services.settings import Settings

NORMAL: Final = 1000
ABNORMAL: Final = 1006
REASON_BYTES: Final = 123  # Source: RFC 6455, section 5.5


class Socket:
    """The side of a WebSocket that knows of no messages but those of the session.

    Args:
        settings: how often it pings.
        socket: prepared, without pings of its own, and without an end of its own (`autoclose`).
        transport: what carries it.
    """

    def __init__(
        self, settings: Settings, socket: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        self.socket = socket
        self._settings = settings
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._reading = self._said = self._taken = self._answered = False
        self._read_out = asyncio.Event()
        self._lingers_until = 0.0
        self._looking: asyncio.Handle | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """For the block that reads what the peer sends until its end; `close` leaves the reading to it."""
        self._reading = True
        try:
            yield
        finally:
            self._reading = False
            self._read_out.set()

    def heard(self) -> None:
        """The peer has sent something."""
        self._heard_at = self._loop.time()

    async def answer(self, frame: WSMessage) -> None:
        """Answer a ping; a pong needs none."""
        if frame.type is WSMsgType.PING:
            with contextlib.suppress(ConnectionError):
                await self.put(frame.data, WSMsgType.PONG)

    async def ping(self, session: Session, tasks: asyncio.TaskGroup, *, ends: bool = True) -> None:
        """Ask every now and then whether the peer is there.

        Args:
            session: that of the connection.
            tasks: send the pings.
            ends: whether a peer that does not answer is taken for gone.
        """
        ping_s = self._settings.socket_ping_s
        while session.ending is None:
            await asyncio.sleep(ping_s)
            asked_at = self._loop.time()
            tasks.create_task(self._send_ping())  # it may wait for room, as everything does
            await asyncio.sleep(ping_s / 2)
            if ends and self._heard_at < asked_at:
                session.end(SLOW_READER, "slow reader")

    async def _send_ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.put(b"", WSMsgType.PING)

    async def write(self, session: Session, tasks: asyncio.TaskGroup) -> None:
        """Send what the session has, until it ends; then close."""

        def give_up() -> None:
            if session.ending is not None:
                tasks.create_task(self.close(session.ending))

        with contextlib.suppress(ConnectionError):
            while items := await session.take():
                with session.sending(give_up):
                    for item in items:
                        await self.send(item)
        session.end(NORMAL, "")  # where the peer is gone
        if session.ending is not None:
            await self.close(session.ending)

    async def send(self, item: Item) -> None:
        """Send a message."""
        if item.shown is not None:
            await self.put(item.shown.frame, WSMsgType.BINARY)
        else:
            await self.put(item.body, WSMsgType.TEXT)

    async def put(self, frame: bytes, opcode: WSMsgType) -> None:
        """Send a frame.

        Raises:
            ConnectionResetError: the close frame was sent, or the peer is gone.
        """
        if self._said:
            raise ConnectionResetError("the close frame was sent")
        await self.socket.send_frame(frame, opcode)

    async def refuse(self, item: Item, ending: Ending) -> None:
        """Say why, and close."""
        with contextlib.suppress(ConnectionError):
            await self.send(item)
        await self.close(ending)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    async def close(self, ending: Ending) -> None:
        """Send the close frame, and wait until the peer has taken it, for as long as it may linger."""
        if self._said or self._transport.is_closing():  # uvloop refuses calls on what is closed
            return
        reason = ending.reason.encode()[:REASON_BYTES]
        if self._reading:
            await self._close_while_reading(ending, reason)
            return
        breaking = self._loop.call_later(ending.linger_s, self._transport.abort)
        self._transport.set_write_buffer_limits(high=0)  # the wait for room is one for an empty buffer now
        try:  # who has sent its own close frame may not read any more
            await self.socket.close(code=ending.code, message=reason, drain=not self._read_out.is_set())
        finally:
            breaking.cancel()

    async def _close_while_reading(self, ending: Ending, reason: bytes) -> None:
        """Close as RFC 6455, section 7.1.1, wants it: the peer answers first, soon after it has taken all.

        aiohttp's `close` would end the connection at once under the task that reads. The system resets what
        is ended before all was read, and the peer loses what it had not read yet: messages, and the reason.
        """
        self._said = True
        self._lingers_until = self._loop.time() + ending.linger_s
        self._looking = self._loop.call_soon(self._look, min(CLOSE_S, ending.linger_s))
        try:
            await self.socket.send_frame(ending.code.to_bytes(2, "big") + reason, WSMsgType.CLOSE)
            await self._read_out.wait()
            self._answered = not self._transport.is_closing()
        except ConnectionError:  # the peer is gone
            pass
        finally:
            if self._looking is not None:
                self._looking.cancel()
            self._transport.close()

    def _look(self, again_in_s: float) -> None:
        """Break off what lingers too long, or has all and does not answer the close frame."""
        if self._transport.is_closing():
            return
        if self._taken or self._loop.time() >= self._lingers_until:
            self._transport.abort()
            return
        self._taken = not self._transport.get_write_buffer_size()
        self._looking = self._loop.call_later(again_in_s, self._look, again_in_s)

    def clean_up(self) -> None:
        """After the end: what the peer did not read would hold the connection open."""
        if not self._answered and (not self.socket.closed or self.socket.close_code in (None, ABNORMAL)):
            self._transport.abort()
