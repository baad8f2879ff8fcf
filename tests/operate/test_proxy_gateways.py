"""Two gateways behind nginx as the pages configure it: large files, addresses, and one that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from switchyard.client import AsyncClient, Transition
from tests.operate.blocks import blocks, command, file
from tests.operate.nginx import Nginx
from tests.operate.test_proxy import until_it_listens
from tests.ports import free_port
from tests.programs import needs_nginx
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), needs_nginx]
DEADLINE_S = 120.0
MIB = 1 << 20
LARGE = 100 * MIB
SHARE = 3
"""Requests that an address may have under way at a gateway."""


class Behind(Deployment):
    """Its gateways believe what the page says."""

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        (line,) = command("proxy", "TRUSTED_PROXIES").text.splitlines()
        return super().environment | dict(word.split("=", 1) for word in line.split()[1:])


class Two(NamedTuple):
    """A deployment whose gateways listen at two ports, and where nginx does."""

    site: Behind
    ports: tuple[int, int]
    url: str

    async def start(self, number: int) -> None:
        """Start a gateway; ready."""
        port = self.ports[number]
        await self.site._serving(
            await self.site.start(f"gateway{number}", "gateway", "--port", str(port)), port
        )

    async def kill(self, number: int) -> None:
        """End a gateway as a crash does."""
        await self.site.parts[f"gateway{number}"].kill()

    @contextlib.asynccontextmanager
    async def client(self, address: str = "127.0.0.1") -> AsyncIterator[aiohttp.ClientSession]:
        """A client with an address of its own."""
        connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=0)
        headers = {"Authorization": f"Bearer {self.site.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers, connector=connector) as http:
            yield http


@contextlib.asynccontextmanager
async def two(tmp_path: Path, *, second: bool = True) -> AsyncIterator[Two]:
    ports, port = (free_port(), free_port()), free_port()
    async with Behind(tmp_path / "site", address_connections=SHARE) as site:
        found = Two(site, ports, f"http://127.0.0.1:{port}")
        await site.start("projector", "projector")
        for number in range(1 + second):
            await found.start(number)
        await site.start("keeper", "keeper")
        await site.start_worker("worker")
        proxy = file("proxy", "/etc/nginx/conf.d/switchyard.conf").here(
            {
                "listen 443 ssl;": f"listen 127.0.0.1:{port};",
                "    ssl_certificate /etc/ssl/jobs.example.pem;\n": "",
                "    ssl_certificate_key /etc/ssl/jobs.example.key;\n": "",
            }
        )
        (both,) = [block for block in blocks("several-gateways") if block.language == "nginx"]
        alone = proxy[proxy.index("upstream") : proxy.index("server {\n    listen")]
        places = {"host-1:8080": f"127.0.0.1:{ports[0]}", "host-2:8080": f"127.0.0.1:{ports[1]}"}
        with Nginx(tmp_path / "nginx", proxy.replace(alone, both.here(places))):
            await until_it_listens(port)
            yield found


def large() -> Iterator[bytes]:
    for number in range(LARGE // MIB):
        yield bytes([number]) * MIB


async def blocks_of() -> AsyncIterator[bytes]:
    for block in large():
        yield block


async def test_a_large_file_and_each_client_s_address_come_through(tmp_path: Path) -> None:
    async with two(tmp_path) as proxied, proxied.client() as http, asyncio.timeout(DEADLINE_S):
        async with http.post("/v1/files?name=large", data=blocks_of()) as answer:
            stored = await answer.json()
            assert (answer.status, stored["size_bytes"]) == (201, LARGE), stored
        path = f"/v1/files/{stored['id']}"
        start = 41 * MIB - 3
        async with http.get(path, headers={"Range": f"bytes={start}-{start + 5}"}) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes {start}-{start + 5}/{LARGE}"
            assert await answer.read() == bytes([40] * 3 + [41] * 3)
        async with http.get(path, headers={"Range": "bytes=-2"}) as answer:
            assert (answer.status, await answer.read()) == (206, bytes([99] * 2))
        async with http.get(path) as answer:
            whole = large()
            assert answer.content_length == LARGE
            for block in whole:
                assert await answer.content.readexactly(MIB) == block
        async with http.head(path) as answer:
            assert answer.content_length == LARGE
        await addresses_count(proxied)


async def addresses_count(proxied: Two) -> None:
    """One address has as many requests under way as it may, whatever it says of itself; others go on."""
    job = await proxied.site.submit(kind="nobody-runs-it")
    lies = {"X-Forwarded-For": "127.0.0.77", "X-Forwarded-Proto": "https"}

    async def wait(http: aiohttp.ClientSession, number: int) -> int:
        lied = {**lies, "X-Forwarded-For": f"127.0.0.{100 + number}"}
        async with http.get(f"/v1/jobs/{job}", params={"wait": "300"}, headers=lied) as answer:
            return answer.status

    async with proxied.client("127.0.0.2") as greedy, proxied.client("127.0.0.3") as other:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(wait(greedy, number)) for number in range(5 * SHARE)]
            while sum(task.done() for task in asked) < 3 * SHARE:
                await asyncio.sleep(0.02)
            for _ in range(2 * SHARE):
                async with other.get("/v1/whoami") as answer:
                    assert answer.status == 200
            async with other.post(f"/v1/jobs/{job}/cancel", json={}) as answer:
                assert answer.status == 200, await answer.text()
        statuses = [task.result() for task in asked]
        assert (statuses.count(200), statuses.count(429)) == (2 * SHARE, 3 * SHARE), statuses
        body = {"version": "simulate", "input": {"duration_s": 0}}
        async with other.post("/compat/replicate/v1/predictions", json=body, headers=lies) as answer:
            assert (await answer.json())["urls"]["get"].startswith(f"{proxied.url}/")


async def test_views_go_on_at_the_other_gateway_when_theirs_is_killed(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(DEADLINE_S),
        two(tmp_path, second=False) as proxied,
        proxied.client() as http,
        AsyncClient(proxied.url, proxied.site.token, retries=60) as client,
        asyncio.TaskGroup() as tasks,
    ):
        seen: list[int] = []
        sent: list[int] = []
        views = [tasks.create_task(followed(client, seen)), tasks.create_task(streamed(http, sent))]
        while not (seen and sent):  # both views stand, at the first gateway
            await works(client)
        await proxied.start(1)
        while "/v1/whoami" not in proxied.site.parts["gateway1"].log.read_text():
            async with http.get("/v1/whoami") as answer:  # until nginx asks a gateway again that was away
                assert answer.status == 200
            await asyncio.sleep(0.05)
        await proxied.kill(0)
        last = await works(client)
        while last not in seen or last not in sent:
            await asyncio.sleep(0.05)
        for view in views:
            view.cancel()
    for found in (seen, sent):
        assert found == list(range(found[0], last + 1))


async def works(client: AsyncClient) -> int:
    """A job, submitted through the proxy and done; the sequence of its last event."""
    job = await client.submit("simulate", {"duration_s": 0})
    return (await client.wait(job.id)).seq


async def followed(client: AsyncClient, seen: list[int]) -> None:
    """The sequences of all events over WebSockets, one after the other."""
    async for message in client.stream():
        match message:
            case Transition(event=event):
                seen.append(event.seq)


async def streamed(http: aiohttp.ClientSession, seen: list[int]) -> None:
    """The same over server-sent events, as a browser goes on after each connection."""
    last = ""
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        params = {"all": "true", "progress": "false"}
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get("/v1/events/stream", params=params, headers=headers) as answer:
                async for raw in answer.content:
                    name, _, value = raw.decode().strip().partition(": ")
                    if name == "id":
                        last = value
                    elif name == "data" and (said := json.loads(value))["type"] == "event":
                        seen.append(said["event"]["seq"])
        await asyncio.sleep(0.05)
