"""A prediction server that does what a test says: answers, calls back, and counts what it was sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web

Behave = Callable[["TaskServer", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


async def at_once(server: TaskServer, _: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    """Answer with the result."""
    await asyncio.sleep(server.works_s)
    return web.json_response(server.result(asked))


async def later(server: TaskServer, _: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    """Answer 202, and call back."""
    server.spawn(server.call_back_later(asked))
    return web.json_response({"backend_task_id": asked["task_id"], "status": "accepted"}, status=202)


async def silent(_server: TaskServer, _: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    """Answer 202, and never call back."""
    return web.json_response({"backend_task_id": asked["task_id"], "status": "accepted"}, status=202)


async def hang(_server: TaskServer, _: web.Request, _asked: dict[str, Any]) -> web.StreamResponse:
    """Take the task, and say nothing."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def says(status: int, body: bytes = b"", **headers: str) -> Behave:
    """Answer so."""

    async def behave(_server: TaskServer, _: web.Request, _asked: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return behave


async def slam(_server: TaskServer, request: web.Request, _asked: dict[str, Any]) -> web.StreamResponse:
    """Take the task, and close the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drip(_server: TaskServer, request: web.Request, _asked: dict[str, Any]) -> web.StreamResponse:
    """Answer byte by byte, without end."""
    answer = web.StreamResponse(headers={"Content-Length": "1000000"})
    await answer.prepare(request)
    while True:
        await answer.write(b" ")
        await asyncio.sleep(0.05)


class TaskServer:
    """One on loopback.

    Args:
        name: as it is registered.
        behave: what it does with a task; may be changed.
        works_s: how long a task takes.
        port: where it listens; 0 takes a free one.
    """

    def __init__(self, name: str, behave: Behave = at_once, *, works_s: float = 0.0, port: int = 0) -> None:
        self.name = name
        self.behave = behave
        self.works_s = works_s
        self.port = port
        self.took: Counter[str] = Counter()
        self.asked: list[tuple[dict[str, Any], Mapping[str, str]]] = []
        self.came = asyncio.Event()
        self.stopped: list[str] = []
        self.heard: list[tuple[int, dict[str, Any]]] = []
        self.running = self.most = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner
        self._http: ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def wish(self) -> dict[str, Any]:
        """The body of its registration."""
        endpoints = {name: f"{self.url}/{name}" for name in ("predict", "health", "cancel")}
        return {"endpoints": endpoints, "kinds": ["upscale"]}

    def result(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "backend_task_id": asked["task_id"], "data": {"by": self.name, "request": asked["request"]},
            "metadata": {"server_id": self.name, "status": "FINISHED"},
        }  # fmt: skip

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call_back(self, url: str, body: Any, method: str = "PUT") -> int:
        """What a callback is answered; again while no gateway takes it."""
        while True:
            try:
                async with self._http.request(method, url, json=body) as answer:
                    found = await answer.json(content_type=None)
                    self.heard.append((answer.status, found))
                    if answer.status < 500:
                        return answer.status
            except (ClientError, OSError):
                pass
            await asyncio.sleep(0.1)

    async def call_back_later(self, asked: dict[str, Any]) -> None:
        await asyncio.sleep(self.works_s)
        await self.call_back(asked["callback_url"], self.result(asked))

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([
            web.post("/predict", self._predict), web.get("/health", self._health),
            web.post("/cancel", self._cancel),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._http = ClientSession(timeout=ClientTimeout(total=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self._http.close()

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.took[asked["task_id"]] += 1
        self.asked.append((asked, request.headers))
        self.came.set()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.behave(self, request, asked)
        finally:
            self.running -= 1

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.stopped.append((await request.json())["task_id"])
        return web.json_response({})
