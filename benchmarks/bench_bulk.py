"""A bulk submission, beside as many plain acknowledged publishes of the same lines, pipelined."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from benchmarks.gateway_process import started
from services import broker, topology
from services.gateway.tokens import load_or_create_secrets, mint
from services.nats_server import start_broker
from services.publisher import Publisher

LINES = 30_000
ROUNDS = 3
WARM_UP = 5_000
BATCH = 500
IDLE_S = 30.0
LINE = (
    b'{"kind":"bench","payload":{"duration_s":0,"name":"a name of some length"},"labels":{"project":"p1"}}\n'
)


async def raw_publishes(publisher: Publisher, count: int) -> float:
    """Acknowledged publishes a second, as many in flight as the publisher allows."""
    begun = time.perf_counter()
    acks = []
    for number in range(count):
        acks.append(await publisher.send(f"raw.{number}.submitted", LINE, {}))
        if number % 256 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*acks)
    return count / (time.perf_counter() - begun)


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
            nc = await broker.connect(server.url, name="bench")
            await topology.apply(nc)
            stream = {"name": "RAW", "subjects": ["raw.>"], "storage": "file", "num_replicas": 1}
            await nc.request("$JS.API.STREAM.CREATE.RAW", orjson.dumps(stream), timeout=5)
            secret = load_or_create_secrets(data_dir)[0]
            token = mint(secret, tenant="bench", roles=["submitter"], ttl_s=600)
            async with Publisher(nc) as publisher, started("gateway", server.url, data_dir) as url:
                await raw_publishes(publisher, WARM_UP)
                await lines_a_second(url, token, WARM_UP)
                rounds = [
                    (await raw_publishes(publisher, LINES), await lines_a_second(url, token, LINES))
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
