"""The door's WebSockets, from the handshake to the end; what is said over them is the peers' matter."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, hdrs, web

from switchyard.events.errors import (
    InvalidError,
    LimitError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.services.access.errors import RateLimitedError, UnauthenticatedError
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.doors.emp import chunks, wire
from switchyard.services.gateway.doors.emp.clients.client import Client
from switchyard.services.gateway.doors.emp.hub import HUB
from switchyard.services.gateway.doors.emp.monitors.monitor import Monitor
from switchyard.services.gateway.doors.emp.session import EmpSession, Peer
from switchyard.services.gateway.doors.emp.users import Visitor
from switchyard.services.gateway.doors.emp.workers.worker import Worker
from switchyard.services.gateway.http.connections import CONNECTIONS, known
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.live.messages import Item
from switchyard.services.gateway.live.session import CLOSE_S, Ending
from switchyard.services.gateway.live.socket import NORMAL, Socket

PEERS: Final[Mapping[str, Callable[[EmpSession], Peer]]] = {
    "client": Client, "worker": Worker, "monitor": Monitor,
}  # fmt: skip
NEEDED: Final = {"client": Role.VIEWER, "worker": Role.WORKER, "monitor": Role.VIEWER}
FIRST_S: Final = 10.0
FIRST_PINGS: Final = 10
FRAMES_AFTER_END: Final = 1000
NOT_TEXT: Final = 1003
TOO_BIG: Final = 1009
WORKER_FRAME_BYTES: Final = 16 * 1024**2
"""The largest frame that emp-redis's hub takes; its workers split nothing that they send."""
WIRE_BYTES: Final = 64 * 1024
"""What may stand in a connection's buffer before more frames are put there at once."""
WIRE_PAUSE_S: Final = 0.05
REFUSED_BYTES: Final = 64 * 1024
TRY_LATER: Final = 1013
ID_CHARS: Final = 200
BAD_TOKEN: Final = "Authentication failed: Invalid token"  # noqa: S105 - what is said of one
IDS: Final = {"worker_id": "worker", "monitor_id": "monitor", "client_id": "client"}
"""Fields of a first message that say who comes, where the path does not."""


async def by_path(request: web.Request, role: str) -> web.WebSocketResponse:
    """Speak with a peer that the path names."""
    return await _spoken(request, role, request.match_info["id"])


async def by_message(request: web.Request) -> web.WebSocketResponse:
    """Speak with a peer that its first message names."""
    return await _spoken(request, None, "")


async def test(request: web.Request) -> web.WebSocketResponse:
    """Say that a WebSocket can be opened."""
    socket = web.WebSocketResponse(timeout=CLOSE_S, max_msg_size=1024, compress=False)
    await socket.prepare(request)
    with contextlib.suppress(ConnectionError):
        await socket.send_str(wire.item("test", message="Test connection successful").body.decode())
    await socket.close(code=NORMAL)
    return socket


async def _spoken(request: web.Request, role: str | None, id_: str) -> web.WebSocketResponse:
    if hdrs.UPGRADE not in request.headers:  # who speaks HTTP is answered in it
        visitor = await _let_in(request)
        visitor.principal.check(NEEDED[role or "client"])
    found = await _visitor_or_refusal(request)
    async with _opened(request, _frame_bytes_of(request, role, found)) as connection:
        if connection is None:
            return web.WebSocketResponse()
        try:
            if not isinstance(found, Visitor):
                raise found
            visitor, first = found, None
            if role is None:
                first = await connection.first_message()
                if first is None:
                    return connection.socket
                role, id_ = who(first)
            check(visitor, role, id_)
            async with request.app[DOOR].place():
                await connection.run(visitor, role, id_, first)
        except (UnauthenticatedError, RateLimitedError) as error:
            # As emp-redis says it, so that its clients read it, whatever is wrong with the token.
            text = BAD_TOKEN if isinstance(error, UnauthenticatedError) else str(error)
            await connection.refuse(wire.item("error", error=text), Ending(NORMAL, ""))
        except UnavailableError as error:
            await connection.refuse(wire.error(error), Ending(TRY_LATER, "try again later"))
        except RejectedError as error:
            await connection.refuse(wire.error(error), Ending(NORMAL, ""))
        return connection.socket


