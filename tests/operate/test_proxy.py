"""nginx with the configuration of docs/proxy.md: all that a gateway gives comes through, and through TLS."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.operate.blocks import command, file
from tests.operate.nginx import Nginx
from tests.ports import free_port
from tests.programs import needs_nginx
from tests.switchyard.test_vigil_child import certificate
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), needs_nginx]
DEADLINE_S = 60.0
LARGE = 3 << 20
"""More than nginx takes where nothing is said."""


class Behind(Deployment):
    """Its gateways believe what the page says."""

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        (line,) = command("proxy", "TRUSTED_PROXIES").text.splitlines()
        said = dict(word.split("=", 1) for word in line.split()[1:])
        return super().environment | said


@asynccontextmanager
async def proxied(tmp_path: Path) -> AsyncIterator[tuple[Behind, str, ssl.SSLContext]]:
    trusted = await asyncio.to_thread(certificate, tmp_path / "jobs.pem")
    port = free_port()
    async with Behind(tmp_path / "site") as site:
        await site.start_up()
        text = file("proxy", "/etc/nginx/conf.d/switchyard.conf").here(
            {
                "127.0.0.1:8080": site.url.removeprefix("http://"),
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "/etc/ssl/jobs.example.pem": str(trusted),
                "/etc/ssl/jobs.example.key": str(trusted),
            }
        )
        with Nginx(tmp_path / "nginx", text):
            url = f"https://127.0.0.1:{port}"
            context = ssl.create_default_context(cafile=trusted)
            await until_it_listens(port)
            yield site, url, context


async def until_it_listens(port: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_jobs_files_and_live_views_come_through(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (site, url, context):
        headers = {"Authorization": f"Bearer {site.token}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(url, headers=headers, connector=connector) as http:
            body = {"kind": "simulate", "payload": {"duration_s": 0, "echo": "through"}}
            async with http.post("/v1/jobs", params={"wait": "30"}, json=body) as answer:
                assert (await answer.json())["result"]["echo"] == "through"
            data = os.urandom(LARGE)
            async with http.post("/v1/files", data=io.BytesIO(data)) as answer:
                assert answer.status == 201, await answer.text()
                stored = await answer.json()
            async with http.get(f"/v1/files/{stored['id']}") as answer:
                assert await answer.read() == data
            async with http.post(f"/v1/files/{stored['id']}/url", json={}) as answer:
                assert (await answer.json())["url"].startswith(f"{url}/")
            await sees_live(http)


async def sees_live(http: aiohttp.ClientSession) -> None:
    """A job's whole life over a WebSocket, and over an event stream before that has ended."""
    body = {"kind": "simulate", "payload": {"duration_s": 0}}
    async with asyncio.timeout(DEADLINE_S), http.ws_connect("/v1/ws", protocols=("switchyard.v1",)) as socket:
        await socket.send_json({"type": "subscribe", "id": "all", "all": True})
        assert (await socket.receive_json())["type"] in ("hello", "subscribed")
        async with http.get("/v1/events/stream", params={"all": "true"}) as stream:
            assert stream.status == 200
            await http.post("/v1/jobs", json=body)
            async for line in stream.content:
                if b'"succeeded"' in line:
                    break
        async for message in socket:
            if '"succeeded"' in str(message.data):
                break


async def test_addresses_in_answers_are_those_that_the_client_called(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (site, url, context):
        headers = {"Authorization": f"Bearer {site.token}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(url, headers=headers, connector=connector) as http:
            made = {"version": "simulate", "input": {"duration_s": 0}}
            async with http.post("/compat/replicate/v1/predictions", json=made) as answer:
                found = await answer.json()
                assert found["urls"]["get"].startswith(f"{url}/"), found


async def test_the_command_line_follows_a_job_through_it(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (site, url, _):
        arguments = (
            "submit",
            "--kind",
            "simulate",
            "--payload",
            '{"duration_s": 0.2, "echo": "cli"}',
            "--wait",
        )
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "switchyard.services.cli", *arguments],
            env=site.environment | {"SWITCHYARD_URL": url, "SSL_CERT_FILE": str(tmp_path / "jobs.pem")},
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["echo"] == "cli"


async def test_the_proxy_of_the_compose_file_passes_jobs_and_live_views(tmp_path: Path) -> None:
    text = file("several-gateways", "compose.proxy.yaml").text
    (content,) = re.findall(r"content: \|\n((?:      .*\n)+)", text)
    assert "$" not in re.sub(r"\$\$|\$\{", "", text), "compose reads a single $ as a variable of its own"
    assert json.dumps(content).count("proxy_set_header") == 5
    content, port = content.replace("$$", "$"), free_port()
    async with Behind(tmp_path / "site") as site:
        await site.start_up()
        there = site.url.removeprefix("http://127.0.0.1")
        for name, here in (
            ("listen 8080", f"listen 127.0.0.1:{port}"),
            ("$gateways gateway;", "$gateways 127.0.0.1;"),  # Docker resolves the name of the service
            ("$gateways:8080", f"$gateways{there}"),
        ):
            assert content.count(name) == 1
            content = content.replace(name, here)
        with Nginx(tmp_path / "nginx", content):
            await until_it_listens(port)
            headers = {"Authorization": f"Bearer {site.token}"}
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
                async with http.post("/v1/files", data=io.BytesIO(os.urandom(LARGE))) as answer:
                    assert answer.status == 201, await answer.text()
                await sees_live(http)
