"""The bytes of a stored file as an answer."""

from __future__ import annotations

import contextlib
from typing import Any

from aiohttp import hdrs, web

from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.stored import plain_type
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import disposition, send_blocks


async def sent(call: Call[Any], info: FileInfo, media_type: str | None = None) -> web.StreamResponse:
    """Send a whole file as a download.

    Args:
        call: what is answered.
        info: the file.
        media_type: what it is called; as it is stored where that is not said.

    Raises:
        LimitError: the tenant has as many transfers as it may.
        UnavailableError: the broker does not answer.
    """
    headers = {
        hdrs.CONTENT_DISPOSITION: disposition(info.name), "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }  # fmt: skip
    response = web.StreamResponse(headers=headers)
    response.headers[hdrs.CONTENT_TYPE] = media_type or plain_type(info.type)
    response.content_length = info.size_bytes
    if call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    files = call.part(TENANT_FILES)
    with files.transfer(info.tenant):
        async with contextlib.aclosing(files.files.read(info)) as blocks:
            idle_s = call.part(SETTINGS).transfer_idle_s
            await send_blocks(call.request, response, blocks, idle_s=idle_s, file=info.id)
    return response
