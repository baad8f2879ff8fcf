"""How a process without S3's keys reads files: a gateway that has them gives it an address for each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import msgspec
import nats.errors
import structlog
import yarl
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError, SwitchyardError, UnavailableError
from switchyard.services.broker.connection import unlisten
from switchyard.services.files.info import FileInfo, Remote
from switchyard.services.files.keys import Lock
from switchyard.services.files.place import Intake
from switchyard.services.files.s3.client import CONNECT_S, S3Error
from switchyard.services.files.s3.reading import READ_BYTES, GoneError, Reading
from switchyard.services.files.s3.signing import Addresses

log = structlog.get_logger()

QUEUE: Final = "gateways"
LASTS_S: Final = 300.0
IDLE_S: Final = 60.0
GONE: Final = frozenset({404, 412, 416})


class _Ask(msgspec.Struct, forbid_unknown_fields=True):
    """Which version of which file."""

    file: str
    nuid: str


class _Answer(msgspec.Struct):
    """Its address, or why there is none."""

    url: str = ""
    refused: str = ""


_ASK: Final = msgspec.json.Decoder(_Ask)
_ANSWER: Final = msgspec.json.Decoder(_Answer)


class AddressServer:
    """A gateway's side.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        addresses: gives them.
        timeout_s: seconds to wait for the broker at the start.
    """

    def __init__(
        self,
        nc: Client,
        current: Callable[[str, str], Awaitable[FileInfo]],
        addresses: Addresses,
        *,
        timeout_s: float,
    ) -> None:
        self._nc = nc
        self._current = current
        self._addresses = addresses
        self._timeout_s = timeout_s

    @contextlib.asynccontextmanager
    async def answered(self) -> AsyncIterator[None]:
        """Answer requests while the block lasts.

        Raises:
            UnavailableError: the broker does not answer.
        """
        heard = await self._nc.subscribe(subjects.ALL_FILE_ADDRESSES, queue=QUEUE, cb=self._on_ask)
        try:
            await self._nc.flush(round(self._timeout_s) or 1)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {error}") from error
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error):
                await unlisten(self._nc, heard)

    async def _on_ask(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            answer = await self._answer(message.subject.rpartition(".")[2], _ASK.decode(message.data))
        except (msgspec.MsgspecError, SwitchyardError) as error:
            log.warning("address_refused", subject=message.subject, error=str(error))
            answer = _Answer(refused=str(error))
        with contextlib.suppress(nats.errors.Error):
            await message.respond(msgspec.json.encode(answer))

    async def _answer(self, tenant: str, ask: _Ask) -> _Answer:
        info = await self._current(tenant, ask.file)
        if info.nuid != ask.nuid:
            raise NotFoundError(f"file {ask.file} was replaced")
        return _Answer(url=await self._addresses.download(info, lasts_s=LASTS_S, plain=False) or "")


class AddressPlace:
    """Reads alone: what such a process stores goes to the broker, and what it deletes is swept by a keeper.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(
        self, nc: Client, current: Callable[[str, str], Awaitable[FileInfo]], *, timeout_s: float
    ) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._reading = Reading(self._opened, current)

    async def check_room(self, size_bytes: int, reserve: float) -> int:
        """Nothing is stored here."""
        del size_bytes, reserve
        return sys.maxsize

    async def upload(self, *, owner: str, ttl_s: float, max_bytes: int, lock: Lock | None) -> Intake:
        """Nothing is stored here.

        Raises:
            UnavailableError: always.
        """
        del ttl_s, max_bytes, lock
        raise UnavailableError(f"this process has no keys of S3 to store {owner}")

    def read(self, info: FileInfo, first: int, last: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks by number, by addresses of a gateway."""
        return self._reading.read(info, first, last)

    async def remove(self, nuid: str, owner: str, remote: Remote | None) -> None:
        """Leave it to the sweep."""

    async def sweep(self, *, older_than_s: float) -> int:
        """Leave it to those that have the keys."""
        del older_than_s
        return 0

    @contextlib.asynccontextmanager
    async def _opened(self, info: FileInfo, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        url = await self._address(info)
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        if info.remote is not None and info.remote.etag:
            headers["If-Match"] = f'"{info.remote.etag}"'
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S)
        async with aiohttp.ClientSession(timeout=patience, auto_decompress=False) as session:
            try:
                response = await session.get(yarl.URL(url, encoded=True), headers=headers)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise S3Error(
                    f"S3 does not answer at the address of file {info.id}: {_name(error)}"
                ) from error
            async with response:
                if response.status in GONE:
                    raise GoneError(f"S3 answers {response.status}")
                # All of it, in answer to a range, would be other bytes.
                if response.status != 206:
                    raise S3Error(f"S3 refuses the address of file {info.id}: {response.status}")
                yield _blocks(response)

    async def _address(self, info: FileInfo) -> str:
        ask = msgspec.json.encode(_Ask(file=info.id, nuid=info.nuid))
        subject = subjects.file_addresses(info.tenant)
        try:
            reply = await self._nc.request(subject, ask, timeout=self._timeout_s)
            answer = _ANSWER.decode(reply.data)
        except (nats.errors.Error, TimeoutError, msgspec.MsgspecError) as error:
            raise S3Error(
                f"file {info.id} lies in S3, this process has no keys of it, and no gateway that has them "
                f"gives its address: {_name(error)}"
            ) from error
        if not answer.url:
            raise S3Error(f"a gateway gives no address of file {info.id}: {answer.refused or 'it has none'}")
        return answer.url


async def _blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for block in response.content.iter_chunked(READ_BYTES):
            yield block
    except (aiohttp.ClientError, TimeoutError) as error:
        raise S3Error(f"S3 broke off: {_name(error)}") from error


def _name(error: BaseException) -> str:
    """An error by its kind alone: its text may hold the address."""
    return type(error).__name__


@contextlib.asynccontextmanager
async def answered(
    nc: Client,
    current: Callable[[str, str], Awaitable[FileInfo]],
    addresses: Addresses | None,
    *,
    timeout_s: float,
) -> AsyncIterator[None]:
    """Answer requests for addresses while the block lasts, in a process that can give some.

    Args:
        nc: an open connection.
        current: what is known of a tenant's file now.
        addresses: gives them; None in a process without S3.
        timeout_s: seconds to wait for the broker at the start.

    Raises:
        UnavailableError: the broker does not answer.
    """
    if addresses is None:
        yield
        return
    async with AddressServer(nc, current, addresses, timeout_s=timeout_s).answered():
        yield
