"""Artifacts of an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson

from switchyard._client import files
from switchyard._client.transport import CONNECT_S, Body


class Send(Protocol):
    """Says something as the holder of the lease."""

    async def __call__(
        self,
        verb: str,
        *,
        params: dict[str, str],
        body: Body,
        headers: dict[str, str],
        again: bool,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it is the session's
    ) -> bytes:
        """The answer."""


async def stored(
    send: Send, name: str, data: Path | bytes | AsyncIterator[bytes], media_type: str
) -> dict[str, Any]:
    """Store one within a lease; what is known of it.

    Raises:
        ClientError: it cannot be stored.
    """
    headers = {"Content-Type": media_type}
    again = isinstance(data, Path | bytes)  # an iterator can be read only once
    body: Body
    match data:
        case bytes():
            body = data
        case Path():
            path = data
            headers["Content-Length"] = str((await asyncio.to_thread(path.stat)).st_size)

            def body() -> AsyncIterator[bytes]:
                return files.read(path)

        case _:
            stream = data

            def body() -> AsyncIterator[bytes]:
                return stream

    timeout = aiohttp.ClientTimeout(total=files.TRANSFER_S, sock_connect=CONNECT_S)
    answer = await send(
        "artifacts", params={"name": name}, body=body, headers=headers, again=again, timeout=timeout
    )
    found: dict[str, Any] = orjson.loads(answer)
    return found
