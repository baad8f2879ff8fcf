"""A client of tus 1.0 that does what the protocol says, and what it is asked to do besides."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any, NamedTuple

import aiohttp

OFFSET = "application/offset+octet-stream"
DEADLINE_S = 60.0


class Said(NamedTuple):
    status: int
    headers: Any
    json: Any


def metadata(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    digest = hashlib.new(algorithm, data).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


class Tus:
    """Speaks to `/v1/uploads` of a gateway."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self.http = http
        self.url = url
        self.token = token

    async def call(self, method: str, path: str = "", data: Any = None, **headers: Any) -> Said:
        """A request; a header that is None is left out."""
        sent: dict[str, str | None] = {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0"}
        if data is not None:
            sent["Content-Type"] = OFFSET
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in sent.items() if value is not None}
        url = self.url + (path or "/v1/uploads")
        skipped = ["Content-Type"]
        body_of = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.http.request(
            method, url, data=body_of, headers=given, skip_auto_headers=skipped,
            timeout=aiohttp.ClientTimeout(total=DEADLINE_S),
        ) as answer:  # fmt: skip
            body = await answer.read()
            is_json = answer.content_type.endswith("json") and body
            return Said(answer.status, answer.headers, json.loads(body) if is_json else {})

    async def create(self, length: int, data: Any = None, query: str = "", **headers: Any) -> str:
        made = await self.call(
            "POST", f"/v1/uploads{query}", data, **{"Upload_Length": str(length), **headers}
        )
        assert made.status == 201, made
        place: str = made.headers["Location"]
        return place

    async def offset(self, place: str) -> int:
        found = await self.call("HEAD", place)
        assert found.status == 200, found
        assert found.headers["Cache-Control"] == "no-store"
        return int(found.headers["Upload-Offset"])

    async def patch(self, place: str, offset: int, data: Any, **headers: Any) -> Said:
        return await self.call("PATCH", place, data, **{"Upload_Offset": str(offset), **headers})

    async def file(self, place: str) -> tuple[bytes, Any]:
        file_id = place.rpartition("/")[2]
        async with self.http.get(
            f"{self.url}/v1/files/{file_id}", headers={"Authorization": f"Bearer {self.token}"}
        ) as answer:
            return await answer.read(), answer
