"""A small client of the REST API and the live updates, for the commands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson

from events.codec import FINAL_EVENTS
from events.errors import UnavailableError
from services import connection_file
from services.cli.errors import ApiError

RECONNECT_S = 0.5
CHUNK_BYTES = 256 * 1024
FINAL_STATES = frozenset({"succeeded", "dead", "cancelled", "expired", "archived"})


class Api:
    """The gateway as a command sees it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=None, sock_connect=5)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer, or the text where it is none.

        Raises:
            ApiError: the gateway refuses.
            UnavailableError: it cannot be reached.
        """
        async with self._open(method, path, **options) as answer:
            body = await answer.read()
            return orjson.loads(body) if "json" in answer.content_type and body else body.decode()

    @asynccontextmanager
    async def _open(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, self._url + path, **options) as answer:
                if answer.status >= 400:
                    raise ApiError(answer.status, await _problem(answer))
                yield answer
        except aiohttp.ClientConnectionError as error:
            raise UnavailableError(f"the gateway at {self._url} cannot be reached: {error}") from error

    async def upload(self, path: Path) -> dict[str, Any]:
        """Store a file; its view."""

        async def chunks() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as source:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    yield chunk

        size = (await asyncio.to_thread(path.stat)).st_size
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        name = quote(path.name)
        uploaded: dict[str, Any] = await self.call(
            "POST", f"/v1/files?name={name}", data=chunks(), headers=headers
        )
        return uploaded

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        async with self._open("GET", f"/v1/files/{file_id}") as answer:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job."""
        found: dict[str, Any] = await self.call("GET", f"/v1/jobs/{job_id}")
        return found

    async def follow(self, **selection: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Live messages as they come, without end; a lost connection resumes without a gap."""
        cursor: str | None = None
        while True:
            try:
                async with self._session.ws_connect(f"{self._url}/v1/ws", heartbeat=20) as socket:
                    wish = {"type": "subscribe", "id": "cli", "after": cursor, **selection}
                    await socket.send_str(orjson.dumps(wish).decode())
                    async for frame in socket:
                        if frame.type is not aiohttp.WSMsgType.TEXT:
                            continue
                        message = orjson.loads(frame.data)
                        if message["type"] == "error":
                            raise ApiError(
                                404 if message["code"] == "not_found" else 422, {"detail": message["message"]}
                            )
                        cursor = message.get("cursor", cursor)
                        yield message
            except aiohttp.WSServerHandshakeError as error:
                raise ApiError(
                    error.status, {"detail": f"the gateway refuses the live connection: {error.message}"}
                ) from None
            except aiohttp.ClientConnectionError as error:
                if cursor is None:
                    raise UnavailableError(
                        f"the gateway at {self._url} cannot be reached: {error}"
                    ) from error
            await asyncio.sleep(RECONNECT_S)

    async def until_final(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The job's live messages until it has ended."""
        async for message in self.follow(jobs=[job_id], progress=True):
            yield message
            if (
                message["type"] in ("subscribed", "resync")
                and (await self.job(job_id))["state"] in FINAL_STATES
            ):
                return
            if message["type"] == "event" and message["event"]["type"] in FINAL_EVENTS:
                return


async def _problem(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        problem = orjson.loads(await answer.read())
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def connect(data_dir: Path) -> Api:
    """The gateway that the environment or the data directory names.

    Raises:
        UnavailableError: neither names one.
    """
    found = connection_file.read(data_dir)
    url = os.environ.get("SWITCHYARD_URL") or (found.url if found else None)
    token = os.environ.get("SWITCHYARD_TOKEN") or (found.token if found else None)
    if url is None or token is None:
        raise UnavailableError(
            f"no Switchyard is running on {data_dir}: start one with `switchyard up`, or set SWITCHYARD_URL "
            "and SWITCHYARD_TOKEN"
        )
    return Api(url, token)
