"""A double of S3 that misbehaves: it stands before a real one, and passes on what it does not spoil."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable

import aiohttp
import yarl
from aiohttp import web

Fault = Callable[[web.Request], web.StreamResponse | str | None]
"""What it does: "cut", "lost", "hang", "short" or "etag"; a response is answered, None passes."""


def refusal(status: int, code: str) -> web.Response:
    """An error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} it is</Message></Error>"
    return web.Response(status=status, text=body, content_type="application/xml")


class Hostile:
    """It; what is not said to be spoiled is not."""

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self.fault: Fault = lambda _: None
        self.requests: list[str] = []
        self.url = ""
        self._ended = asyncio.Event()

    def times(self, count: int, spoil: Callable[[], web.Response | str], *, of: str = "") -> None:
        """Spoil so many requests of a method."""
        left = count

        def fault(request: web.Request) -> web.StreamResponse | str | None:
            nonlocal left
            if left <= 0 or (of and request.method != of):
                return None
            left -= 1
            return spoil()

        self.fault = fault

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Hostile]:
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.AppRunner(web.Application(client_max_size=2**30), shutdown_timeout=0)
            runner.app.router.add_route("*", "/{path:.*}", self._on_request)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = "http://{}:{}".format(*runner.addresses[0])
            try:
                yield self
            finally:
                self._ended.set()  # a handler that hangs would hold the cleanup up
                await runner.cleanup()

    async def _on_request(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.rel_url}")
        body = await request.read()
        spoiled = self.fault(request)
        if isinstance(spoiled, web.StreamResponse):
            return spoiled
        if spoiled == "hang":
            await self._ended.wait()
            return web.Response(status=500)
        if spoiled == "cut" and request.transport is not None:
            request.transport.abort()
            return web.Response()
        url = yarl.URL(self._behind + request.raw_path, encoded=True)
        kept = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        async with self._session.request(
            request.method, url, data=io.BytesIO(body) if body else None, headers=kept
        ) as answer:
            found = await answer.read()
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name not in ("Content-Length", "Transfer-Encoding", "Connection", "Server", "Date")
            }
            if request.method == "HEAD":
                headers["Content-Length"] = answer.headers.get("Content-Length", "0")
            if spoiled == "etag":
                headers["ETag"] = '"00000000000000000000000000000000"'
        if spoiled == "lost" and request.transport is not None:  # done, and the answer does not come
            request.transport.abort()
            return web.Response()
        if spoiled == "short" and request.transport is not None:
            response = web.StreamResponse(status=answer.status, headers=headers)
            response.content_length = len(found)
            await response.prepare(request)
            await response.write(found[: len(found) // 2])
            request.transport.close()
            return response
        return web.Response(status=answer.status, body=found, headers=headers)
