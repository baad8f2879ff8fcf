"""From a submission over REST to its `succeeded` on a WebSocket, through every part in one process."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from switchyard.services.run import connection_file

JOBS = 200
WARM_UP = 20
READY_S = 60.0
TIMEOUT_S = 20.0


async def rounds(url: str, token: str) -> list[float]:
    """Seconds of each round, one after the other."""
    headers = {"Authorization": f"Bearer {token}"}
    times = []
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(f"{url}/v1/ws") as socket,
    ):
        await socket.send_str(
            '{"type":"subscribe","id":"b","all":true,"events":["succeeded"],"progress":false}'
        )
        for _ in range(WARM_UP + JOBS):
            begun = time.perf_counter()
            async with session.post(
                f"{url}/v1/jobs", json={"kind": "simulate", "payload": {"duration_s": 0}}
            ) as answer:
                job_id = (await answer.json())["id"]
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    message = orjson.loads(await socket.receive_str())
                    if message["type"] == "event" and message["event"]["job_id"] == job_id:
                        break
            times.append(time.perf_counter() - begun)
    return times[WARM_UP:]


async def measure() -> list[dict[str, Any]]:
    """Start everything and measure."""
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "switchyard.services.cli", "--log-level", "error",
            "up", "--port", "0", "--data-dir", directory, "--kinds", "simulate",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while process.stdout is not None and not (await process.stdout.readline()).startswith(
                    b"ready"
                ):
                    continue
            info = connection_file.read(Path(directory))
            if info is None:
                raise RuntimeError("it is ready but left no connection.json")
            times = sorted(await rounds(info.url, info.token))
        finally:
            process.terminate()
            await process.wait()
    return [
        {"what": "submission to succeeded, WebSocket, median", "unit": "ms", "raw": None, "ours": statistics.median(times) * 1e3, "ratio": None},
        {"what": "submission to succeeded, WebSocket, p99", "unit": "ms", "raw": None, "ours": times[int(len(times) * 0.99)] * 1e3, "ratio": None},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
