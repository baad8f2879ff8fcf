"""Files that a server's result names by URL: fetched, stored as they come, and referred to in their places.

A URL is a stranger's word. It is called only where the rules for servers' addresses allow it, at every
redirect again, and what comes is bounded in number, size and time. The server's credentials go to its own
origins alone.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin

import aiohttp
import msgspec
from yarl import URL

from switchyard.events.errors import InvalidError
from switchyard.events.values import JobError
from switchyard.services.dispatch.push.report import Done, Link
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.client import CHUNK_BYTES, client, is_forbidden
from switchyard.services.outbound.urls import endpoint_url, origins
from switchyard.services.settings import Settings

REDIRECTS: Final = 3
MOVED: Final = frozenset({301, 302, 303, 307, 308})
LASTING: Final = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Answers that do not change by themselves; what the server makes next time has another URL, as a rule."""
STALL_S: Final = 30.0
REFUSED: Final = "output_url_refused"
FAILED: Final = "output_not_fetched"
TOO_LARGE: Final = "output_too_large"
OCTETS: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,80}")


class OutputError(Exception):
    """An output cannot be fetched: what the attempt fails of."""

    def __init__(self, code: str, place: str, what: str, *, retryable: bool) -> None:
        self.error = JobError(code, f"{place}: {what}", retryable)
        super().__init__(self.error.message)


class Coming(NamedTuple):
    """A file whose first bytes have come.

    Args:
        name: as artifacts are named, unlike any other of the result.
        type: its media type.
        size_bytes: how many bytes it has, as far as its server says.
        body: those, which may raise OutputError.
    """

    name: str
    type: str
    size_bytes: int | None
    body: AsyncIterator[bytes]


Keep = Callable[[Coming], Awaitable[dict[str, Any]]]
"""Stores a file: the reference to it, as results have it."""


async def fetched(
    done: Done, keep: Keep, settings: Settings, *, own: tuple[str, ...] = (), headers: Mapping[str, str] = {}
) -> Done:
    """A result with references in the places of its links, whose files are stored.

    Args:
        done: the result.
        keep: stores what comes.
        settings: the networks that may be called, and the bounds.
        own: the origins of the server that gave it.
        headers: its credentials, which only those are sent.

    Raises:
        OutputError: one of them may not be called, does not come, or is too large.
        SwitchyardError: what `keep` raises.
    """
    if not done.links:
        return done
    policy = AddressPolicy(settings.server_networks or ())
    result, stored, known = done.result, list(done.stored), dict[str, Any]()
    place = ""
    try:
        async with asyncio.timeout(settings.push_fetch_s) as until, client(
            policy, connections=2, connect_s=settings.push_connect_s, total_s=settings.push_fetch_s
        ) as session:  # fmt: skip
            fetch = _Fetch(session, policy, settings, own, headers)
            for link in done.links:
                place = place_of(link)
                if link.url not in known:
                    known[link.url] = await fetch.one(link, place, keep)
                    stored.append(known[link.url])
                result = _replaced(result, link.place, known[link.url])
    except TimeoutError:
        if not until.expired():
            raise
        what = f"it has not come within {settings.push_fetch_s:g} s"
        raise OutputError(FAILED, place, what, retryable=True) from None
    return msgspec.structs.replace(done, result=result, stored=tuple(stored), links=())


def place_of(link: Link) -> str:
    """Where a link stands, as people write it: `output.images[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in link.place)
    return "".join(parts).removeprefix(".")


class _Fetch:
    """Fetches the files of one result."""

    def __init__(
        self, session: aiohttp.ClientSession, policy: AddressPolicy, settings: Settings,
        own: tuple[str, ...], headers: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._session = session
        self._policy = policy
        self._most_bytes = settings.file_bytes
        self._times = aiohttp.ClientTimeout(sock_connect=settings.push_connect_s, sock_read=STALL_S)
        self._own = own
        self._headers = headers

    async def one(self, link: Link, place: str, keep: Keep) -> dict[str, Any]:
        url = link.url
        for _ in range(REDIRECTS + 1):
            try:
                url = endpoint_url(url, place, self._policy)
            except InvalidError as error:
                what = error.message.removeprefix(f"{place}: ")
                raise OutputError(REFUSED, place, what, retryable=False) from None
            try:
                answer = await self._asked(url)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _fault(error, place) from error
            async with answer:
                if answer.status not in MOVED:
                    return await self._kept(link, place, answer, keep)
                answer.close()
                url = urljoin(url, answer.headers.get("Location", ""))
        raise OutputError(FAILED, place, f"it redirects more than {REDIRECTS} times", retryable=False)

    async def _asked(self, url: str) -> aiohttp.ClientResponse:
        is_own = origins((url,))[0] in self._own
        return await self._session.get(
            url, headers=self._headers if is_own else None, allow_redirects=False, timeout=self._times
        )

    async def _kept(
        self, link: Link, place: str, answer: aiohttp.ClientResponse, keep: Keep
    ) -> dict[str, Any]:
        if not 200 <= answer.status < 300:
            answer.close()
            what = f"its server answers {answer.status}"
            raise OutputError(FAILED, place, what, retryable=answer.status not in LASTING)
        size = answer.content_length
        if size is not None and size > self._most_bytes:
            answer.close()
            raise self._too_large(place)
        media_type = _type_of(answer)
        name = f"output-{link.number}{mimetypes.guess_extension(media_type) or '.bin'}"
        return await keep(Coming(name, media_type, size, self._body(answer, place)))

    async def _body(self, answer: aiohttp.ClientResponse, place: str) -> AsyncIterator[bytes]:
        came = 0
        try:
            async for block in answer.content.iter_chunked(CHUNK_BYTES):
                came += len(block)
                if came > self._most_bytes:
                    answer.close()
                    raise self._too_large(place)
                yield block
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _fault(error, place) from error

    def _too_large(self, place: str) -> OutputError:
        return OutputError(TOO_LARGE, place, f"it has more than {self._most_bytes} bytes", retryable=False)


def _fault(error: BaseException, place: str) -> OutputError:
    if is_forbidden(error):
        return OutputError(REFUSED, place, "its address may not be called", retryable=False)
    return OutputError(FAILED, place, f"it could not be fetched: {type(error).__name__}", retryable=True)


def _type_of(answer: aiohttp.ClientResponse) -> str:
    """The media type as the answer says it, or as the end of the path does where that says nothing."""
    said = answer.content_type.lower()
    if _TYPE.fullmatch(said) and said != OCTETS:
        return said
    return mimetypes.guess_type(URL(answer.url).path)[0] or OCTETS


def _replaced(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a JSON value with another one at a place."""
    if not place:
        return new
    first, rest = place[0], place[1:]
    if isinstance(value, dict):
        return {key: _replaced(one, rest, new) if key == first else one for key, one in value.items()}
    return [_replaced(one, rest, new) if index == first else one for index, one in enumerate(value)]
