"""A model file, from its address to a file on disk whose bytes are those of the catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin

import aiohttp

from switchyard.events.errors import InvalidError
from switchyard.services.connectors.comfyui.models.faults import FetchError
from switchyard.services.connectors.comfyui.models.folder import ModelsFolder
from switchyard.services.connectors.comfyui.models.manifest import Part
from switchyard.services.connectors.supply import Order
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.client import client, is_forbidden
from switchyard.services.outbound.urls import endpoint_url, origins

BLOCK_BYTES: Final = 1024 * 1024
HASH_BYTES: Final = 8 * 1024 * 1024
REDIRECTS: Final = 5
MOVED: Final = frozenset({301, 302, 303, 307, 308})
LASTING: Final = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Answers that do not change by themselves."""
CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
PACE_S: Final = 60.0
PACE_BYTES: Final = 64 * 1024
"""Less than so much in so many seconds is as good as nothing."""
_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class ChangedError(Exception):
    """What comes does not go on where the part of it ends that is there."""


class Download:
    """One file.

    Args:
        folder: where it goes.
        order: what it is.
        policy: judges every address.
        stall_s: seconds in which nothing may come.
        progress: called with the bytes that there are.
    """

    def __init__(
        self,
        folder: ModelsFolder,
        order: Order,
        policy: AddressPolicy,
        *,
        stall_s: float,
        progress: Callable[[int], None],
    ) -> None:
        self._folder = folder
        self._order = order
        self._policy = policy
        self._stall_s = stall_s
        self._progress = progress
        self._path = folder.part(order)
        self._hash = hashlib.sha256()
        self._have = 0

    async def run(self, part: Part) -> None:
        """Bring what is missing of it, and verify all of it.

        Args:
            part: what is known of what is there.

        Raises:
            FetchError: that did not succeed; what has come stays, unless it is wrong.
        """
        await self._take_up(part)
        if self._have < self._order.size_bytes:
            await self._fetch(part)
        await self._verify(part)

    async def _take_up(self, part: Part) -> None:
        """Hash what is there already; bytes that cannot be gone on from are dropped."""

        def hashed() -> int:
            try:
                have = self._path.stat().st_size
            except FileNotFoundError:
                return 0
            if have > self._order.size_bytes or (have < self._order.size_bytes and not part.tag):
                self._path.unlink()
                return 0
            with self._path.open("rb") as file:
                while block := file.read(HASH_BYTES):
                    self._hash.update(block)
            return have

        self._have = await asyncio.to_thread(hashed)
        self._progress(self._have)

    def _restart(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._hash, self._have = hashlib.sha256(), 0
        self._progress(0)

    async def _fetch(self, part: Part) -> None:
        async with client(self._policy, connections=2, connect_s=CONNECT_S, total_s=ANSWER_S) as session:
            try:
                await self._bring(session, part)
            except ChangedError:
                await asyncio.to_thread(self._restart)
                part.tag = ""
                try:
                    await self._bring(session, part)
                except ChangedError:
                    raise FetchError("its server answers a first request as if it went on") from None

    async def _bring(self, session: aiohttp.ClientSession, part: Part) -> None:
        try:
            async with self._answer(session, part.tag if self._have else "") as answer:
                self._check(answer)
                if not self._have:
                    part.tag, part.resumed = _tag(answer), False
                else:
                    part.resumed = True
                await asyncio.to_thread(
                    self._folder.note, self._order.path, tag=part.tag, resumed=part.resumed
                )
                await self._store(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _as_fault(error) from error

    @contextlib.asynccontextmanager
    async def _answer(
        self, session: aiohttp.ClientSession, tag: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request for what is missing, behind redirects whose addresses may be called."""
        url = self._order.url
        home = origins((url,))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self._stall_s)
        for _ in range(REDIRECTS + 1):
            try:
                url = endpoint_url(url, "url", self._policy)
            except InvalidError as error:
                why = "one that may not be called" if error.code == "address_not_allowed" else "none"
                raise FetchError(f"its address, or where that leads, is {why}", lasting=True) from None
            headers = dict(self._order.headers) if origins((url,)) == home else {}
            if self._have:
                headers |= {"Range": f"bytes={self._have}-", "If-Range": tag}
            async with session.get(url, headers=headers, allow_redirects=False, timeout=timeout) as answer:
                if answer.status not in MOVED:
                    yield answer
                    return
                target = urljoin(url, answer.headers.get("Location", "")).partition("#")[0]
                if url.startswith("https:") and not target.startswith("https:"):
                    raise FetchError("its address leads from https to another scheme", lasting=True)
                url = target
        raise FetchError(f"its address leads through more than {REDIRECTS} others", lasting=True)

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        """Judge status and headers.

        Raises:
            ChangedError: it has to be asked for from its beginning.
            FetchError: it is of no use.
        """
        size = self._order.size_bytes
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchError("its server sends it packed, though it was not asked to")
        if answer.status == 206:
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._have or not self._have:
                raise ChangedError
            if found[3] != "*" and int(found[3]) != size:
                raise ChangedError
            return
        if answer.status == 200:
            if self._have:  # it has changed, or the server knows no ranges: this answer begins at 0
                self._restart()
            if answer.content_length is not None and answer.content_length != size:
                message = f"its server has {answer.content_length} bytes, and the catalogue says {size}"
                raise FetchError(message, lasting=True)
            return
        if answer.status == 416 and self._have:
            raise ChangedError
        raise FetchError(f"its server answers {answer.status}", lasting=answer.status in LASTING)

    async def _store(self, answer: aiohttp.ClientResponse) -> None:
        size = self._order.size_bytes
        with _appending(self._path) as file:
            block = bytearray()
            began_s, came = time.monotonic(), 0
            try:
                async for chunk in answer.content.iter_any():
                    block += chunk
                    came += len(chunk)
                    if self._have + len(block) > size:
                        block.clear()
                        await asyncio.to_thread(self._restart)
                        raise FetchError(
                            f"its server sends more than the {size} bytes of the catalogue", lasting=True
                        )
                    if len(block) >= BLOCK_BYTES:
                        await self._put(file, bytes(block))
                        block.clear()
                    if time.monotonic() - began_s > PACE_S:
                        if came < PACE_BYTES:
                            raise FetchError("its server sends next to nothing")
                        began_s, came = time.monotonic(), 0
            finally:
                if block:
                    await self._put(file, bytes(block))
            await asyncio.to_thread(os.fsync, file.fileno())
        if self._have < size:
            raise FetchError(f"its server ended after {self._have} of {size} bytes")

    async def _put(self, file: BinaryIO, block: bytes) -> None:
        def written() -> None:
            if self._folder.is_short(self._path):
                raise FetchError("the disk is full")
            file.write(block)
            file.flush()
            self._hash.update(block)

        writing = asyncio.ensure_future(asyncio.to_thread(written))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        self._have += len(block)
        self._progress(self._have)

    async def _verify(self, part: Part) -> None:
        """Compare the digest.

        Raises:
            FetchError: it is another.
        """
        if self._hash.hexdigest() == self._order.sha256:
            return
        await asyncio.to_thread(self._restart)
        if part.resumed:  # pieces of two versions: from the beginning once more
            part.resumed, part.tag = False, ""
            await self._fetch(part)
            if self._hash.hexdigest() == self._order.sha256:
                return
            await asyncio.to_thread(self._restart)
        raise FetchError("its SHA-256 is not the one of the catalogue", lasting=True)


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    """A file to be written on, never one behind a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "ab") as file:
        yield file


def _tag(answer: aiohttp.ClientResponse) -> str:
    """What the server calls this version, where it can be asked to go on with it. RFC 9110, 13.1.5."""
    etag = answer.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag):
        return etag
    modified = answer.headers.get("Last-Modified", "")
    return modified if re.fullmatch(r"[\x20-\x7e]{1,60}", modified) else ""


def _as_fault(error: BaseException) -> FetchError:
    if is_forbidden(error):
        return FetchError("its address, or where that leads, is one that may not be called", lasting=True)
    number: Any = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return FetchError("the disk is full")
    if isinstance(error, TimeoutError):
        return FetchError("its server does not answer, or stopped in the middle")
    if isinstance(error, aiohttp.ClientError):
        return FetchError(f"its server cannot be reached, or broke off ({type(error).__name__})")
    return FetchError(f"the folder of models cannot be written ({type(error).__name__})")
