"""A server of files that prediction servers name by URL: it has good ones, and every bad one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp import web

PICTURE: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000
METADATA: Final = "http://169.254.169.254/latest/meta-data/"
GIB: Final = 1024**3
BLOCK: Final = b"x" * 64 * 1024


class FileServer:
    """One on loopback; counts the bytes that it could send, and keeps the headers that it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.sent_bytes = 0
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/{name:.*}", self._get)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked.append((name, request.headers))
        match name.partition(".")[0]:
            case "good":
                return web.Response(body=PICTURE, content_type="image/png")
            case "untyped":
                return web.Response(body=PICTURE, headers={"Content-Type": "application/octet-stream"})
            case "moved":
                return web.Response(status=302, headers={"Location": "/good.png"})
            case "metadata":
                return web.Response(status=307, headers={"Location": METADATA})
            case "round":
                return web.Response(status=302, headers={"Location": "/round"})
            case "broken":
                return web.Response(status=500, text="secret of the file server")
            case "announced":
                return await self._large(request, {"Content-Length": str(GIB)})
            case "endless":
                return await self._large(request, {})
            case "short":
                answer = web.StreamResponse(headers={"Content-Length": "1000"})
                await answer.prepare(request)
                await answer.write(b"few")
                assert request.transport is not None
                request.transport.close()
                return answer
            case "slow":
                answer = web.StreamResponse()
                await answer.prepare(request)
                while True:
                    await answer.write(b" ")
                    await asyncio.sleep(0.1)
            case _:
                return web.Response(status=404)

    async def _large(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        while self.sent_bytes < GIB:
            await answer.write(BLOCK)
            self.sent_bytes += len(BLOCK)
        return answer
