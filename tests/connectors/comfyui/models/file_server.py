"""A server of model files, with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from switchyard.services.connectors.comfyui.models.folder import ModelsFolder
from switchyard.services.connectors.supply import Order
from switchyard.services.outbound.addresses import PRIVATE, AddressPolicy

LOCAL = AddressPolicy(PRIVATE)


class FileServer:
    """Serves one file at `/model`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.etag: str | None = '"v1"'
        self.modified: str | None = None
        self.knows_ranges = True
        self.says_length = True
        self.breaks_after: list[int] = []
        """After how many bytes of each of the next answers the connection breaks."""
        self.held = asyncio.Event()
        self.held.set()
        """While it is not set, answers stop in their middle."""
        self.location: str | None = None
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FileServer]:
        app = web.Application()
        app.router.add_get("/model", self._model)
        app.router.add_get("/elsewhere", self._elsewhere)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/model"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        return await self._sent(request)

    async def _model(self, request: web.Request) -> web.StreamResponse:
        if self.location is not None:
            self.asked.append(dict(request.headers))
            return web.Response(status=302, headers={"Location": self.location})
        return await self._sent(request)

    async def _sent(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers))
        if self.status is not None:
            return web.Response(status=self.status)
        headers = {"Content-Length": str(len(self.data))}
        if self.etag is not None:
            headers["ETag"] = self.etag
        if self.modified is not None:
            headers["Last-Modified"] = self.modified
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range") in (None, self.etag, self.modified)
        if asked and self.knows_ranges and same:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
            headers["Content-Length"] = str(len(self.data) - start)
        if not self.says_length:
            del headers["Content-Length"]
        answer = web.StreamResponse(status=status, headers=headers | self.headers)
        await answer.prepare(request)
        most = self.breaks_after.pop(0) if self.breaks_after else None
        body = self.data[start:]
        if not self.held.is_set():
            await answer.write(body[: len(body) // 2])
            await self.held.wait()
            body = body[len(body) // 2 :]
        if most is not None:
            await answer.write(body[:most])
            assert request.transport is not None
            await asyncio.sleep(0)
            request.transport.close()
            return answer
        await answer.write(body)
        await answer.write_eof()
        return answer


def order_for(server: FileServer, name: str = "x.safetensors", **fields: Any) -> Order:
    """An order for what a server has."""
    values: dict[str, Any] = {
        "folder": "checkpoints", "name": name, "claim": "c", "revision": 1, "url": server.url,
        "sha256": hashlib.sha256(server.data).hexdigest(), "size_bytes": len(server.data),
    }  # fmt: skip
    return Order(**values | fields)


def folder_at(root: Path, **settings: Any) -> ModelsFolder:
    """A folder without limits that matter."""
    values: dict[str, Any] = {"limit_bytes": 10**12, "margin_bytes": 0, "hide": lambda _path: None}
    return ModelsFolder(root, **values | settings)
