"""A back end that accepts work with 202, goes on with it by itself, and reports by callback or when asked.

It runs within the test and outlives every process of the platform that a test kills. Its faults are methods.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web

RETRY_S = 0.1
ANSWERED = 500
"""From here on an answer is no answer, and a callback is made again."""


class Work:
    """A piece of work as the back end has it."""

    def __init__(self, number: int, callback: str | None) -> None:
        self.number = number
        self.callback = callback
        self.done = asyncio.Event()
        self.task: asyncio.Task[None]


class BackendDouble:
    """One back end.

    Args:
        gateways: gives the URLs through which it may report now; it takes them in turn.
        works_s: how long a piece of work takes.
        reports: how often each outcome is reported: twice where it answers twice.
        alive_s: between two reports that it is at work.
    """

    def __init__(
        self,
        gateways: Callable[[], list[str]],
        *,
        works_s: float = 0.05,
        reports: int = 1,
        alive_s: float = 3600.0,
    ) -> None:
        self.alive_s = alive_s
        self.works_s = works_s
        self.reports = reports
        self.runs: Counter[str] = Counter()
        """How often each piece of work was run to its end."""
        self.hangs = False
        self.silent = False
        self.held = asyncio.Event()
        """Work ends when this is set, and not before."""
        self.held.set()
        self.work: dict[str, Work] = {}
        self.accepted: set[str] = set()
        """The ids of all work that was sent here."""
        self.asked: set[str] = set()
        """The ids that were asked for."""
        self.url = ""
        self.stopped: list[str] = []
        """What was to stop, in order; also what was not there."""
        self.answers: list[tuple[int, Any]] = []
        self._gateways = gateways
        self._tasks = set[asyncio.Task[None]]()
        self._http: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve until the block ends; its URL."""
        app = web.Application()
        app.router.add_post("/work/{id}", self._accept)
        app.router.add_get("/work/{id}", self._state)
        app.router.add_delete("/work/{id}", self._stop)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession() as self._http:
            try:
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self.url
            finally:
                self.forget()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await runner.cleanup()

    def forget(self) -> None:
        """It dies, and is there again without any of its work."""
        for task in self._tasks:
            task.cancel()
        self.work.clear()

    async def _accept(self, request: web.Request) -> web.Response:
        work_id, body = request.match_info["id"], await request.json()
        self.accepted.add(work_id)
        if work_id not in self.work:  # the same id again is the same work
            work = self.work[work_id] = Work(body["number"], body.get("callback"))
            task = asyncio.create_task(self._do(work_id, work))
            work.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response({"id": work_id}, status=202)

    async def _state(self, request: web.Request) -> web.Response:
        self.asked.add(request.match_info["id"])
        work = self.work.get(request.match_info["id"])
        if work is None:
            return web.json_response({"state": "lost"}, status=404)
        if not work.done.is_set():
            return web.json_response({"state": "running"})
        return web.json_response({"state": "succeeded", "result": {"number": work.number}})

    async def _stop(self, request: web.Request) -> web.Response:
        work = self.work.pop(request.match_info["id"], None)
        self.stopped.append(request.match_info["id"])
        if work is not None:
            work.task.cancel()
            await asyncio.wait([work.task])
        return web.json_response({})

    async def _do(self, work_id: str, work: Work) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        left_s = self.works_s
        while left_s > 0:
            await asyncio.sleep(min(left_s, self.alive_s))
            left_s -= self.alive_s
            if left_s > 0 and work.callback is not None:
                await self.report(work.callback, {"state": "running"})
        await self.held.wait()
        self.runs[work_id] += 1
        work.done.set()
        if work.callback is None or self.silent:
            return
        for _ in range(self.reports):
            await self.report(work.callback, {"state": "succeeded", "result": {"number": work.number}})

    async def report(self, callback: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Report until some gateway has answered; its status and answer."""
        turn = 0
        while True:
            urls = self._gateways()
            turn += 1
            try:
                url = urls[turn % len(urls)]
                timeout = aiohttp.ClientTimeout(total=5)
                async with self._http.post(url + callback, json=body, timeout=timeout) as response:
                    if response.status < ANSWERED:
                        answer = response.status, await response.json()
                        self.answers.append(answer)
                        return answer
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(RETRY_S)
