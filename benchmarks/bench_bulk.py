"""A bulk submission, beside as many plain acknowledged publishes of the same lines, pipelined."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import orjson
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.gateway_process import started
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import topology
from switchyard.services.broker.server.server import start_broker

LINES = 30_000
ROUNDS = 3
WARM_UP = 5_000
BATCH = 500
IN_FLIGHT = 1024
IDLE_S = 30.0
LINE = (
    b'{"kind":"bench","payload":{"duration_s":0,"name":"a name of some length"},"labels":{"project":"p1"}}\n'
)


class Raw:
    """nats-py alone, with one inbox and a future for every acknowledgement, which is the fastest way it has."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._inbox = nc.new_inbox()
        self._acks: dict[str, asyncio.Future[int]] = {}

    async def start(self) -> None:
        await self._nc.subscribe(
            f"{self._inbox}.*", cb=self._on_ack, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def publishes_a_second(self, count: int) -> float:
        """Acknowledged publishes a second."""
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        waiting: deque[asyncio.Future[int]] = deque()
        for number in range(count):
            if len(waiting) >= IN_FLIGHT:
                await waiting.popleft()
            future = self._acks[str(number)] = loop.create_future()
            waiting.append(future)
            await self._nc.publish(f"raw.{number}.submitted", LINE, f"{self._inbox}.{number}")
        await asyncio.gather(*waiting)
        return count / (time.perf_counter() - begun)

    async def _on_ack(self, message: Msg) -> None:
        answer = orjson.loads(message.data)
        self._acks.pop(message.subject.rpartition(".")[2]).set_result(answer["seq"])


async def lines_a_second(url: str, token: str, count: int) -> float:
    """Lines answered a second."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    writer.write(
        b"POST /v1/jobs/bulk HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (token.encode(), count * len(LINE))
    )

    async def send() -> None:
        for start in range(0, count, BATCH):
            writer.write(LINE * min(BATCH, count - start))
            await writer.drain()

    begun = time.perf_counter()
    async with asyncio.timeout(IDLE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        found = await reader.readuntil(b"\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 200"), found
        created = 0
        tail = b""
        while created < count:
            chunk = await reader.read(2**18)
            assert chunk, "the answer broke off"
            data = tail + chunk
            created += data.count(b'"status":201')
            tail = data[-11:]
    rate = count / (time.perf_counter() - begun)
    writer.close()
    return rate


async def measure() -> list[dict[str, Any]]:
    """Raw and ours on one broker, in turns; the best round of each."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        server = await start_broker(data_dir / "broker")
        try:
            nc = await nats.connect(server.url)
            await topology.apply(nc)
            stream = {"name": "RAW", "subjects": ["raw.>"], "storage": "file", "num_replicas": 1}
            await nc.request("$JS.API.STREAM.CREATE.RAW", orjson.dumps(stream), timeout=5)
            secret = load_or_create_secrets(data_dir)[0]
            token = mint(secret, tenant="bench", roles=["submitter"], ttl_s=600)
            raw_publisher = Raw(nc)
            await raw_publisher.start()
            async with started("gateway", server.url, data_dir) as url:
                await raw_publisher.publishes_a_second(WARM_UP)
                await lines_a_second(url, token, WARM_UP)
                rounds = [
                    (await raw_publisher.publishes_a_second(LINES), await lines_a_second(url, token, LINES))
                    for _ in range(ROUNDS)
                ]
            await nc.close()
        finally:
            await server.stop()
    raw, ours = (max(rates) for rates in zip(*rounds, strict=True))
    return [{"what": "bulk submission", "unit": "lines/s", "raw": raw, "ours": ours, "ratio": ours / raw, "goal": 0.35}]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
