"""A server with a protocol of its own: it queues what it is sent, and says how that stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, web

POLL: dict[str, Any] = {
    "body": {"input": {"prompt": "{{payload.prompt}}", "steps": "{{payload.steps ?? 20}}"},
    "ref": "{{task_id}}"},
    "mode": "poll", "remote_id": "job.id", "poll": {"path": "/jobs/{{remote_id}}", "interval_s": 0.5},
    "status": "job.phase", "running": ["WAITING", "WORKING"], "done": ["READY"], "failed": ["BROKEN"],
    "stopped": ["GONE"], "result": "job.output", "error": "job.fault.text", "progress": "job.percent",
    "message": "job.note", "usage": {"seconds": "job.took"},
    "cancel": {"path": "/jobs/{{remote_id}}", "method": "DELETE"},
}  # fmt: skip


class QueueServer:
    """One on loopback.

    Args:
        name: as it is registered.
        polls: how often a task is asked after before it is ready; None for never.
    """

    def __init__(self, name: str, polls: int | None = 2) -> None:
        self.name = name
        self.polls = polls
        self.answer: web.Response | None = None
        """What it answers to whatever it is sent, where that is set."""
        self.asked_after: dict[str, int] = Counter()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.sent: list[tuple[dict[str, Any], Mapping[str, str]]] = []
        self.deleted: list[str] = []
        self.says: dict[str, Any] = {}
        """What it says in the place of what it would, when it is asked after a task."""
        self.status = 200
        self.port = 0
        self._runner: web.AppRunner
        self._http: ClientSession

    @property
    def wish(self) -> dict[str, Any]:
        """The body of its registration."""
        url = f"http://127.0.0.1:{self.port}"
        endpoints = {"predict": f"{url}/jobs", "health": f"{url}/health"}
        return {"endpoints": endpoints, "profile": "json", "options": POLL, "kinds": ["upscale"]}

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([
            web.post("/jobs", self._take), web.get("/jobs/{id}", self._show),
            web.get("/health", self._health),
            web.delete("/jobs/{id}", self._delete),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self._http = ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def call_back(self, url: str, body: Any) -> int:
        """What a callback is answered; again while no gateway takes it."""
        while True:
            try:
                async with self._http.post(url, json=body) as answer:
                    if answer.status < 500:
                        return answer.status
            except OSError:
                pass
            await asyncio.sleep(0.1)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    async def _take(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.sent.append((asked, request.headers))
        if self.answer is not None:
            return web.Response(
                status=self.answer.status, body=self.answer.body, headers={"Content-Type": "application/json"}
            )
        name = f"{len(self.sent)}/a?"  # one that has to be quoted in a path
        self.jobs[name] = asked
        return web.json_response({"job": {"id": name, "phase": "WAITING"}}, status=201)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        if name not in self.jobs:
            return web.json_response({"error": "unknown"}, status=404)
        self.asked_after[name] += 1
        if self.says or self.status != 200:
            return web.json_response(self.says, status=self.status)
        if self.polls is None or self.asked_after[name] <= self.polls:
            job = {"phase": "WORKING", "percent": 50, "note": "half"}
        else:
            job = {"phase": "READY", "output": {"by": self.name, "asked": self.jobs[name]}, "took": 1.5}
        return web.json_response({"job": {"id": name, **job}})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self.deleted.append(request.match_info["id"])
        return web.json_response({})
