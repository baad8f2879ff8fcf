"""Who may hold connections: shares per address, limits of time, and room for those with a token."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any, Final

import structlog
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from switchyard.events.errors import LimitError
from switchyard.services.gateway.http.edge.guards import dress
from switchyard.services.gateway.http.edge.request_ids import request_id
from switchyard.services.gateway.http.problems import http_problem
from switchyard.services.settings import Settings
from switchyard.services.telemetry.unbranded import Unbranded

log = structlog.get_logger()

RESERVED: Final = 128
"""Descriptors that are left for the broker, the read model, files and what Python opens."""
FREE_FAILURES: Final = 50
FAILURES_PER_S: Final = 10.0
MOST_WAIT_S: Final = 5.0
LINGERS_S: Final = 60.0
"""How long what lasts may wait at its end for a reader to take the reason."""
MOST_ADDRESSES: Final = 10_000
SERVERS_FAULT: Final = 500
SHOWN_CHARS: Final = 200
V6_NETWORK: Final = 64  # what one customer has. Source: RFC 6177


def raise_descriptors() -> int:
    """Let this process open as many descriptors as it may; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 2**31


def network(address: str) -> str:
    """What counts as one address: a whole network where a customer has one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, V6_NETWORK), strict=False))
    return str(found)


class Failures:
    """Slows log-ins that fail, per address; one that succeeds never waits.

    Each address may fail so often at once and so often a second; what goes beyond waits, and what would
    wait long is refused. The addresses that failed last are remembered.
    """

    def __init__(self) -> None:
        self._free_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._free_at)

    async def wait(self, address: str) -> None:
        """Wait after a failure.

        Raises:
            LimitError: 429, too many of the address wait.
        """
        now = time.monotonic()
        free_at = max(self._free_at.pop(address, now), now)
        wait_s = free_at - now - FREE_FAILURES / FAILURES_PER_S
        self._free_at[address] = free_at if wait_s > MOST_WAIT_S else free_at + 1 / FAILURES_PER_S
        if len(self._free_at) > MOST_ADDRESSES:
            self._free_at.popitem(last=False)
        if wait_s > MOST_WAIT_S:
            message = "too many log-ins from this address have failed"
            raise LimitError(message, code="too_many_failures", retry_after_s=MOST_WAIT_S)
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class Connections:
    """The connections of a gateway.

    Args:
        settings: how many there may be, and whose word on addresses counts.
        descriptors: how many files the process may open.
    """

    def __init__(self, settings: Settings, descriptors: int) -> None:
        self.settings = settings
        self.failures = Failures()
        self._most = max(1, min(settings.connections, descriptors - RESERVED))
        self._share = max(1, min(settings.address_connections, self._most * 3 // 4))
        self._trusted = [ipaddress.ip_network(proxy, strict=False) for proxy in settings.trusted_proxies]
        self._count = 0
        self._counts: Counter[str] = Counter()
        # Those without a token, the oldest first: all, and by address.
        self._strangers: OrderedDict[GuardedHandler, None] = OrderedDict()
        self._strangers_of: dict[str, OrderedDict[GuardedHandler, None]] = {}
        self._requests: Counter[str] = Counter()

    def open(self, handler: GuardedHandler) -> bool:
        """Count a connection; False if there is no room, even after one without a token was closed."""
        address = handler.address
        limited = not self.is_trusted(address)
        if limited and self._counts[address] >= self._share:
            oldest = next(iter(self._strangers_of.get(address, ())), None)
        elif self._count >= self._most:
            oldest = next(iter(self._strangers), None)
        else:
            oldest = handler
        if oldest is None:
            return False
        if oldest is not handler:
            self.close(oldest)
            oldest.abort()
        self._count += 1
        self._counts[address] += 1
        self._strangers[handler] = None
        self._strangers_of.setdefault(address, OrderedDict())[handler] = None
        handler.is_counted = True
        return True

    def close(self, handler: GuardedHandler) -> None:
        """Count a connection no more."""
        if not handler.is_counted:
            return
        handler.is_counted = False
        self.know(handler)
        self._count -= 1
        _less(self._counts, handler.address)

    def know(self, handler: GuardedHandler) -> None:
        """A connection has shown a token that counts: it is not closed to make room."""
        self._strangers.pop(handler, None)
        mine = self._strangers_of.get(handler.address)
        if mine is not None:
            mine.pop(handler, None)
            if not mine:
                del self._strangers_of[handler.address]

    def is_trusted(self, address: str) -> bool:
        """Whether it is a proxy whose word on its clients' addresses counts."""
        if not self._trusted:
            return False
        try:
            found = ipaddress.ip_address(address.partition("/")[0])
        except ValueError:
            return False
        return any(found in proxy for proxy in self._trusted)

    def address_of(self, request: web.Request) -> str:
        """Who sends a request: the peer, or whom trusted proxies name, the last that is none of them."""
        address = network(request.remote or "")
        if self.is_trusted(address):
            # A proxy may add a line of its own; the last of all lines is the one that it wrote.
            lines = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
            for named in reversed(",".join(lines).split(",")):
                if not named.strip():
                    break
                address = network(named.strip())
                if not self.is_trusted(address):
                    break
        return address

    @property
    def has_proxies(self) -> bool:
        """Whether any proxy's word on its clients' addresses counts."""
        return bool(self._trusted)

    @contextlib.contextmanager
    def request(self, client: str | None) -> Iterator[None]:
        """Count a request that came through a proxy, which stands for a connection of its client.

        Raises:
            LimitError: 429, the address has as many as it may.
        """
        if client is None:
            yield
            return
        if self._requests[client] >= self._share:
            message = f"this address has {self._share} requests under way, which is its share"
            raise LimitError(message, code="too_many_connections", retry_after_s=1.0)
        self._requests[client] += 1
        try:
            yield
        finally:
            _less(self._requests, client)


