"""Bodies that are sent block by block, as fast as a client takes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final, Literal
from urllib.parse import quote

import structlog
from aiohttp import web

from switchyard.events.errors import SwitchyardError

log = structlog.get_logger()

NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 ._()-]")


def disposition(name: str, how: Literal["attachment", "inline"] = "attachment") -> str:
    """A download's name for old and new clients. Source: RFC 6266, section 4.3 and appendix D."""
    plain = NOT_PLAIN.sub("_", name)
    header = f'{how}; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


async def send_blocks(
    request: web.Request,
    response: web.StreamResponse,
    blocks: AsyncIterator[bytes],
    *,
    idle_s: float,
    **about: str,
) -> None:
    """Send a body block by block.

    Args:
        request: whose answer it is.
        response: its headers.
        blocks: the body.
        idle_s: seconds for which the client may take nothing.
        about: what the log says of it.
    """
    # Read before the status is sent, so that a file that cannot be read is an error and no 200.
    first = await anext(blocks, b"")
    await response.prepare(request)
    try:
        await _write(response, first, idle_s)
        async for block in blocks:
            await _write(response, block, idle_s)
        await response.write_eof()
    except ConnectionError:
        log.info("download_broken_off", by="client", **about)
    except (SwitchyardError, TimeoutError) as error:
        # The body is shorter than announced, and a lost connection is the only way left to say so.
        log.warning("download_broken_off", by="gateway", error=str(error) or "stalled", **about)
        if request.transport is not None:
            request.transport.abort()


async def _write(response: web.StreamResponse, block: bytes, idle_s: float) -> None:
    """Write a block, waiting as long as a client may stop reading; the buffer never grows beyond it."""
    async with asyncio.timeout(idle_s):
        await response.write(block)
