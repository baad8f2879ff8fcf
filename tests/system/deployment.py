"""A whole Switchyard of real processes on one machine, any of which a test may kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import aiohttp

from switchyard.services.broker.server.server import NatsServer, start_broker
from tests import forked
from tests.ports import free_port

READY_S = 120.0
STOP_S = 20.0
COMMAND_S = 120.0


class Part:
    """One process of the deployment."""

    def __init__(self, name: str, process: asyncio.subprocess.Process | forked.Program, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """End it as an operator does; returns the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), STOP_S)

    def signal(self, number: signal.Signals) -> None:
        """Send any signal."""
        self.process.send_signal(number)


class Deployment:
    """Broker, gateway, projector, keeper and workers, each a process of its own.

    Args:
        directory: for data, logs and the broker's files.
        lease_s: seconds of a lease.
        started: names of processes that are not forked from one that has imported all, for tests of what a
            process is made of, or of how its interpreter ends.
        settings: others of every process, by name.
    """

    def __init__(
        self, directory: Path, *, lease_s: float = 3.0, started: Collection[str] = (), **settings: float
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.lease_s = lease_s
        self.started = started
        self.settings = {f"SWITCHYARD_{name.upper()}": str(value) for name, value in settings.items()}
        self.parts: dict[str, Part] = {}
        self.url = ""
        self.token = ""
        self.broker: NatsServer
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Start the broker and lay out its streams."""
        self.data_dir.mkdir(parents=True)
        self.broker = await start_broker(self.directory / "broker")
        self.session = aiohttp.ClientSession()
        await self.command("topology", "apply", "--nats", self.broker.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill what is left."""
        await self.kill_parts()
        await self.broker.stop()

    async def kill_parts(self) -> None:
        """Kill all but the broker."""
        await self.session.close()
        for part in self.parts.values():
            if part.process.returncode is None:
                part.process.send_signal(signal.SIGCONT)
                await part.kill()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        return os.environ | {
            "SWITCHYARD_DATA_DIR": str(self.data_dir),
            "SWITCHYARD_NATS_URL": self.broker.url,
            "SWITCHYARD_LEASE_S": str(self.lease_s),
            "SWITCHYARD_SWEEP_S": "5",
            "SWITCHYARD_URL": self.url,
            "SWITCHYARD_TOKEN": self.token,
            **self.settings,
        }

    async def command(self, *arguments: str) -> str:
        """Run a command to its end; its standard output."""
        done = await asyncio.to_thread(forked.run, arguments, Path.cwd(), self.environment, COMMAND_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def start(self, name: str, *arguments: str, module: str = forked.MODULE) -> Part:
        """Start a process; `name` is what the test calls it, `arguments` those of the module."""
        log = self.directory / f"{name}.log"
        environment = self.environment
        process: asyncio.subprocess.Process | forked.Program
        with log.open("ab") as target:
            if name not in self.started and module == forked.MODULE and forked.is_possible(environment):
                output = target.fileno()
                process = await asyncio.to_thread(
                    forked.Program, arguments, Path.cwd(), environment, output, output
                )
            else:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, *arguments,
                    env=environment, stdout=target, stderr=target, stdin=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
        part = Part(name, process, log)
        self.parts[name] = part
        return part

    async def start_gateway(self, name: str = "gateway", port: int = 0) -> Part:
        """Start a gateway and wait until it is ready."""
        port = port or free_port()
        return await self._serving(await self.start(name, "gateway", "--port", str(port)), port)

    async def start_up(self, *, slots: int = 8) -> Part:
        """Start everything in one process, on this deployment's broker, and wait until it is ready."""
        port = free_port()
        return await self._serving(
            await self.start("up", "up", "--port", str(port), "--slots", str(slots)), port
        )

    async def _serving(self, part: Part, port: int) -> Part:
        self.url = f"http://127.0.0.1:{port}"
        if not self.token:
            await self._until_ready(part)
            self.token = (
                await self.command("token", "--tenant", "acme", "--role", "admin", "--ttl", "2h")
            ).strip()
        await self._until_ready(part)
        return part

    async def start_worker(self, name: str, *, slots: int = 4, kinds: str = "simulate") -> Part:
        """Start a worker."""
        return await self.start(name, "worker", "--slots", str(slots), "--kinds", kinds, "--name", name)

    async def start_all(self, *, workers: int = 2, slots: int = 8) -> None:
        """Start one of everything, and some workers."""
        await self.start("projector", "projector")
        await self.start_gateway()
        await self.start("keeper", "keeper")
        for number in range(workers):
            await self.start_worker(f"worker{number}", slots=slots)

    async def _until_ready(self, part: Part) -> None:
        async with asyncio.timeout(READY_S):
            while True:
                assert part.process.returncode is None, part.log.read_text()
                try:
                    async with self.session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON body of a request with the admin's token."""
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def submit(self, **job: Any) -> str:
        """Submit a job; its id. It keeps trying while the gateway or the broker is away."""
        key = os.urandom(8).hex()
        async with asyncio.timeout(60):
            while True:
                try:
                    status, body = await self.request(
                        "POST", "/v1/jobs", json={"kind": "simulate"} | job, headers={"Idempotency-Key": key}
                    )
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
                    continue
                if status in (200, 201):
                    return str(body["id"])
                assert status == 503, body
                await asyncio.sleep(0.1)
