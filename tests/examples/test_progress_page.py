"""The page of `examples/`: its own script against a gateway, with as much of a browser as it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.handlers import Context
from switchyard.worker import Worker
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway

NODE = shutil.which("node")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(NODE is None, reason="node is missing: apt-get install nodejs"),
]

PAGE = Path(__file__).parents[2] / "examples" / "progress.html"
RUNNER = Path(__file__).with_name("page.js")
DEADLINE_S = 90.0


class Page:
    """The page's script, and what it shows."""

    def __init__(self, process: asyncio.subprocess.Process, token: str) -> None:
        self._process = process
        self.token = token
        self.seen: list[dict[str, Any]] = []

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The next line written that has these values."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._process.stdout:
                said: dict[str, Any] = json.loads(line)
                self.seen.append(said)
                if wanted.items() <= said.items():
                    return said
        raise AssertionError(f"the page ended without {wanted}: {self.seen}")

    async def subscribed(self) -> dict[str, Any]:
        """What the page asks for on its next connection."""
        while True:
            assert self._process.stdout is not None
            async with asyncio.timeout(DEADLINE_S):
                said: dict[str, Any] = json.loads(await self._process.stdout.readline())
            self.seen.append(said)
            if "sent" in said:
                found: dict[str, Any] = said["sent"]
                return found

    def cut(self) -> None:
        """Break the page's connection."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"cut\n")


@contextlib.asynccontextmanager
async def opened(api: Gateway) -> AsyncIterator[Page]:
    assert NODE is not None
    token = api.token("viewer")
    process = await asyncio.create_subprocess_exec(
        NODE, "--experimental-websocket", "--no-warnings", str(RUNNER), str(PAGE),
        f"#url={api.url}&token={token}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Page(process, token)
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path) as running:
        yield running


async def test_the_page_shows_progress_by_tickets_and_resumes_after_a_lost_connection(api: Gateway) -> None:
    worker = Worker(url=api.url, token=api.token("worker"), slots=1, poll_s=2.0)
    go = asyncio.Event()

    @worker.kind(api.tenant)
    async def paint(_: dict[str, Any], context: Context) -> None:
        context.progress(0.25, "painting", "a quarter")
        await go.wait()

    async with AsyncClient(api.url, api.token()) as client, opened(api) as page:
        assert "after" not in await page.subscribed()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.serve())
            job = await client.submit(api.tenant)
            shown = await page.until(id=job.id, said="a quarter", value=0.25)
            assert shown["job"] == "Running"
            page.cut()
            await page.until(connection="Connection lost, trying again")
            go.set()  # it ends while nobody listens
            worker.stop()
            await client.wait(job.id)
            again = await page.subscribed()
            held = int(again["after"].split(":")[1])
            assert job.seq < held < (await client.get(job.id)).seq
            await page.until(id=job.id, job="Done", value=1)
    states = [said["job"] for said in page.seen if said.get("id") == job.id and said["changed"] == "state"]
    assert states == ["Waiting", "Running", "Done"]
    opened_at = [said["opened"] for said in page.seen if "opened" in said]
    assert len(opened_at) == len(set(opened_at)) == 2  # each by a ticket of its own
    assert not any(page.token in at for at in opened_at)
