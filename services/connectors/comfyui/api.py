"""The routes of a ComfyUI server, with a bound on every wait and on every answer.

Source: the routes of ComfyUI 0.3.64 and 0.33.0, whose answers were recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

MIB: Final = 1024**2
ANSWER_BYTES: Final = 64 * MIB
FRAME_BYTES: Final = 16 * MIB
LARGE_BYTES: Final = 256 * 1024
"""Answers of more bytes are parsed outside the event loop."""
CHUNK_BYTES: Final = 256 * 1024
CONNECT_S: Final = 5.0
HEARTBEAT_S: Final = 5.0
"""Between two pings of a WebSocket; one that is gone without a word is noticed after one and a half."""


class AwayError(Exception):
    """The server did not answer, or not as ComfyUI does.

    Args:
        message: for people, without its address.
        refused: whether nobody listens there.
        answered: whether it answers, but not as ComfyUI does.
    """

    def __init__(self, message: str, *, refused: bool = False, answered: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.answered = answered


class TooLargeError(Exception):
    """A file has more bytes than it may."""


class Answer(NamedTuple):
    """A status with the body that came with it."""

    status: int
    body: bytes


class Api:
    """A client of one server; it connects when it is first asked.

    Args:
        url: without a slash at its end.
        answer_s: seconds that an answer may take.
        stall_s: seconds in which nothing of a file on its way may come.
        alive: called with each answer.
    """

    def __init__(self, url: str, *, answer_s: float, stall_s: float, alive: Callable[[], None]) -> None:
        self._url = url
        self._answer_s = answer_s
        self._stall_s = stall_s
        self._alive = alive
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def _http(self) -> aiohttp.ClientSession:
        if self._closed:
            raise AwayError("the connector is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=False),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    # --- JSON

    async def ask(self, method: str, path: str, body: Any = None, *, answer_s: float | None = None) -> Answer:
        """Ask once.

        Raises:
            AwayError: it did not answer in time, or with too much.
        """
        seconds = self._answer_s if answer_s is None else answer_s
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_S, seconds))
        data = None if body is None else orjson.dumps(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        async with self._requested(method, path, timeout, data=data, headers=headers) as response:
            return Answer(response.status, await _read(response, ANSWER_BYTES))

    async def get(self, path: str, *, answer_s: float | None = None) -> Any:
        """The JSON value that a path has.

        Raises:
            AwayError: as `ask`, or the answer is another than 200 with JSON.
        """
        status, body = await self.ask("GET", path, answer_s=answer_s)
        if status != 200:
            raise AwayError(f"it answers {status} to {path.partition('?')[0]}", answered=True)
        return await parsed(body)

    @asynccontextmanager
    async def _requested(
        self, method: str, path: str, limits: aiohttp.ClientTimeout, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._http().request(
                method, self._url + path, timeout=limits, allow_redirects=False, **more
            ) as response:
                self._alive()
                yield response
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            raise AwayError(
                "nobody listens there" if refused else "it cannot be reached", refused=refused
            ) from None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise AwayError("it does not answer in time") from None
            raise AwayError(f"the connection failed ({type(error).__name__})") from None
        except RuntimeError:
            if not self._closed:
                raise
            raise AwayError("the connector is closed") from None

    # --- Files

    async def upload(self, path: Path, name: str, subfolder: str) -> Answer:
        """Give it an input file; one of the same name and content stays as it is.

        Raises:
            AwayError: it did not take it.
        """
        with await asyncio.to_thread(path.open, "rb") as file:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("type", "input")
            form.add_field("subfolder", subfolder)
            form.add_field("image", file, filename=name, content_type="application/octet-stream")
            timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=self._stall_s)
            async with self._requested("POST", "/upload/image", timeout, data=form) as response:
                return Answer(response.status, await _read(response, MIB))

    async def download(
        self, query: Mapping[str, str], to: Path, most_bytes: int, moved: Callable[[], None]
    ) -> int:
        """Stream a file of it to `to`; the status.

        Raises:
            AwayError: it broke off, or nothing came for too long.
            TooLargeError: it has more than `most_bytes`.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=self._stall_s)
        async with self._requested("GET", "/view", timeout, params=query) as response:
            if response.status != 200:
                return response.status
            if (response.content_length or 0) > most_bytes:
                raise TooLargeError
            size = 0
            with await asyncio.to_thread(to.open, "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    size += len(chunk)
                    if size > most_bytes:
                        raise TooLargeError
                    await asyncio.to_thread(file.write, chunk)
                    moved()
            return 200

    # --- WebSocket

    @asynccontextmanager
    async def socket(self, client_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The events that are sent to a client.

        Raises:
            AwayError: it cannot be connected to.
        """
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
        try:
            async with asyncio.timeout(self._answer_s):
                socket = await self._http().ws_connect(
                    f"{self._url}/ws", params={"clientId": client_id}, heartbeat=HEARTBEAT_S,
                    max_msg_size=FRAME_BYTES, timeout=timeout,
                )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RuntimeError) as error:
            raise AwayError(f"its events cannot be followed ({type(error).__name__})") from None
        try:
            self._alive()
            yield socket
        finally:
            await socket.close()


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > most_bytes:
            raise AwayError("its answer is too large", answered=True)
    return bytes(body)


async def parsed(body: bytes) -> Any:
    """A body as JSON; Python's NaN and Infinity, which ComfyUI writes where nodes have them, are read too.

    Raises:
        AwayError: it is no JSON.
    """
    try:
        return await asyncio.to_thread(_parsed, body) if len(body) > LARGE_BYTES else _parsed(body)
    except (ValueError, RecursionError):
        raise AwayError("its answer is no JSON", answered=True) from None


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return json.loads(body, parse_constant=lambda _: None)
