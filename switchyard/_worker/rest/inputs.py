"""Input files of an attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from switchyard._client import files
from switchyard._client.transport import Transport
from switchyard._worker.handler_errors import Fatal
from switchyard.errors import NotFoundError


async def fetched(transport: Transport, tenant: str, file_id: str, to: Path) -> dict[str, Any]:
    """Write a file to `to`; what is known of it.

    Raises:
        Fatal: code `file_not_found`.
        ClientError: it cannot be had now.
    """
    path = f"/v1/files/{quote(file_id, safe='')}"
    params = {"tenant": tenant}
    try:
        async with transport.open("HEAD", path, params=params) as answer:
            disposition = answer.content_disposition
            described = {
                "name": (disposition and disposition.filename) or file_id,
                "type": answer.headers.get("Content-Type", "application/octet-stream"),
                "size_bytes": int(answer.headers["Content-Length"]),
                "sha256": answer.headers["ETag"].strip('"'),
            }
        await files.download(transport, quote(file_id, safe=""), to, params=params)
    except NotFoundError as error:
        message = f"there is no file {file_id}; it may have expired"
        raise Fatal(message, code="file_not_found") from error
    return {"id": file_id, **described}
