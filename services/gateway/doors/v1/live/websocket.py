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
from switchyard.services.gateway.doors.v1.live.proofs import proof_of
from switchyard.services.gateway.http.connections import CONNECTIONS, known
from switchyard.services.gateway.http.edge.cors import CORS
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.http.routes import Lasts, Parameter, Route, plain
from switchyard.services.gateway.live.admission import DOOR, NORMAL, TOKEN_ENDED, LiveDoor, Proof
from switchyard.services.gateway.live.messages import (
    Auth,
    Item,
    Ping,
    Subscribe,
    Unsubscribe,
    Watch,
    claimed_id,
    decode,
    message,
)
from switchyard.services.gateway.live.session import CLOSE_S, SLOW_READER, Ending, Session
from switchyard.services.gateway.live.socket import Socket

PROTOCOL: Final = "switchyard.v1"
AUTH_S: Final = 5.0
FAULTS: Final = 10
BURST: Final = 5
STRANGERS_PINGS: Final = 10
FRAMES_AFTER_END: Final = 1000
"""That a peer may send which has not read yet that its connection has ended."""
NOT_TEXT: Final = 1003
OWN_CODES: Final = 4000
"""With the status of HTTP that a refusal has elsewhere, its close code."""
TOO_MANY_FAULTS: Final = 4400
TOO_MANY_FAILURES: Final = 4429
TRY_LATER: Final = 1013
NO_PLACE: Final = Ending(SLOW_READER, "no place")


class Caller(NamedTuple):
    """Who is connected, and by what."""

    principal: Principal
    proof: Proof


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Speak the live protocol until one side ends it.

    Raises:
        OriginNotAllowedError: a page of an origin opens it that is not in the settings.
        MalformedError: there are parameters.
        RejectedError: the handshake brought a token that does not count, or lets nobody read.
        UnavailableError: there is no place for another connection.

    To a page, which sends an origin, a close code says all of these instead.
    """
    door = request.app[DOOR]
    async with contextlib.AsyncExitStack() as stack:
        try:
            caller = await _caller(request, door)
            if caller is not None:  # a stranger takes none of the places for those with a token
                await stack.enter_async_context(door.place())
        except (RejectedError, UnavailableError) as error:
            if hdrs.ORIGIN not in request.headers:
                raise
            refusal = error
        else:
            return await _served(request, door, caller)
        return await _refused(request, door, refusal)


async def _served(request: web.Request, door: LiveDoor, caller: Caller | None) -> web.WebSocketResponse:
    async with _opened(request, door) as connection:
        if connection is None:
            return web.WebSocketResponse()
        if caller is not None:
            await connection.run(caller)
        elif (caller := await connection.first_message()) is not None:
            await _in_place(door, connection, caller)
        return connection.socket


async def _caller(request: web.Request, door: LiveDoor) -> Caller | None:
    """Who opens a connection; None where only its first message will say so.

    Raises:
        RejectedError: it may not.
        UnavailableError: nobody can say now.
    """
    request.app[CORS].check_socket(request)
    Query(request, TICKET, acting=False)  # a token in the URL is refused, not passed over
    proof = proof_of(request, door.tickets)
    return None if proof is None else Caller(await door.admit(request, proof), proof)


async def _refused(
    request: web.Request, door: LiveDoor, error: RejectedError | UnavailableError
) -> web.WebSocketResponse:
    """Open the connection of a page only to say why it is closed: a page sees no status of HTTP."""
    if isinstance(error, UnauthenticatedError):
        guard = request.app[CONNECTIONS]
        try:
            await guard.failures.wait(guard.address_of(request))
        except LimitError as limit:
            error = limit
    if isinstance(error, UnavailableError):
        refusal, code = RejectedError(str(error), code="unavailable"), TRY_LATER
    else:
        refusal, code = error, OWN_CODES + error.status
    async with _opened(request, door) as connection:
        if connection is None:
            return web.WebSocketResponse()
        await connection.refuse(_error(refusal, None), Ending(code, refusal.code))
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
        autoclose=False,
        autoping=False,  # `_Connection` pings, and says why it closes when nothing is answered
        timeout=CLOSE_S,
        max_msg_size=door.settings.socket_message_bytes,
        compress=False,  # a compressor per connection costs more memory than it saves traffic
    )
    await socket.prepare(request)
    connection = _Connection(door, socket, transport, request)
    try:
        yield connection
    finally:
        connection.clean_up()


class _Connection(Socket):
    """One WebSocket from its handshake to its end."""

    def __init__(
        self,
        door: LiveDoor,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        request: web.Request,
    ) -> None:
        super().__init__(door.settings, socket, transport)
        self._door = door
        self._request = request
        self._faults = self._after_end = 0
        self._rate = door.settings.socket_messages_per_s
        self._allowance = float(self._rate * BURST)
        self._refilled = self._heard_at

    async def run(self, caller: Caller) -> None:
        """Speak until one side ends it."""
        known(self._request)
        async with self._door.session(*caller) as session, asyncio.TaskGroup() as tasks:
            session.put(self._door.hello())
            tasks.create_task(self.write(session, tasks))
            pinging = tasks.create_task(self.ping(session, tasks))
            with self.reading():
                async for frame in self.socket:
                    self.heard()
                    await self._read(frame, session, caller.principal)
            pinging.cancel()
            session.end(NORMAL, "")

    async def first_message(self) -> Caller | None:
        """The caller that the first message names; None after closing for want of one."""
        ending, refusal = TOKEN_ENDED, RejectedError("")
        try:
            async with asyncio.timeout(AUTH_S):
                frame = await self.socket.receive()
                for _ in range(STRANGERS_PINGS):
                    if frame.type not in (WSMsgType.PING, WSMsgType.PONG):
                        break
                    await self.answer(frame)
                    frame = await self.socket.receive()
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

    # --- From the client

    async def _read(self, frame: WSMessage, session: Session, principal: Principal) -> None:
        if session.ending is not None:
            self._after_end += 1
            if self._after_end > FRAMES_AFTER_END:
                self.abort()
        elif frame.type in (WSMsgType.PING, WSMsgType.PONG):
            try:
                self._spend()
            except RejectedError as error:
                session.end(TOO_MANY_FAULTS, error.message)
            else:
                await self.answer(frame)
        elif frame.type is WSMsgType.BINARY:
            self._refuse(session, RejectedError("a text frame is expected, not a binary one", code="binary"))
            session.end(NOT_TEXT, "binary frame")
        elif frame.type is WSMsgType.TEXT:
            try:
                self._spend()
                await self._obey(frame.data, session, principal)
            except RejectedError as error:
                self._refuse(session, error, frame.data)
            except UnavailableError as error:
                session.put(
                    message("error", id=claimed_id(frame.data), code="unavailable", message=str(error))
                )

    async def _obey(self, text: str, session: Session, principal: Principal) -> None:
        match decode(text):
            case Watch() as watched:
                await session.watch(watched, lambda: self._door.boards.view(principal, watched))
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


def _error(error: RejectedError, subscription_id: str | None) -> Item:
    return message("error", id=subscription_id, code=error.code, message=error.message, field=error.field)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/ws", handler=plain(websocket), summary="Follow events over a WebSocket",
        query=(Parameter(TICKET),), lenient=True, headers=("Sec-WebSocket-Protocol", "Origin"),
        answers={101: None},
        errors=((403, "origin_not_allowed"),), lasts=Lasts.CONNECTION,
    ),
)  # fmt: skip