async def _let_in(request: web.Request) -> Visitor:
    try:
        visitor = await request.app[HUB].users.identify(request)
    except UnauthenticatedError:
        guard = request.app[CONNECTIONS]
        await guard.failures.wait(guard.address_of(request))
        raise
    known(request)
    return visitor


async def _visitor_or_refusal(request: web.Request) -> Visitor | SwitchyardError:
    """Who it is, or why nobody is let in, which the peer reads only over the WebSocket."""
    try:
        return await _let_in(request)
    except SwitchyardError as error:
        return error


def _frame_bytes_of(request: web.Request, role: str | None, found: Visitor | SwitchyardError) -> int:
    """The largest frame of a peer; a worker's results come whole, and nobody else's messages are as long."""
    if not isinstance(found, Visitor):
        return REFUSED_BYTES
    may_work = role in (None, "worker") and Role.WORKER in found.principal.roles
    return worker_frame_bytes(request) if may_work else frame_bytes(request)


def check(visitor: Visitor, role: str, id_: str) -> None:
    """Let a peer take a role.

    Raises:
        ForbiddenError: it may not.
        InvalidError: what it calls itself is no id.
    """
    visitor.principal.check(NEEDED[role])
    if not 0 < len(id_) <= ID_CHARS or not id_.isprintable():
        raise InvalidError(f"the id: 1 to {ID_CHARS} printable characters were expected", field="id")


def who(first: dict[str, Any]) -> tuple[str, str]:
    """The role and id of who sends this as its first message; a client that names none is given an id."""
    for field, role in IDS.items():
        named = first.get(field)
        if isinstance(named, str):
            return role, named
    return "client", f"client-{secrets.token_hex(8)}"


@contextlib.asynccontextmanager
async def _opened(request: web.Request, most_bytes: int) -> AsyncIterator[Connection | None]:
    """The connection after its handshake; None where the peer is gone already.

    Args:
        request: what opens it.
        most_bytes: the largest frame that its peer may send.
    """
    transport = request.transport
    if transport is None:
        yield None
        return
    socket = web.WebSocketResponse(
        autoclose=False, autoping=False, timeout=CLOSE_S, max_msg_size=most_bytes, compress=False
    )
    await socket.prepare(request)
    connection = Connection(request, socket, transport)
    try:
        yield connection
    finally:
        connection.clean_up()


def frame_bytes(request: web.Request) -> int:
    """The largest frame: that of a request's body, and of a chunk with what escaping adds."""
    return max(request.app[SETTINGS].body_bytes, 2 * chunks.FRAME_BYTES)


def worker_frame_bytes(request: web.Request) -> int:
    """The largest frame of a worker."""
    settings = request.app[SETTINGS]
    return max(frame_bytes(request), min(WORKER_FRAME_BYTES, settings.emp_message_bytes))


