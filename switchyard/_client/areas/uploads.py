"""Uploads that can be resumed, for both clients: `client.uploads`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from switchyard._client.files import TRANSFER_S, read
from switchyard._client.transport import CONNECT_S, LOST, Transport
from switchyard.errors import ApiError, BrokenTransferError, InvalidValueError
from switchyard.models import Model

PATH: Final = "/v1/uploads"
VERSION: Final = {"Tus-Resumable": "1.0.0"}
MOVED: Final = frozenset({408, 409})
"""After these the gateway says where to go on."""

Progress = Callable[[int, int], object]
Headers = Mapping[str, str]


class Upload(Model, frozen=True):
    """A file on its way.

    Args:
        id: that of the file that it becomes, too.
        url: where it goes on.
        offset: how many bytes are stored.
        length: how many there will be.
        is_done: whether the file is there.
        expires_at: when what has come is removed, if no more comes.
    """

    id: str
    url: str
    offset: int
    length: int
    is_done: bool = False
    expires_at: datetime | None = None


class AsyncUploads:
    """Files that come in as many requests as it takes, through any gateway."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        length: int,
        *,
        name: str = "file",
        media_type: str = "application/octet-stream",
        ttl_s: float | None = None,
        erasable: bool = False,
    ) -> Upload:
        """Begin an upload.

        Args:
            length: how many bytes come.
            name: that of the file.
            media_type: as in `Content-Type`.
            ttl_s: how long the file is kept.
            erasable: whether its content can be erased for good.
        """
        said = {"filename": name, "filetype": media_type}
        headers = {
            "Upload-Length": str(length),
            "Upload-Metadata": ",".join(f"{word} {_base64(value)}" for word, value in said.items()),
        }
        params = {} if ttl_s is None else {"ttl_s": str(ttl_s)}
        params |= {"erasable": "true"} if erasable else {}
        answer = await self._call("POST", PATH, headers, params=params)
        return self._upload(answer["Location"].rpartition("/")[2], answer, length)

    async def get(self, upload: str) -> Upload:
        """Where an upload stands.

        Args:
            upload: its URL, whichever gateway that names, or its id.
        """
        upload_id = _id(upload)
        answer = await self._call("GET", _path(upload_id), {})  # unlike HEAD, it says why not
        return self._upload(upload_id, answer, int(answer["Upload-Length"]))

    async def append(self, upload: Upload, data: bytes) -> Upload:
        """Store the bytes that come next.

        Raises:
            ConflictError: others came there meanwhile; ask for the upload.
            UnreachableError: the connection broke; part of them may be stored, `get` says how much.
        """
        answer = await self._patch(upload, data)
        return self._upload(upload.id, answer, upload.length)

    async def resume(self, upload: str, source: Path | str, *, progress: Progress | None = None) -> Upload:
        """Go on with an upload until its file is there.

        Args:
            upload: its URL, whichever gateway that names, or its id.
            source: the file that it was begun with.
            progress: called with the bytes that are stored or on their way, and with those of all.

        Raises:
            InvalidValueError: the file has another size than the upload.
            NotFoundError: there is no such upload, or no longer.
            BrokenTransferError: the file that is there now has other bytes.
        """
        return await self._send(await self.get(upload), Path(source), progress)

    async def send(
        self,
        source: Path | str,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        ttl_s: float | None = None,
        erasable: bool = False,
        begun: Callable[[Upload], object] | None = None,
        progress: Progress | None = None,
    ) -> Upload:
        """Store a file; after a break it goes on where it was.

        Args:
            source: the file.
            name: what it is called; by default as it is.
            media_type: as in `Content-Type`.
            ttl_s: how long it is kept.
            erasable: whether its content can be erased for good.
            begun: called with the upload before the first byte: whoever keeps its URL can resume it.
            progress: called with the bytes that are stored or on their way, and with those of all.

        Raises:
            BrokenTransferError: the file that is there now has other bytes.
        """
        path = Path(source)
        length = (await asyncio.to_thread(path.stat)).st_size
        upload = await self.create(
            length, name=name or path.name, media_type=media_type, ttl_s=ttl_s, erasable=erasable
        )
        if begun is not None:
            begun(upload)
        return await self._send(upload, path, progress)

    async def delete(self, upload: str) -> None:
        """Remove an upload with all that has come; a file that was made of it stays."""
        await self._call("DELETE", _path(_id(upload)), {})

    # --- Requests

    async def _send(self, upload: Upload, path: Path, progress: Progress | None) -> Upload:
        size = (await asyncio.to_thread(path.stat)).st_size
        if size != upload.length:
            raise InvalidValueError(
                f"{path} has {size} bytes, and the upload {upload.length}", field="source"
            )
        pauses = self._transport.pauses()
        while not upload.is_done:
            had = upload.offset
            try:
                answer = await self._patch(upload, _rest(path, upload, progress))
                upload = self._upload(upload.id, answer, upload.length)
            except (ApiError, *LOST) as error:
                moved = isinstance(error, ApiError) and error.status in MOVED
                if not pauses.another(error) and not (moved and pauses.are_left):
                    if isinstance(error, ApiError):
                        raise
                    raise self._transport.unreachable(error) from error
                await pauses.wait(error)
                upload = await self.get(upload.id)
            if upload.offset > had:
                pauses.reset()
        await self._compare(upload, path)
        return upload

    async def _compare(self, upload: Upload, path: Path) -> None:
        """See that the file is the one that was read: an upload may have been resumed with another."""
        answer = await self._call("HEAD", f"/v1/files/{quote(upload.id, safe='')}", {})
        digest = hashlib.sha256()
        async for chunk in read(path):
            digest.update(chunk)
        if answer["ETag"].strip('"') != digest.hexdigest():
            raise BrokenTransferError(f"file {upload.id} has other bytes than {path}")

    async def _patch(self, upload: Upload, body: Any) -> Headers:
        headers = {
            **VERSION, "Upload-Offset": str(upload.offset),
            "Content-Type": "application/offset+octet-stream",
        }  # fmt: skip
        # The answer comes when the file is made, so silence on reading means nothing here.
        timeout = aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S)
        async with self._transport.open(
            "PATCH", _path(upload.id), body=body, headers=headers, timeout=timeout
        ) as answer:
            return answer.headers

    async def _call(
        self, method: str, path: str, headers: Headers, *, params: Headers | None = None
    ) -> Headers:
        """The headers of an answer, which is asked for again while the gateway is away."""
        pauses = self._transport.pauses()
        timeout = aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S)
        while True:
            try:
                async with self._transport.open(
                    method, path, params=params, headers={**VERSION, **headers}, timeout=timeout
                ) as answer:
                    return answer.headers
            except (ApiError, *LOST) as error:
                if not pauses.another(error):
                    if isinstance(error, ApiError):
                        raise
                    raise self._transport.unreachable(error) from error
                failed: Exception = error
            await pauses.wait(failed)

    def _upload(self, upload_id: str, headers: Headers, length: int) -> Upload:
        expires = headers.get("Upload-Expires")
        return Upload(
            id=upload_id, url=self._transport.connection.url + _path(upload_id),
            offset=int(headers["Upload-Offset"]), length=length, is_done="Switchyard-File" in headers,
            expires_at=None if expires is None else parsedate_to_datetime(expires),
        )  # fmt: skip


