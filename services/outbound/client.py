"""An HTTP client for addresses that users give: each connection goes to an address that was judged.

The judgement falls twice, on what a name resolves to, and on the very address that a socket is made for, so
nothing can change between the two. Redirects are not followed, proxies and cookies are not used, and bodies
come as they were sent: one that was packed small cannot unfold here.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from switchyard.services.distribution import version
from switchyard.services.outbound.addresses import AddressPolicy

RESOLVERS: Final = 64
"""Names that are resolved at once; those that hang must not keep the others waiting."""
CHUNK_BYTES: Final = 16 * 1024
LINE_BYTES: Final = 8190


class ForbiddenAddressError(OSError):
    """A name leads to an address that may not be called."""


class AnswerTooLargeError(Exception):
    """An answer has more bytes than it may."""


class _Resolver(AbstractResolver):
    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._pool = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _look_up, host, port, family)
        if not found:
            raise OSError(f"{host} has no address")
        # One that may not be called among others is refused too: it has no business there.
        if not all(self._policy.allows_text(place["host"]) for place in found):
            raise ForbiddenAddressError("the address may not be called")
        return found

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=host, host=str(place[0]), port=port, family=found, proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found, _, proto, _, place in socket.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    ]  # fmt: skip


def client(
    policy: AddressPolicy, *, connections: int, connect_s: float, total_s: float, idle_s: float = 15.0
) -> aiohttp.ClientSession:
    """A session; close it after use. Ask it with `allow_redirects=False`.

    Args:
        policy: judges every address.
        connections: how many may be open at once.
        connect_s: seconds until a connection has to stand.
        total_s: seconds until an answer has to have come whole.
        idle_s: seconds that a connection without a request stays open.
    """

    def make(address: Any) -> socket.socket:
        family, sort, proto, _, place = address
        if not policy.allows_text(str(place[0])):
            raise ForbiddenAddressError("the address may not be called")
        return socket.socket(family=family, type=sort, proto=proto)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=_Resolver(policy),
            use_dns_cache=False,
            socket_factory=make,
            limit=connections,
            keepalive_timeout=idle_s,
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"switchyard/{version()}", "Accept-Encoding": "identity"},
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        raise_for_status=False,
        timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s),
        trust_env=False,
    )


async def bounded(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer.

    Args:
        answer: whose headers have come.
        most: its most bytes.

    Raises:
        AnswerTooLargeError: it has more; the connection is closed then.
        aiohttp.ClientError, TimeoutError: it does not come whole.
    """
    body = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > most:
            answer.close()
            raise AnswerTooLargeError
    return bytes(body)


def is_forbidden(error: BaseException) -> bool:
    """Whether a failed connection failed because of its address."""
    while not isinstance(error, ForbiddenAddressError):
        cause = getattr(error, "os_error", None) or error.__cause__ or error.__context__
        if cause is None or cause is error:
            return False
        error = cause
    return True