class Connection(Socket):
    """One WebSocket of the door."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        super().__init__(request.app[SETTINGS], socket, transport)
        self._request = request
        self._hub = request.app[HUB]
        self._after_end = 0
        self._session: EmpSession | None = None

    async def first_message(self) -> dict[str, Any] | None:
        """The first message; None after closing for want of one, or where the peer is gone.

        Raises:
            RejectedError: what came first is none.
        """
        try:
            async with asyncio.timeout(FIRST_S):
                for _ in range(FIRST_PINGS):
                    frame = await self.socket.receive()
                    if frame.type not in (WSMsgType.PING, WSMsgType.PONG):
                        break
                    await self.answer(frame)
        except TimeoutError:
            raise RejectedError("no message came that says who this is") from None
        if frame.type is not WSMsgType.TEXT:
            return None
        return wire.decode(frame.data)

    async def run(self, visitor: Visitor, role: str, id_: str, first: dict[str, Any] | None) -> None:
        """Speak until one side ends it."""
        made = functools.partial(EmpSession, request=self._request, role=role, id_=id_)
        door = self._request.app[DOOR]
        async with (
            door.session_of(visitor.principal, visitor.secret, made) as session,
            asyncio.TaskGroup() as tasks,
        ):
            self._session = session
            peer = session.peer = PEERS[role](session)
            joiner = chunks.Joiner(peer.limit_bytes, self._hub.budget)
            tasks.create_task(self.write(session, tasks))
            pinging = tasks.create_task(self.ping(session, tasks, ends=peer.pings))
            try:
                await self._begun(session, peer)
                if first is not None:
                    await self._heard(session, peer.received(first))
                with self.reading():
                    async for frame in self.socket:
                        self.heard()
                        await self._read(frame, session, joiner)
            finally:
                joiner.close()
                self._hub.leave(session)
                pinging.cancel()
                session.end(NORMAL, "")
                session.stop()
                await peer.end()

    async def _begun(self, session: EmpSession, peer: Peer) -> None:
        try:
            await peer.begin()
        except SwitchyardError as error:
            session.fail(error)
            session.end(TRY_LATER if isinstance(error, UnavailableError) else NORMAL, "")

    async def _read(self, frame: WSMessage, session: EmpSession, joiner: chunks.Joiner) -> None:
        if session.ending is not None:
            self._after_end += 1
            if self._after_end > FRAMES_AFTER_END:
                self.abort()
        elif frame.type in (WSMsgType.PING, WSMsgType.PONG):
            await self.answer(frame)
        elif frame.type is WSMsgType.BINARY:
            session.fail(RejectedError("a text frame is expected, not a binary one", code="binary"))
            session.end(NOT_TEXT, "binary frame")
        elif frame.type is WSMsgType.TEXT:
            await session.room()  # who does not read what is answered is not read either
            await self._heard(session, self._obeyed(frame.data, session, joiner))

    async def _obeyed(self, text: str, session: EmpSession, joiner: chunks.Joiner) -> None:
        """Do what a frame asks for; one that only a worker's may be waits until the gateway has room."""
        most = frame_bytes(self._request)
        if len(text) <= most:
            await self._obey(text, session, joiner)
            return
        if session.role != "worker":
            message = f"the frame has more than {most} bytes"
            session.fail(LimitError(message, status=413, code="message_too_large"))
            session.end(TOO_BIG, "message too big")
            return
        async with self._hub.budget.held(len(text)):
            await self._obey(text, session, joiner)

    async def _obey(self, text: str, session: EmpSession, joiner: chunks.Joiner) -> None:
        message = wire.decode(text)
        if message.get("type") == chunks.TYPE:
            whole = joiner.add(message)
            if whole is None:
                return
            message = wire.decode(whole)
            if message.get("type") == chunks.TYPE:
                raise InvalidError("type: chunks within chunks", field="type")
        await session.peer.received(message)

    async def _heard(self, session: EmpSession, doing: Awaitable[None]) -> None:
        try:
            await doing
        except SwitchyardError as error:
            session.fail(error)

    async def send(self, item: Item) -> None:
        """Send a message, in chunks where it is too long for the peer."""
        session = self._session
        if item.type == wire.TOGETHER:
            await self._send_frames(item.body)
            return
        if session is None or not session.takes_chunks or len(item.body) <= chunks.WHOLE_BYTES:
            await super().send(item)
            if session is not None and item.cursor is not None:
                session.cursor_sent = item.cursor
            return
        for frame in chunks.split(item.type, item.body):
            await self.put(frame, WSMsgType.TEXT)
        session.cursor_sent = item.cursor or session.cursor_sent

    async def _send_frames(self, frames: bytes) -> None:
        """Put frames onto the wire, and wait for room on it."""
        if self._said or self._transport.is_closing():
            raise ConnectionResetError("the peer is gone")
        self._transport.write(frames)
        transport = self._transport
        while transport.get_write_buffer_size() > WIRE_BYTES:
            if transport.is_closing():
                return
            await asyncio.sleep(WIRE_PAUSE_S)