def _less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]


class GuardedHandler(RequestHandler):
    """A connection that is counted, and closed when a request's headers do not come in time."""

    def __init__(self, guard: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.guard = guard
        self.door = ""
        """The one door that is behind its listener; "" where all are."""
        self.address = ""
        self.is_counted = False
        self._headers_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None
        settings = guard.settings
        # What lasts, such as a live view, has bounds of its own, which are shorter.
        self._stalls_s = settings.transfer_idle_s + 2 * settings.socket_ping_s + LINGERS_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, if there is room."""
        peer = transport.get_extra_info("peername")
        self.address = network(str(peer[0])) if peer else ""
        super().connection_made(transport)
        if not self.guard.open(self):
            self.abort()
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time for headers runs while some of them are there and some are missing."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before or self._upgraded:
            if self._headers_timer is not None:
                self._headers_timer.cancel()
                self._headers_timer = None
        elif self._current_request is None and self._waiter is not None and self._headers_timer is None:
            self._await_headers()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and what else the server itself refuses, as every error is answered."""
        detail = (message or "").partition("\n")[0].rstrip(":")[:SHOWN_CHARS]
        if isinstance(exc, ConnectionError) and self.transport is None:
            log.debug("request_broken_off", error=str(exc))  # the client is gone: nobody reads the answer
        elif status >= SERVERS_FAULT or request.writer.output_size > 0:
            super().handle_error(request, status, exc, message)  # logs it, or raises where an answer is out
            detail = "the request failed for a reason that is in the log"
        response = http_problem(status, detail).answer(None, request_id(request), Unbranded)
        dress(request, response.headers)
        response.force_close()
        return response

    def pause_writing(self) -> None:
        """The peer takes nothing now; one that goes on so holds its answer no longer."""
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        """The peer has taken what there was."""
        super().resume_writing()
        self._forget_stall()

    def _watch_stall(self, before: int | None = None) -> None:
        """Look after a while whether any of what waits was taken, and end the connection if not."""
        self._forget_stall()
        transport = self.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            return
        waits = transport.get_write_buffer_size()
        if before is not None and waits >= before:
            log.info("answer_broken_off", error="stalled", size_bytes=waits)
            transport.abort()
            return
        self._stalled_timer = self._loop.call_later(self._stalls_s, self._watch_stall, waits)

    def _forget_stall(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self.guard.close(self)
        self._forget_stall()
        if self._headers_timer is not None:
            self._headers_timer.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """End the connection at once."""
        transport = self.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()

    def _await_headers(self) -> None:
        self._headers_timer = self._loop.call_later(self.guard.settings.headers_s, self.abort)


class GuardedSite(web.TCPSite):
    """A place that the gateway listens at.

    Args:
        runner: that of the application.
        guard: the connections of all places.
        host: the address.
        port: 0 takes a free one.
        door: the one door that is there; "" for all.
        options: those of a connection.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        guard: Connections,
        host: str,
        port: int,
        *,
        door: str = "",
        **options: Any,
    ) -> None:
        super().__init__(runner, host, port)
        self._guard = guard
        self._door = door
        self._options = options

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None

        def accept() -> GuardedHandler:
            handler = GuardedHandler(self._guard, server, loop=loop, **self._options)
            handler.door = self._door
            return handler

        self._server = await loop.create_server(accept, self._host, self._port, backlog=self._backlog)


CONNECTIONS: Final = web.AppKey("connections", Connections)


def door_of(request: web.Request) -> str:
    """The one door that is behind the listener of a request; "" where all are."""
    return request.protocol.door if isinstance(request.protocol, GuardedHandler) else ""


def known(request: web.Request) -> None:
    """The caller has shown a token that counts."""
    if isinstance(handler := request.protocol, GuardedHandler):
        handler.guard.know(handler)
