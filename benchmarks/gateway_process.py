"""A gateway, or the least that takes a job, in a process of its own; prints its URL, ends with its input."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import orjson
import uvloop
from aiohttp import web
from nats.aio.client import Client

from switchyard.events.subjects import H_EXPECTED_SEQ, H_EXPECTED_SUBJECT, claimable_event, job_filter
from switchyard.services.access.jwt import load_or_create_secrets
from switchyard.services.broker import connection
from switchyard.services.broker.publisher import Publisher
from switchyard.services.gateway.app import serve
from switchyard.services.ids import new_id
from switchyard.services.records.lanes import lane_for
from switchyard.services.settings import Settings

STARTED_S = 30.0


async def serve_bare(settings: Settings, nc: Client) -> None:
    """Check a token, publish one guarded event, answer with its sequence."""
    secret = load_or_create_secrets(settings.data_dir)[0]
    lane = lane_for("bench")

    async with Publisher(nc) as publisher:

        async def submit(request: web.Request) -> web.Response:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            jwt.decode(token, secret, algorithms=["HS256"])
            body = await request.read()
            job_id = new_id()
            guard = {H_EXPECTED_SEQ: "0", H_EXPECTED_SUBJECT: job_filter(job_id)}
            seq = await publisher.publish(claimable_event(job_id, "submitted", lane, 50), body, guard)
            return web.Response(
                body=orjson.dumps({"id": job_id, "seq": seq}), status=201, content_type="application/json"
            )

        app = web.Application()
        app.router.add_post("/v1/jobs", submit)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, settings.host, 0).start()
        announce(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.Event().wait()


def announce(url: str) -> None:
    print(url, flush=True)


async def main(what: str, nats_url: str, data_dir: str) -> None:
    nc = await connection.connect(nats_url, name=what)
    settings = Settings(data_dir=Path(data_dir), port=0)
    serving = asyncio.create_task(
        serve_bare(settings, nc) if what == "bare" else serve(settings, nc, ready=announce)
    )
    await asyncio.to_thread(sys.stdin.read)
    serving.cancel()
    await asyncio.wait([serving])
    await nc.close()


@contextlib.asynccontextmanager
async def started(what: str, nats_url: str, data_dir: Path) -> AsyncIterator[str]:
    """The URL of a server that runs until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, what, nats_url, str(data_dir),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(STARTED_S):
            url = await process.stdout.readline()
        yield url.decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