class SyncUploads:
    """`AsyncUploads` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], uploads: AsyncUploads) -> None:
        self._run = run
        self._uploads = uploads

    def create(self, length: int, **said: Any) -> Upload:
        """Begin an upload; see `AsyncUploads.create`."""
        made: Upload = self._run(self._uploads.create(length, **said))
        return made

    def get(self, upload: str) -> Upload:
        """Where an upload stands."""
        found: Upload = self._run(self._uploads.get(upload))
        return found

    def append(self, upload: Upload, data: bytes) -> Upload:
        """Store the bytes that come next; see `AsyncUploads.append`."""
        found: Upload = self._run(self._uploads.append(upload, data))
        return found

    def resume(self, upload: str, source: Path | str, *, progress: Progress | None = None) -> Upload:
        """Go on with an upload until its file is there; see `AsyncUploads.resume`."""
        done: Upload = self._run(self._uploads.resume(upload, source, progress=progress))
        return done

    def send(self, source: Path | str, **said: Any) -> Upload:
        """Store a file; see `AsyncUploads.send`."""
        done: Upload = self._run(self._uploads.send(source, **said))
        return done

    def delete(self, upload: str) -> None:
        """Remove an upload with all that has come; a file that was made of it stays."""
        self._run(self._uploads.delete(upload))


async def _rest(path: Path, upload: Upload, progress: Progress | None) -> AsyncIterator[bytes]:
    """The bytes of a file that are not stored yet."""
    sent = upload.offset
    async for chunk in read(path, sent):
        yield chunk
        sent += len(chunk)
        if progress is not None:
            progress(sent, upload.length)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode(errors="surrogateescape")).decode()


def _path(upload_id: str) -> str:
    return f"{PATH}/{quote(upload_id, safe='')}"


def _id(upload: str) -> str:
    """The id in a URL; an id is its own."""
    return upload.rstrip("/").rpartition("/")[2]
