"""Calls of an engine's API: bounded in time and size, and judged by their status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, TypeVar, cast

import aiohttp
import orjson

from switchyard.services import clock
from switchyard.services.connectors.convert.engines.protocol import REFUSED, AwayError, HeldError
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.client import client

# An operator says where engines are, so they may be anywhere but where nobody has business.
ANYWHERE: Final = AddressPolicy((ip_network("0.0.0.0/0"), ip_network("::/0")))
CONNECTIONS: Final = 100
CONNECT_S: Final = 10.0
CHUNK_BYTES: Final = 256 * 1024
SMALL_BYTES: Final = 1024**2
"""What an answer may have that is no document."""
SHOWN_CHARS: Final = 300
TRIES: Final = 3
HELD_S: Final = 10.0
"""For which an engine is left alone that asks for it without saying for how long."""
MOST_HELD_S: Final = 3_600.0
MESSAGES: Final = ("message", "detail", "error", "msg", "error_message")
_SECONDS: Final = re.compile(r"\s*[0-9]{1,9}(\.[0-9]{0,9})?\s*")
FOR_LONG: Final = {
    401: "it does not take the key", 402: "it wants to be paid", 403: "it does not take the key",
    404: "it has no such route; is the url right?", 405: "it has no such route; is the url right?",
}  # fmt: skip
"""Statuses that say nothing about the document, and come again."""

Answered = TypeVar("Answered")


class Answer(NamedTuple):
    """What was answered.

    Args:
        status: of HTTP.
        retry_after: the header, if there is one.
        body: the bytes; b"" where they were written to a file.
    """

    status: int
    retry_after: str | None
    body: bytes


class TooLargeError(Exception):
    """An answer has more bytes than it may."""


class Http:
    """A client of one engine.

    Args:
        name: that of the engine, for people.
        url: where it is, without a slash at its end.
        headers: what each call has.
        key: what is in no message.
        answer_s: seconds that an answer may take.
    """

    def __init__(self, name: str, url: str, *, headers: Mapping[str, str], key: str, answer_s: float) -> None:
        self.name = name
        self._url = url
        self._headers = headers
        self._key = key
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def ask(self, method: str, path: str, **body: Any) -> Answer:
        """Ask for something small.

        Raises:
            AwayError: there is no whole answer.
        """
        async with self._requested(method, path, **body) as response:
            return await self._small(response)

    async def download(self, method: str, path: str, *, to: Path, most_bytes: int, **body: Any) -> Answer:
        """Ask for what may be large; with status 200 it is written to a file.

        Raises:
            AwayError: there is no whole answer.
            TooLargeError: it has more bytes.
        """
        async with self._requested(method, path, **body) as response:
            if response.status != 200:
                if 200 <= response.status < 300:
                    raise AwayError(f"it answers {response.status} without a document")
                return await self._small(response)
            if (response.content_length or 0) > most_bytes:
                raise TooLargeError
            size = 0
            with opened(to, "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    size += len(chunk)
                    if size > most_bytes:
                        raise TooLargeError
                    await asyncio.to_thread(file.write, chunk)
            return Answer(200, None, b"")

    async def _small(self, response: aiohttp.ClientResponse) -> Answer:
        body = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > SMALL_BYTES:
                raise AwayError(f"its answer ({response.status}) has more than {SMALL_BYTES} bytes")
        return Answer(response.status, response.headers.get("Retry-After"), bytes(body))

    @asynccontextmanager
    async def _requested(self, method: str, path: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._closed:
            raise AwayError("the connector is closed", asked=False)
        if self._session is None:
            self._session = client(
                ANYWHERE, connections=CONNECTIONS, connect_s=CONNECT_S, total_s=self._answer_s
            )
        try:
            async with self._session.request(
                method, self._url + path, headers=self._headers, allow_redirects=False, **body
            ) as response:
                yield response
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            why = "nobody listens there" if refused else "it cannot be reached"
            raise AwayError(why, asked=False) from None
        except TimeoutError:
            raise AwayError(f"it does not answer within {self._answer_s:g} s") from None
        except aiohttp.ClientError as error:
            raise AwayError(f"the connection failed ({type(error).__name__})") from None
        except RuntimeError:
            if not self._closed:
                raise
            raise AwayError("the connector is closed", asked=False) from None

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    # --- What an answer amounts to

    def judge(self, answer: Answer) -> None:
        """Refuse what is no success.

        Raises:
            HeldError: 429, or 503 with a time.
            AwayError: it fails, or does not take the call for a reason that is not the document's.
            FatalError: code `document_refused`.
        """
        status = answer.status
        if 200 <= status < 300:
            return
        if status == 429 or (status == 503 and answer.retry_after):
            raise HeldError(
                "its limit is reached" if status == 429 else "it is overloaded",
                retry_after_s(answer.retry_after),
            )
        if status in FOR_LONG or 300 <= status < 400:
            raise AwayError(f"{FOR_LONG.get(status, 'it is elsewhere')} ({status})", for_long=True)
        said = self.said(answer.body)
        if status >= 500 or status in (408, 425):
            raise AwayError(f"it answers {status}{said}")
        raise FatalError(REFUSED, f"{self.name} refuses the document with {status}{said}")

    def said(self, body: bytes) -> str:
        """What the body of an error says, in a line, without the key."""
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            return ""
        text = _message(found)
        return f": {self.shown(text)}" if text else ""

    def shown(self, text: str) -> str:
        """A text of the engine as it may stand in a message."""
        text = " ".join(text.split())
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        return (text.replace(self._key, "***") if self._key else text)[:SHOWN_CHARS]


def opened(path: Path, mode: Literal["rb", "wb"] = "rb") -> IO[bytes]:
    """A file here; a thread that opens it would leave it open where the call is cancelled meanwhile."""
    return cast("IO[bytes]", path.open(mode))


def _message(said: Any) -> str:
    """The text of an error, which APIs put at various depths."""
    for _ in range(3):
        name = next((one for one in MESSAGES if isinstance(said, dict) and said.get(one)), None)
        if name is None:
            return ""
        said = said[name]
        if not isinstance(said, dict):
            return said if isinstance(said, str) else orjson.dumps(said).decode()
    return ""


def parsed(answer: Answer) -> dict[str, Any]:
    """The JSON object that a small answer is.

    Raises:
        AwayError: it is none.
    """
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise AwayError("its answer is no JSON") from None
    if not isinstance(found, dict):
        raise AwayError("its answer is no JSON object")
    return found


def retry_after_s(text: str | None) -> float:
    """Seconds of a Retry-After, in either of its forms, between 1 and an hour."""
    if text is None:
        return HELD_S
    if _SECONDS.fullmatch(text):
        return min(MOST_HELD_S, max(1.0, float(text)))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return HELD_S
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(MOST_HELD_S, max(1.0, (at - clock.now()).total_seconds()))


async def again(call: Callable[[], Awaitable[Answered]], *, pause_s: float, wait_s: float) -> Answered:
    """Make a call that may be made again until it works, a few times.

    Args:
        call: the call.
        pause_s: seconds before the second time, half of those before the third.
        wait_s: seconds for which it waits in all where the engine asks for that.

    Raises:
        AwayError, HeldError: as the last one raised it.
    """
    failed = 0
    while True:
        try:
            return await call()
        except AwayError as error:
            failed += 1
            if error.for_long or failed >= TRIES:
                raise
            await asyncio.sleep(pause_s * failed)
        except HeldError as error:
            wait_s -= error.seconds
            if wait_s < 0:
                raise
            await asyncio.sleep(error.seconds)
