"""Every part on a broker that takes WebSocket connections with TLS, by a certificate of our own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from switchyard.services.broker.server.server import start_broker
from switchyard.services.broker.server.websocket import websocket_of
from tests.ports import free_port
from tests.switchyard.test_vigil_child import certificate
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
DEADLINE_S = 60.0


class SecureDeployment(Deployment):
    """All of its parts come in by `wss://`, and trust one certificate."""

    async def __aenter__(self) -> Self:
        """Start the broker and lay out its streams."""
        self.data_dir.mkdir(parents=True)
        self.trusted = await asyncio.to_thread(certificate, self.directory / "own.pem")
        port = free_port()
        listener = websocket_of(f"127.0.0.1:{port}", self.trusted, None)
        self.broker = await start_broker(self.directory / "broker", websocket=listener)
        self.secure_url = self.broker.url.replace("nats://", "wss://").rpartition(":")[0] + f":{port}"
        self.session = aiohttp.ClientSession()
        await self.command("topology", "apply", "--nats", self.secure_url)
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        return super().environment | {
            "SWITCHYARD_NATS_URL": self.secure_url, "SSL_CERT_FILE": str(self.trusted),
        }  # fmt: skip

    async def refused(self, *arguments: str, **environment: str) -> str:
        """What a part says that does not come to the broker."""
        command = [sys.executable, "-m", "switchyard.services.cli", *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, env=self.environment | environment,
            text=True, capture_output=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode not in (0, None)
        return str(done.stderr)


async def test_jobs_run_over_wss_and_a_certificate_that_is_not_trusted_is_named(tmp_path: Path) -> None:
    other = await asyncio.to_thread(certificate, tmp_path / "other.pem")
    async with SecureDeployment(tmp_path) as site:
        await site.start_up()
        job = await site.submit(payload={"duration_s": 0, "echo": "far"})

        async def done() -> dict[str, Any]:
            _, found = await site.request("GET", f"/v1/jobs/{job}")
            return found if found["state"] == "succeeded" else {}

        async with asyncio.timeout(DEADLINE_S):
            while not (found := await done()):
                await asyncio.sleep(0.05)
        assert found["result"]["echo"] == "far"
        worker, gateway, plain = await asyncio.gather(
            site.refused("worker", "--kinds", "simulate", SSL_CERT_FILE=str(other)),
            site.refused("gateway", "--port", str(free_port()), SSL_CERT_FILE=str(other)),
            site.refused(
                "worker", "--kinds", "simulate", "--nats", site.secure_url.replace("wss://", "ws://")
            ),
        )
        password = site.broker.url.partition("@")[0].rpartition(":")[2]
        for said in (worker, gateway):
            assert "its certificate is not trusted (" in said, said
            assert "SSL_CERT_FILE has to name" in said, said
        assert "no broker answers at ws://" in plain, plain
        assert not any(text in said for text in ("Traceback", password) for said in (worker, gateway, plain))
