"""ComfyUI, the worker and whoever watches, each a process that may be killed.

With `COMFYUI_TEST_URL` the cases of one server run against a real one that has `tools/comfyui_nodes.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from tests.connectors.comfyui.graphs import slow
from tests.sizes import sizes
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

REAL = os.environ.get("COMFYUI_TEST_URL", "")
DEADLINE_S = 120.0


class Size(NamedTuple):
    """How many jobs, over how many servers, before how many readers."""

    jobs: int
    servers: int
    readers: int


SIZES = sizes(Size(12, 4, 10), Size(100, 4, 50), timeout_s=900)


@contextlib.asynccontextmanager
async def double(generation: str) -> AsyncIterator[str]:
    """A double as a process; its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.connectors.comfyui.double", "--generation", generation,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def one_server(generation: str) -> AsyncIterator[str]:
    if generation != "real":
        async with double(generation) as url:
            yield url
    elif REAL:
        yield REAL.rstrip("/")
    else:
        pytest.skip("no ComfyUI is given: COMFYUI_TEST_URL")


async def until(wanted: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await wanted()):
            await asyncio.sleep(0.05)
    return found


async def get(site: Deployment, url: str) -> Any:
    async with site.session.get(url) as answer:
        return await answer.json(content_type=None)


async def start_worker(site: Deployment, name: str, url: str, *more: str) -> None:
    before = site.settings
    site.settings = before | {"COMFYUI_URL": url}
    await site.start(name, "worker", "--name", name, *more)
    site.settings = before


async def state_of(site: Deployment, job: str) -> dict[str, Any]:
    _, found = await site.request("GET", f"/v1/jobs/{job}")
    state: dict[str, Any] = found
    return state


@pytest.mark.parametrize("generation", ["2025", "2026", "real"])
async def test_a_worker_that_is_killed_in_mid_prompt_leaves_one_prompt_and_a_cancelled_one_is_gone(
    tmp_path: Path, generation: str
) -> None:
    async with one_server(generation) as url, Deployment(tmp_path, lease_s=2.0) as site:
        await site.start_up()
        await start_worker(site, "first", url)
        job = await site.submit(kind="comfyui", payload={"prompt": slow(80, 100)}, max_attempts=1)

        async def running() -> list[str]:
            queue = await get(site, f"{url}/queue")
            return [item[1] for item in queue["queue_running"]]

        (prompt,) = await until(running)
        await site.parts["first"].kill()
        await start_worker(site, "second", url)

        async def final() -> Any:
            found = await state_of(site, job)
            return found if found["state"] in ("succeeded", "dead") else None

        found = await until(final)
        assert (found["state"], found["failures"]) == ("succeeded", 0), found
        assert found["result"]["prompt_id"] == prompt
        history = await get(site, f"{url}/history")
        ran = [
            each
            for each, entry in history.items()
            if entry["prompt"][3].get("switchyard", {}).get("job") == job
        ]
        assert ran == [prompt]
        doomed = await site.submit(kind="comfyui", payload={"prompt": slow(600, 100)})
        (prompt,) = await until(running)
        await site.request("POST", f"/v1/jobs/{doomed}/cancel", json={})

        async def cancelled() -> bool:
            return bool((await state_of(site, doomed))["state"] == "cancelled")

        await until(cancelled)
        assert prompt not in await running(), "it is gone from there before the log says so"


class Reader:
    """Somebody who watches all jobs; what he has seen of each."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, jobs: int) -> None:
        self.socket = socket
        self.seen: dict[str, list[str]] = {}
        self.previews: Counter[str] = Counter()
        self._left = jobs

    async def read(self) -> None:
        """Read until every job has ended."""
        async for frame in self.socket:
            if frame.type is aiohttp.WSMsgType.BINARY:
                self.previews["all"] += 1
                continue
            said = orjson.loads(frame.data)
            if said["type"] != "event":
                continue
            event = said["event"]
            self.seen.setdefault(event["job_id"], []).append(event["type"])
            if event["type"] in ("succeeded", "dead", "cancelled", "expired"):
                self._left -= 1
                if not self._left:
                    return


@pytest.mark.parametrize("size", SIZES)
async def test_no_reader_misses_a_transition_while_servers_show_previews(tmp_path: Path, size: Size) -> None:
    async with contextlib.AsyncExitStack() as stack:
        urls = [
            await stack.enter_async_context(double("2025" if number % 2 else "2026"))
            for number in range(size.servers)
        ]
        site = await stack.enter_async_context(Deployment(tmp_path, lease_s=5.0))
        await site.start_up()
        headers = {"Authorization": f"Bearer {site.token}"}
        http = await stack.enter_async_context(
            aiohttp.ClientSession(site.url, headers=headers, connector=aiohttp.TCPConnector(limit=0))
        )
        graphs = [slow(10, 20, previews=True) for _ in range(size.jobs)]
        jobs = [await site.submit(kind="comfyui", payload={"prompt": graph}) for graph in graphs]
        readers = []
        for _ in range(size.readers):
            socket = await stack.enter_async_context(http.ws_connect("/v1/ws", max_msg_size=0))
            hello = await socket.receive_json()
            beginning = f"{hello['stream']}:0"
            wish = {"type": "subscribe", "id": "s", "jobs": jobs, "previews": True, "after": beginning}
            await socket.send_json(wish)
            readers.append(Reader(socket, size.jobs))
        for number, url in enumerate(urls):
            await start_worker(site, f"gpu{number}", url, "--slots", "2")
        async with asyncio.timeout(DEADLINE_S if size.jobs < 50 else 800), asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read())
        logs = {}
        for job in jobs:
            _, found = await site.request("GET", f"/v1/jobs/{job}/events")
            logs[job] = [event["type"] for event in found["events"]]
        assert {events[-1] for events in logs.values()} == {"succeeded"}
        for reader in readers:
            assert reader.seen == logs
            assert reader.previews["all"]
        doubles = [await get(site, f"{url}/double") for url in urls]
    runs = Counter(count for each in doubles for count in each["runs"].values())
    assert runs == {1: size.jobs}, "none ran twice"
    assert all(each["posts"] for each in doubles), "each server had some"
    shown = sum(reader.previews["all"] for reader in readers)
    print(f"{size.jobs} jobs, {size.servers} servers, {size.readers} readers: {shown} previews")  # noqa: T201
