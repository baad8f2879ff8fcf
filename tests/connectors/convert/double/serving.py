"""How a double is served, with the faults that all have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def answering(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Fault:
    """Answers so, instead."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return json(value, status, headers)

    return answer


def saying(body: bytes) -> Fault:
    """Answers 200 with these bytes."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """Ends the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    raise web.HTTPInternalServerError


def endless(chunks: int) -> Fault:
    """Answers 200 and MiB by MiB, of which the head says nothing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(chunks):
            await response.write(b" " * 1024**2)
        return response

    return answer


class Double:
    """One server.

    Args:
        answers: by path, whose next answers are others than its own.
    """

    def __init__(self) -> None:
        self.faults: dict[str, deque[Fault]] = {}
        self.asked: list[str] = []
        """Methods and paths, in order."""
        self.held = asyncio.Event()
        """Set when a request is held back."""

    def instead(self, path: str, *faults: Fault) -> None:
        """Have the next calls of a path answered by these."""
        self.faults.setdefault(path, deque()).extend(faults)

    async def hold(self, _request: web.Request) -> web.StreamResponse:
        """Never answers."""
        self.held.set()
        await asyncio.Event().wait()
        raise AssertionError

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def refusal(self, request: web.Request) -> web.StreamResponse | None:
        """What is answered to one without the key."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve until the block ends; its URL."""
        app = web.Application(middlewares=[self._faults], client_max_size=256 * 1024**2)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if (refused := self.refusal(request)) is not None:
            return refused
        if waiting := self.faults.get(request.path):
            await request.read()
            return await waiting.popleft()(request)
        return await handler(request)
