"""`GET /v1/ws`: live updates over a WebSocket; `docs/live.md` has the messages and close codes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiohttp import WSMessage, WSMsgType, hdrs, web

from switchyard.events.errors import LimitError, RejectedError, UnavailableError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal
from switchyard.services.gateway.http.connections import CONNECTIONS, known
from switchyard.services.gateway.http.edge.cors import CORS
from switchyard.services.gateway.http.identity import secret_of
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.http.routes import Lasts, Route, plain
from switchyard.services.gateway.live.admission import DOOR, NORMAL, TOKEN_ENDED, LiveDoor
from switchyard.services.gateway.live.messages import (
    Auth,
    Item,
    Ping,
    Subscribe,
    Unsubscribe,
    claimed_id,
    decode,
    message,
)
from switchyard.services.gateway.live.session import CLOSE_S, SLOW_READER, Ending, Session

PROTOCOL: Final = "switchyard.v1"
TOKEN_PROTOCOL: Final = "bearer."  # noqa: S105 -- the word before a token, not a token
AUTH_S: Final = 5.0
FAULTS: Final = 10
BURST: Final = 5
STRANGERS_PINGS: Final = 10
FRAMES_AFTER_END: Final = 1000
"""That a peer may send which has not read yet that its connection has ended."""
ABNORMAL: Final = 1006
NOT_TEXT: Final = 1003
TOO_MANY_FAULTS: Final = 4400
TOO_MANY_FAILURES: Final = 4429
TRY_LATER: Final = 1013
NO_PLACE: Final = Ending(SLOW_READER, "no place")
REASON_BYTES: Final = 123  # Source: RFC 6455, section 5.5


class Caller(NamedTuple):
    """Who is connected, and by which token."""

    principal: Principal
    token: str


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Speak the live protocol until one side ends it.

    Raises:
        OriginNotAllowedError: a page of an origin opens it that is not in the settings.
        MalformedError: there are parameters.
        RejectedError: the handshake brought a token that does not count, or lets nobody read.
        UnavailableError: there is no place for another connection.
    """
    request.app[CORS].check_socket(request)
    Query(request, acting=False)  # a token in the URL is refused, not passed over
    door = request.app[DOOR]
    token = secret_of(request) or _token_among_protocols(request)
    if token is None:
        # A stranger takes none of the places for those with a token.
        async with _opened(request, door) as connection:
            caller = None if connection is None else await connection.first_message()
            if connection is not None and caller is not None:
                await _in_place(door, connection, caller)
            return web.WebSocketResponse() if connection is None else connection.socket
    caller = Caller(await door.admit(request, token), token)
    async with door.place(), _opened(request, door) as connection:
        if connection is None:
            return web.WebSocketResponse()
        await connection.run(caller)
        return connection.socket


async def _in_place(door: LiveDoor, connection: _Connection, caller: Caller) -> None:
    """Run a connection whose caller has just been let in, if there is a place for it."""
    try:
        async with door.place():
            await connection.run(caller)
    except UnavailableError as error:
        await connection.refuse(message("error", code="unavailable", message=str(error)), NO_PLACE)


@contextlib.asynccontextmanager
async def _opened(request: web.Request, door: LiveDoor) -> AsyncIterator[_Connection | None]:
    """The connection after its handshake; None where the peer is gone already."""
    transport = request.transport
    if transport is None:
        yield None
        return
    socket = web.WebSocketResponse(
        protocols=(PROTOCOL,),
        autoping=False,  # `_Connection` pings, and says why it closes when nothing is answered
        timeout=CLOSE_S,
        max_msg_size=door.settings.socket_message_bytes,
        compress=False,  # a compressor per connection costs more memory than it saves traffic
    )
    await socket.prepare(request)
    try:
        yield _Connection(door, socket, transport, request)
    finally:
        if not socket.closed or socket.close_code in (None, ABNORMAL):
            transport.abort()  # else what the peer did not read would hold the connection open


def _token_among_protocols(request: web.Request) -> str | None:
    """The token of a browser, which can set no header but this."""
    for offered in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        if offered.strip().startswith(TOKEN_PROTOCOL):
            return offered.strip().removeprefix(TOKEN_PROTOCOL)
    return None


