"""Requests, and when they are sent again."""

from __future__ import annotations

import asyncio
import io
import os
import random
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from switchyard._client.connection import Connection
from switchyard._client.json import body_json
from switchyard.errors import ApiError, UnreachableError, api_error

CONNECT_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
AGAIN: Final = frozenset({429, 502, 503, 504})
SPENT: Final = "quota_spent"
"""The code of a 429 that stays for a day or a month."""
LOST: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)

of_parents: Final[list[object]] = []
"""What a forked process has of its parent's and must not end, as the garbage collector would."""

Body = Callable[[], AsyncIterable[bytes]] | bytes | None
"""A body, or what makes it again for every try."""


class Pauses:
    """Counts the tries of one call and waits between them: twice as long each time, with jitter."""

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._retries = retries

    def reset(self) -> None:
        """Begin again: there was progress."""
        self._left = self._retries

    @property
    def are_left(self) -> bool:
        """Whether any try is left."""
        return self._left > 0

    def another(self, error: Exception) -> bool:
        """Whether to try again after this error."""
        if isinstance(error, ApiError):
            asked_s = error.retry_after_s or 0.0
            if error.code == SPENT:
                return False
            return self._left > 0 and error.status in AGAIN and asked_s <= LONGEST_PAUSE_S
        return self._left > 0

    async def wait(self, error: Exception) -> None:
        """Wait before the next try, at least as long as the gateway asks."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._retries - self._left))
        self._left -= 1
        pause_s *= 0.5 + random.random() / 2  # noqa: S311 - spreads retries, guards nothing
        asked_s = error.retry_after_s if isinstance(error, ApiError) else None
        await asyncio.sleep(max(pause_s, asked_s or 0.0))


class Transport:
    """A session with one gateway, opened when first used.

    Args:
        connection: where, and with which token.
        timeout_s: for one try of a call; a transfer may take longer while bytes move.
        retries: how often a call that may be repeated is sent again.
    """

    def __init__(self, connection: Connection, *, timeout_s: float, retries: int) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.retries = retries
        self._session: aiohttp.ClientSession | None = None
        self._pid = os.getpid()
        _transports.add(self)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; it has no limit of connections, for a stream and a long wait hold one each.

        A process that was forked since has one of its own.
        """
        self._leave_parents()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self.connection.token}"},
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session

    async def close(self) -> None:
        """Close the session."""
        self._leave_parents()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _leave_parents(self) -> None:
        """Forget the session of the process that this one was forked from.

        It is neither used nor closed: its sockets, and what waits for them, are still the parent's.
        """
        if self._pid == os.getpid():
            return
        if self._session is not None:
            connector = self._session.connector
            self._session.detach()
            if connector is not None:
                connector._closed = True  # noqa: SLF001 - else the garbage collector closes it
            of_parents.append(connector)
        self._session, self._pid = None, os.getpid()

    def pauses(self) -> Pauses:
        """The pauses of a new call."""
        return Pauses(self.retries)

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error for the lack of an answer."""
        why = str(error) or "no answer in time"
        return UnreachableError(f"the gateway at {self.connection.url} cannot be reached ({why})")

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        body: io.BytesIO | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own notion, with several parts
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One try: the answer, to be read within the block.

        Raises:
            ApiError: the gateway refuses.
        """
        limits = timeout or aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=CONNECT_S)
        async with self.session.request(
            method, self.connection.url + path, params=params, data=body, headers=headers, timeout=limits
        ) as answer:
            if answer.status >= 400:
                raise await refusal(answer)
            yield answer

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        json: Any = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own notion, with several parts
    ) -> bytes:
        """The answer's body.

        Args:
            method: of HTTP.
            path: with its slash.
            params: the query.
            json: the body as a value.
            body: the body as bytes.
            headers: beside those of every request.
            again: whether the request may be repeated without doing anything twice.
            timeout: if not the transport's own.

        Raises:
            InvalidValueError: `json` cannot be sent.
            ApiError: the gateway refuses.
            UnreachableError: it does not answer.
        """
        sent = dict(headers or {})
        if json is not None:
            body = body_json(json)
            sent["Content-Type"] = "application/json"
        pauses = self.pauses()
        while True:
            data = io.BytesIO(body) if isinstance(body, bytes) else body and body()
            try:
                async with self.open(
                    method, path, params=params, body=data, headers=sent, timeout=timeout
                ) as answer:
                    return await answer.read()
            except (ApiError, *LOST) as error:
                if not again or not pauses.another(error):
                    if isinstance(error, ApiError):
                        raise
                    raise self.unreachable(error) from error
                failed: Exception = error
            await pauses.wait(failed)


async def refusal(answer: aiohttp.ClientResponse) -> ApiError:
    """The exception of an answer that is an error."""
    try:
        problem = msgspec.json.decode(await answer.read(), type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    asked = answer.headers.get("Retry-After", "")
    retry_after_s = float(asked) if asked.isdecimal() else None
    return api_error(answer.status, problem, retry_after_s=retry_after_s)


_transports: Final[weakref.WeakSet[Transport]] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport._leave_parents()  # noqa: SLF001 - our own


os.register_at_fork(after_in_child=_after_fork)
