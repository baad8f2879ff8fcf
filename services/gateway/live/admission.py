"""How many live connections there are, how long each may last, and how all of them end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from aiohttp import web

from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.access.browsers.tickets import LiveTickets, Ticket
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.http.identity import Doorkeeper
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.live.messages import VERSION, Item, message
from switchyard.services.gateway.live.previews import JOBS_OF_CONNECTION
from switchyard.services.gateway.live.session import GOING_AWAY, Session
from switchyard.services.gateway.live.watch.board import Boards

NORMAL: Final = 1000
TOKEN_ENDED: Final = 4401
FULL_RETRY_S: Final = 5.0

S = TypeVar("S", bound=Session)
Proof = str | Ticket
"""What a reader is let in by: a token or key, or a ticket."""


class LiveDoor:
    """Lets readers in and sees them out; one per gateway process.

    Args:
        feed: running.
        doorkeeper: judges tokens and keys, at the start and as long as the connection lasts.
        boards: what can be watched beside jobs; running.
        tickets: what pages come with.
    """

    def __init__(self, feed: LiveFeed, doorkeeper: Doorkeeper, boards: Boards, tickets: LiveTickets) -> None:
        self.feed = feed
        self.tickets = tickets
        self.boards = boards
        self.settings = feed.settings
        self._doorkeeper = doorkeeper
        self.connections = 0
        self._sessions: set[Session] = set()
        self._closing = False

    async def admit(self, request: web.Request, proof: Proof) -> Principal:
        """The reader that a token or key names, or a ticket, which is used up then.

        Raises:
            UnauthenticatedError: it does not count.
            ForbiddenError: it does not let its holder read.
            RateLimitedError: its holder asks too often.
            UnavailableError: nobody can say now.
        """
        principal = await self._holder(proof)
        self._doorkeeper.count(request, principal)
        principal.check(Role.VIEWER)
        if isinstance(proof, Ticket):
            await self.tickets.use(proof)
        return principal

    async def _holder(self, proof: Proof) -> Principal:
        if isinstance(proof, Ticket):
            return await self.tickets.principal(proof)
        return await self._doorkeeper.identifiers.identify(proof)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places for live connections; waits a little while the gateway is starting.

        Raises:
            UnavailableError: none is free, the gateway is stopping, or it cannot read the log.
        """
        with self.feed.needed():
            try:
                async with asyncio.timeout(self.settings.request_timeout_s):
                    await self.feed.ready.wait()
            except TimeoutError:
                raise UnavailableError("the event log cannot be read yet") from None
            if self._closing:
                raise UnavailableError("the gateway is stopping")
            if self.connections >= self.settings.sockets:
                raise UnavailableError(
                    f"all {self.settings.sockets} live connections are in use", retry_after_s=FULL_RETRY_S
                )
            self.connections += 1
            try:
                yield
            finally:
                self.connections -= 1

    def session(self, principal: Principal, proof: Proof) -> contextlib.AbstractAsyncContextManager[Session]:
        """A session that ends when its token does, when the gateway stops, or with the block."""
        return self.session_of(principal, proof, Session)

    @contextlib.asynccontextmanager
    async def session_of(
        self,
        principal: Principal,
        proof: Proof | None,
        made: Callable[[LiveFeed, Principal, asyncio.TaskGroup], S],
    ) -> AsyncIterator[S]:
        """The same, of one's own kind.

        Args:
            principal: whose.
            proof: what may be revoked; None where nothing can.
            made: makes it of the feed, the principal and the tasks that last as long as it.
        """
        async with asyncio.TaskGroup() as tasks:
            session = made(self.feed, principal, tasks)
            if isinstance(proof, Ticket) and proof.claims.job:
                session.only = proof.claims.job
            guard = tasks.create_task(self._guard(session, principal, proof))
            self._sessions.add(session)
            if self._closing:
                self._see_out(session)
            try:
                yield session
            finally:
                session.end(NORMAL, "")
                guard.cancel()
                self._sessions.discard(session)

    async def _guard(self, session: Session, principal: Principal, proof: Proof | None) -> None:
        """End the session when its token expires, or within a ping's time after it was revoked."""
        while session.ending is None:
            left_s = principal.expires_at - clock.time_s()
            await asyncio.sleep(max(0.0, min(left_s, self.settings.socket_ping_s)))
            if proof is None:
                if principal.expires_at <= clock.time_s():
                    session.end(TOKEN_ENDED, "token_expired")
                continue
            try:
                await self._holder(proof)
            except UnauthenticatedError as error:
                session.end(TOKEN_ENDED, error.code)
            except UnavailableError:
                continue  # it counted a moment ago

    def hello(self) -> Item:
        """The first message: which version is spoken, which log is read and how far, and the limits."""
        settings = self.settings
        limits = {
            "subscriptions": settings.socket_subscriptions,
            "buffer": settings.socket_buffer,
            "buffer_bytes": settings.socket_buffer_bytes,
            "message_bytes": settings.socket_message_bytes,
            "messages_per_s": settings.socket_messages_per_s,
            "ping_s": settings.socket_ping_s,
            "preview_jobs": JOBS_OF_CONNECTION,
        }
        feed = self.feed
        return message(
            "hello", version=VERSION, stream=feed.stream_id, head=feed.cursor(feed.head), limits=limits
        )

    def close(self) -> None:
        """Let nobody in any more, and end every session after what is queued for it was sent."""
        self._closing = True
        for session in list(self._sessions):
            self._see_out(session)

    def _see_out(self, session: Session) -> None:
        cursor = session.cursor()
        session.end(GOING_AWAY, "shutdown" if cursor is None else f"shutdown; resume after {cursor}")


DOOR: Final = web.AppKey("live_door", LiveDoor)
