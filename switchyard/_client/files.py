"""Files: streamed up with a key that makes a repeat safe, streamed down with resumption."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from switchyard._client.pages import FilePage
from switchyard._client.transport import CONNECT_S, LOST, Body, Transport
from switchyard.errors import ApiError, BrokenTransferError
from switchyard.models import File

CHUNK_BYTES: Final = 256 * 1024
TRANSFER_S: Final = 3600.0
_FILE: Final = msgspec.json.Decoder(File)

Source = Path | str | bytes | AsyncIterable[bytes]


def limits(transport: Transport) -> aiohttp.ClientTimeout:
    """How long a download may take."""
    return aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S, sock_read=transport.timeout_s)


async def read(path: Path, start: int = 0) -> AsyncIterator[bytes]:
    """A file's bytes from one on, block by block."""
    with await asyncio.to_thread(path.open, "rb") as source:
        source.seek(start)
        while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
            yield chunk


async def upload(
    transport: Transport,
    source: Source,
    *,
    name: str | None,
    media_type: str,
    ttl_s: float | None,
    idempotency_key: str | None,
) -> File:
    """Store a file; an async iterator can be read only once, so it is not sent again."""
    body: Body
    headers = {"Content-Type": media_type, "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    again = True
    match source:
        case bytes():
            body = source
        case Path() | str():
            path = Path(source)
            name = name or path.name
            headers["Content-Length"] = str((await asyncio.to_thread(path.stat)).st_size)

            def body() -> AsyncIterator[bytes]:
                return read(path)

        case _:
            stream = source
            again = False

            def body() -> AsyncIterable[bytes]:
                return stream

    params = {"name": name or "file"} | ({} if ttl_s is None else {"ttl_s": str(ttl_s)})
    # No answer comes before the last byte, so silence on reading means nothing here.
    timeout = aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S)
    return _FILE.decode(
        await transport.call(
            "POST", "/v1/files", params=params, body=body, headers=headers, again=again, timeout=timeout
        )
    )


async def download(
    transport: Transport, file_id: str, to: Path, *, params: dict[str, str] | None = None
) -> Path:
    """Write a file's bytes to `to`, which appears when it is whole and checked.

    Args:
        transport: to the gateway.
        file_id: as it stands in the path.
        to: where the bytes go.
        params: the query.

    Raises:
        BrokenTransferError: the bytes are not those that were stored.
    """
    part = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    target = await asyncio.to_thread(part.open, "wb")
    digest = hashlib.sha256()
    etag, have = "", 0
    pauses = transport.pauses()
    try:
        with target:
            while True:
                headers = {"Range": f"bytes={have}-", "If-Match": etag} if have else {}
                try:
                    async with transport.open(
                        "GET",
                        f"/v1/files/{file_id}",
                        params=params,
                        headers=headers,
                        timeout=limits(transport),
                    ) as answer:
                        etag = answer.headers["ETag"]
                        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                            await asyncio.to_thread(target.write, chunk)
                            digest.update(chunk)
                            have += len(chunk)
                            pauses.reset()
                    break
                except (ApiError, *LOST) as error:
                    if isinstance(error, ApiError) and error.status == 416 and have:
                        break  # the connection broke after the last byte
                    if not pauses.another(error):
                        if isinstance(error, ApiError):
                            raise
                        raise transport.unreachable(error) from error
                    failed: Exception = error
                await pauses.wait(failed)
        if digest.hexdigest() != etag.strip('"'):
            raise BrokenTransferError(f"file {file_id} arrived with other bytes than were stored")
        await asyncio.to_thread(os.replace, part, to)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)
    return to


class AsyncFiles:
    """The part of the client that has to do with files."""

    _transport: Transport

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        ttl_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Store a file.

        Args:
            source: a path, the bytes, or an async iterator of blocks.
            name: that of the file; that of the path by default.
            media_type: as in `Content-Type`.
            ttl_s: how long it is kept.
            idempotency_key: the same key and bytes give the same file; one is made if there is none.
        """
        return await upload(
            self._transport, source,
            name=name, media_type=media_type, ttl_s=ttl_s, idempotency_key=idempotency_key,
        )  # fmt: skip

    async def download(self, file_id: str, to: Path | str) -> Path:
        """Write a file's bytes to a path, which appears when they are all there and right."""
        return await download(self._transport, file_id, Path(to))

    async def files(self) -> AsyncGenerator[File, None]:
        """The tenant's files, newest first."""
        cursor: str | None = ""
        while cursor is not None:
            params = {"cursor": cursor} if cursor else {}
            raw = await self._transport.call("GET", "/v1/files", params=params)
            page = msgspec.json.decode(raw, type=FilePage)
            for file in page.files:
                yield file
            cursor = page.cursor

    async def delete_file(self, file_id: str) -> None:
        """Remove a file."""
        await self._transport.call("DELETE", f"/v1/files/{quote(file_id, safe='')}", again=False)