class _Connection:
    """One WebSocket from its handshake to its end."""

    def __init__(
        self,
        door: LiveDoor,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        request: web.Request,
    ) -> None:
        self._door = door
        self.socket = self._socket = socket
        self._transport = transport
        self._request = request
        self._faults = self._after_end = 0
        self._rate = door.settings.socket_messages_per_s
        self._allowance = float(self._rate * BURST)
        self._loop = asyncio.get_running_loop()
        self._refilled = self._heard_at = self._loop.time()

    async def run(self, caller: Caller) -> None:
        """Speak until one side ends it."""
        known(self._request)
        async with self._door.session(*caller) as session, asyncio.TaskGroup() as tasks:
            session.put(self._door.hello())
            tasks.create_task(self._write(session, tasks))
            pinging = tasks.create_task(self._ping(session, tasks))
            async for frame in self._socket:
                self._heard_at = self._loop.time()
                await self._read(frame, session)
            pinging.cancel()
            session.end(NORMAL, "")

    async def first_message(self) -> Caller | None:
        """The caller that the first message names; None after closing for want of one."""
        ending, refusal = TOKEN_ENDED, RejectedError("")
        try:
            async with asyncio.timeout(AUTH_S):
                frame = await self._socket.receive()
                for _ in range(STRANGERS_PINGS):
                    if frame.type not in (WSMsgType.PING, WSMsgType.PONG):
                        break
                    await self._answer(frame)
                    frame = await self._socket.receive()
            if frame.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return None
            message = decode(frame.data) if frame.type is WSMsgType.TEXT else None
            if not isinstance(message, Auth):
                raise UnauthenticatedError("the first message must be an auth message", code="token_missing")
            return await self._admitted(message.token)
        except LimitError as error:
            refusal, ending = error, TOO_MANY_FAILURES
        except UnavailableError as error:
            refusal, ending = RejectedError(str(error), code="unavailable"), TRY_LATER
        except TimeoutError:
            refusal = RejectedError(f"no auth message came within {AUTH_S:g} s", code="token_missing")
        except RejectedError as error:
            refusal = error
        await self.refuse(_error(refusal, None), Ending(ending, refusal.code))
        return None

    async def _admitted(self, token: str) -> Caller:
        """The caller that a token names; who brings one that does not count waits as over HTTP.

        Raises:
            RejectedError: it does not count, or lets nobody read.
            LimitError: too many of the address wait, or it asks too often.
            UnavailableError: nobody can say now.
        """
        try:
            return Caller(await self._door.admit(self._request, token), token)
        except UnauthenticatedError:
            guard = self._request.app[CONNECTIONS]
            await guard.failures.wait(guard.address_of(self._request))
            raise

    async def refuse(self, item: Item, ending: Ending) -> None:
        """Say why, and close."""
        with contextlib.suppress(ConnectionError):
            await self._send(item)
        await self._close(ending)

    # --- From the client

    async def _read(self, frame: WSMessage, session: Session) -> None:
        if session.ending is not None:
            self._after_end += 1
            if self._after_end > FRAMES_AFTER_END:
                self._transport.abort()
        elif frame.type in (WSMsgType.PING, WSMsgType.PONG):
            try:
                self._spend()
            except RejectedError as error:
                session.end(TOO_MANY_FAULTS, error.message)
            else:
                await self._answer(frame)
        elif frame.type is WSMsgType.BINARY:
            self._refuse(session, RejectedError("a text frame is expected, not a binary one", code="binary"))
            session.end(NOT_TEXT, "binary frame")
        elif frame.type is WSMsgType.TEXT:
            try:
                self._spend()
                await self._obey(frame.data, session)
            except RejectedError as error:
                self._refuse(session, error, frame.data)
            except UnavailableError as error:
                session.put(
                    message("error", id=claimed_id(frame.data), code="unavailable", message=str(error))
                )

    async def _obey(self, text: str, session: Session) -> None:
        match decode(text):
            case Subscribe() as wish:
                await session.subscribe(wish)
            case Unsubscribe(id=name):
                session.unsubscribe(name)
                session.put(message("unsubscribed", id=name))
            case Ping():
                session.put(message("pong", cursor=session.cursor()))
            case Auth():
                raise RejectedError("the connection has its token already", code="already_authenticated")

    def _spend(self) -> None:
        """Count a message of the client.

        Raises:
            RejectedError: it sends more than it may.
        """
        now = self._loop.time()
        self._allowance = min(self._rate * BURST, self._allowance + (now - self._refilled) * self._rate)
        self._refilled = now
        if self._allowance < 1:
            raise RejectedError(f"more than {self._rate} messages a second", code="rate_limited")
        self._allowance -= 1

    def _refuse(self, session: Session, error: RejectedError, text: str = "") -> None:
        session.put(_error(error, claimed_id(text)))
        self._faults += 1
        if self._faults >= FAULTS:
            session.end(TOO_MANY_FAULTS, f"{FAULTS} messages were refused")

    async def _answer(self, frame: WSMessage) -> None:
        if frame.type is WSMsgType.PING:
            with contextlib.suppress(ConnectionError):
                await self._socket.pong(frame.data)

    # --- To the client

    async def _ping(self, session: Session, tasks: asyncio.TaskGroup) -> None:
        """Ask every now and then whether the peer is there, and end the session when it does not answer."""
        ping_s = self._door.settings.socket_ping_s
        while session.ending is None:
            await asyncio.sleep(ping_s)
            asked_at = self._loop.time()
            tasks.create_task(self._send_ping())  # it may wait for room, as everything does
            await asyncio.sleep(ping_s / 2)
            if self._heard_at < asked_at:
                session.end(SLOW_READER, "slow reader")

    async def _send_ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._socket.ping()

    async def _write(self, session: Session, tasks: asyncio.TaskGroup) -> None:
        def give_up() -> None:
            if session.ending is not None:
                tasks.create_task(self._close(session.ending))

        with contextlib.suppress(ConnectionError):
            while items := await session.take():
                with session.sending(give_up):
                    for item in items:
                        await self._send(item)
        session.end(NORMAL, "")  # where the peer is gone
        if session.ending is not None:
            await self._close(session.ending)

    async def _send(self, item: Item) -> None:
        await self._socket.send_frame(item.body, WSMsgType.TEXT)

    async def _close(self, ending: Ending) -> None:
        """Send the close frame, and wait until the peer has taken it, for as long as it may linger."""
        if self._transport.is_closing():  # the peer is gone, and uvloop refuses calls on what is closed
            return
        breaking = self._loop.call_later(ending.linger_s, self._transport.abort)
        self._transport.set_write_buffer_limits(high=0)  # the wait for room is one for an empty buffer now
        try:
            await self._socket.close(code=ending.code, message=ending.reason.encode()[:REASON_BYTES])
        finally:
            breaking.cancel()


def _error(error: RejectedError, subscription_id: str | None) -> Item:
    return message("error", id=subscription_id, code=error.code, message=error.message, field=error.field)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/ws", handler=plain(websocket), summary="Follow events over a WebSocket",
        headers=("Sec-WebSocket-Protocol", "Origin"), answers={101: None},
        errors=((403, "origin_not_allowed"),), lasts=Lasts.CONNECTION,
    ),
)  # fmt: skip
