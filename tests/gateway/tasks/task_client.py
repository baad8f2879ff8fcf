"""A client and a prediction server of the Cloudflare task system, written from its wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web

from switchyard.events.commands import Delegate
from switchyard.events.values import Backend
from tests.gateway.rest import Gateway, now
from tests.gateway.tasks.site import signed


class Got(NamedTuple):
    """What came back."""

    status: int
    body: Any
    type: str


class TaskClient:
    """Calls the API as a user or as an admin.

    Args:
        url: the base URL, the one thing that changes when a client comes over.
        token: its bearer token; None for none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, body: Any = None) -> Got:
        async with (
            aiohttp.ClientSession(self._url, headers=self._headers) as session,
            session.request(method, path, json=body) as answer,
        ):
            is_json = answer.content_type == "application/json"
            said = await (answer.json() if is_json else answer.text())
            return Got(answer.status, said, answer.content_type)


class TaskServer:
    """Takes tasks and calls back a moment later with a token that it has signed itself."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        self._calling = asyncio.Queue[tuple[str, str]]()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/predict", self._predict)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._caller = asyncio.create_task(self._call_back())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._caller.cancel()
        await self._runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "model": {"server_id": "mock"}})

    async def _predict(self, request: web.Request) -> web.Response:
        asked = await request.json()
        task_id = asked["task_id"]
        if not (asked["async"] and asked.get("callback_url")):
            return web.json_response(_result(task_id))
        self._calling.put_nowait((task_id, asked["callback_url"]))
        accepted = {
            "task_id": task_id,
            "backend_task_id": f"b-{task_id}",
            "status": "PROCESSING",
            "message": "",
        }
        return web.json_response(accepted, status=202)

    async def _call_back(self) -> None:
        headers = {"Authorization": f"Bearer {signed('service', 'user', sub='mock')}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                task_id, url = await self._calling.get()
                async with session.put(url, json=_result(task_id)) as answer:
                    self.answers.append(answer.status)


def _result(task_id: str) -> dict[str, Any]:
    return {
        "task_id": task_id, "backend_task_id": f"b-{task_id}", "data": {"prediction": "positive"},
        "metadata": {"server_id": "mock", "status": "FINISHED", "progress": 100, "message": "done"},
    }  # fmt: skip


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[TaskServer]:
    """One that runs until the block ends."""
    async with TaskServer() as running:
        yield running


async def hand_over(api: Gateway, server: TaskServer, details: dict[str, Any]) -> None:
    """Do with a task what a pusher does: lease it, leave it to the server, and post it there."""
    job = await api.lease(details["id"].removeprefix("task-"), worker=f"server.{api.tenant}.s1")
    assert job.lease is not None
    until = now() + timedelta(seconds=60)
    command = Delegate(now=now(), fence=job.lease.fence, backend=Backend("server", "s1"), expires_at=until)
    await api.store.transition(job, command, actor="pusher:p")
    body = {
        "task_id": details["id"], "request": details["request"], "async": True,
        "callback_url": details["callbackUrl"],
    }  # fmt: skip
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/predict", json=body) as answer:
        assert answer.status == 202
