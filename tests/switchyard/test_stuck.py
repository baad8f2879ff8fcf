"""A handler over REST that does not stop is abandoned, and its worker ends with an error."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.handlers import Context, Handlers, SyncContext
from switchyard.worker import StuckError
from tests.gateway.rest import Gateway
from tests.switchyard.test_worker import DEADLINE_S, made, until

ROOT = Path(__file__).parents[2]


class Deaf:
    """Handlers that continue whatever stops them, until the test lets them end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.open = asyncio.Event()
        self.heard = 0

    async def on_the_loop(self, _: dict[str, Any], context: Context) -> str:
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.heard += 1
        context.log("late")
        return "late"

    def in_a_thread(self, _: dict[str, Any], context: SyncContext) -> str:
        self.go.wait()
        context.log("late")
        return "late"

    def handlers(self, api: Gateway, *, plain: bool) -> Handlers:
        handlers = Handlers()
        handlers.kind(api.tenant)(self.in_a_thread if plain else self.on_the_loop)
        return handlers

    def let_go(self) -> None:
        self.go.set()
        self.open.set()


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switchyard.worker.GRACE_S", 0.4)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_worker_with_a_stuck_handler_gives_its_job_back_and_raises(
    api: Gateway, client: AsyncClient, *, plain: bool
) -> None:
    deaf = Deaf()
    worker = made(api, handlers=deaf.handlers(api, plain=plain), drain_s=0.1)
    job = await client.submit(api.tenant, max_attempts=1)
    serving = asyncio.create_task(worker.serve())
    await until(client, job.id, "running")
    worker.stop()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([serving])
    assert serving.exception() is None  # it was asked to end, and has
    assert (await client.get(job.id)).state == "queued"
    deaf.let_go()


@pytest.mark.parametrize("plain", [False, True])
async def test_a_worker_with_a_stuck_handler_takes_no_more_jobs_and_raises(
    api: Gateway, client: AsyncClient, *, plain: bool
) -> None:
    deaf = Deaf()
    worker = made(api, handlers=deaf.handlers(api, plain=plain))
    job = await client.submit(api.tenant, max_attempts=1, attempt_timeout_s=1)
    serving = asyncio.create_task(worker.serve())
    ended = await client.wait(job.id, timeout_s=DEADLINE_S)
    assert ended.error is not None
    assert ended.error.code in ("timeout", "attempt_timeout"), ended.error
    later = await client.submit(api.tenant)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([serving])
    error = serving.exception()
    assert isinstance(error, StuckError)
    assert job.id in str(error)
    assert (await client.get(later.id)).state == "queued"
    deaf.let_go()


PROGRAM = """\
import asyncio, sys, threading, time
from switchyard.worker import Worker
worker = Worker(lease_s=3.0, poll_s=1.0, slots=1)

@worker.kind("{kind}")
async def handle(payload):
    match payload["do"]:
        case "exit later":
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await asyncio.sleep(0.05)
        case "cancel all":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)
        case "thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()
    return payload["do"]

worker.run()
print("ended", flush=True)
"""


async def test_a_program_of_its_own_continues_and_ends_when_it_is_asked_to(
    api: Gateway, client: AsyncClient
) -> None:
    program = textwrap.dedent(PROGRAM.format(kind=api.tenant))
    environment = os.environ | {
        "SWITCHYARD_URL": api.url, "SWITCHYARD_TOKEN": api.token("worker"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            for do in ("exit later", "cancel all", "thread", "nothing"):
                job = await client.submit(api.tenant, {"do": do})
                assert await client.result(job.id) == do
            process.send_signal(signal.SIGTERM)
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (said, process.returncode) == (b"ended\n", 0)
