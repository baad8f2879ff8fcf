"""Pushers are killed while a server streams and while one is asked after: each job ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.events import Succeeded
from tests.gateway.push.any_json_server import QueueServer
from tests.gateway.push.openai_server import ENDING, WORDS, OpenAIServer, chunk, streams
from tests.ports import free_port
from tests.system.deployment import Deployment
from tests.system.test_push import QUIET_S, checked_log, until_online

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
JOBS = 6


async def started(site: Deployment) -> None:
    await site.start("projector", "projector")
    await site.start_gateway("gateway", free_port())
    await site.start("keeper", "keeper")
    for name in ("pusher0", "pusher1"):
        await site.start(name, "pusher")


async def register(site: Deployment, server: OpenAIServer | QueueServer, **fields: Any) -> None:
    status, body = await site.request("PUT", f"/v1/servers/{server.name}", json={**server.wish, **fields})
    assert status in (200, 201), body


async def ended(site: Deployment, job: str) -> dict[str, Any]:
    async with asyncio.timeout(QUIET_S):
        while True:
            status, body = await site.request("GET", f"/v1/jobs/{job}", params={"wait": "20"})
            if status == 200 and body["state"] in ("succeeded", "dead", "cancelled", "expired"):
                found: dict[str, Any] = body
                return found


async def kill_both(site: Deployment) -> None:
    """One after the other, each with one that takes its place."""
    for name in ("pusher0", "pusher1"):
        await site.parts[name].kill()
        await site.start(name, "pusher")


async def test_a_stream_whose_pusher_is_killed_is_asked_for_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"server_networks": "127.0.0.0/8", "timed_lease_s": 4, "poison_losses": 10}
    slow = streams(*(chunk({"content": word}) for word in WORDS), ends="never")
    whole = streams(*(chunk({"content": word}) for word in WORDS), *ENDING)
    async with Deployment(tmp_path, **settings) as site, OpenAIServer("s1", slow) as server:
        await started(site)
        await register(site, server, slots=JOBS)
        await until_online(site, server)
        jobs = [await site.submit(kind="openai-chat", payload=CHAT, max_attempts=20) for _ in range(JOBS)]
        async with asyncio.timeout(QUIET_S):
            while len(server.asked) < JOBS:
                await asyncio.sleep(0.05)
        server.behave = whole
        await kill_both(site)
        for found in await asyncio.gather(*(ended(site, job) for job in jobs)):
            assert found["state"] == "succeeded", found
            assert found["result"]["choices"][0]["message"]["content"] == "".join(WORDS)
        entries = await checked_log(site)
    ends = Counter(entry.job_id for entry in entries if isinstance(entry.event, Succeeded))
    assert ends == Counter(dict.fromkeys(jobs, 1))


async def test_a_task_whose_pushers_are_killed_is_asked_after_by_others_and_done_once(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"server_networks": "127.0.0.0/8", "timed_lease_s": 60}
    async with Deployment(tmp_path, **settings) as site, QueueServer("s1", polls=None) as server:
        await started(site)
        await register(site, server, slots=JOBS)
        await until_online(site, server)
        jobs = [await site.submit(kind="upscale", payload={"prompt": "a cat"}) for _ in range(JOBS)]
        async with asyncio.timeout(QUIET_S):
            while len(server.asked_after) < JOBS:
                await asyncio.sleep(0.05)
        await kill_both(site)
        server.polls = 0
        for found in await asyncio.gather(*(ended(site, job) for job in jobs)):
            assert (found["state"], found["attempt"]) == ("succeeded", 1), found
        entries = await checked_log(site)
    ends = Counter(entry.job_id for entry in entries if isinstance(entry.event, Succeeded))
    assert ends == Counter(dict.fromkeys(jobs, 1))
    assert len(server.sent) == JOBS
