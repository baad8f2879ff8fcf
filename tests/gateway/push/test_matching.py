"""Which prediction server gets a job: as workers do, by what it requires and prefers, and by tenant."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.access.jwt import SECRET_FILE
from tests.gateway.push.task_server import TaskServer
from tests.gateway.push.test_pushing import DEADLINE_S, api, job_of, pushers, register, submit
from tests.gateway.rest import Gateway

__all__ = ["api"]


async def run_by(api: Gateway, job: str) -> str:
    """The server that a job was run by."""
    assert (await api.final(job)).name == "succeeded"
    return str((await job_of(api, job))["result"]["data"]["by"])


async def traced(api: Gateway) -> str:
    """A job that somebody traces."""
    answer = await api.call(
        "POST", "/v1/jobs", {"kind": "upscale"}, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01"
    )
    return str(answer.json["id"])


async def online(api: Gateway, *servers: TaskServer) -> None:
    async with asyncio.timeout(DEADLINE_S):
        for server in servers:
            path = f"/v1/servers/{server.name}"
            while not (await api.get(path, token=api.token("tenant-admin"))).json["takes_jobs"]:
                await asyncio.sleep(0.02)


async def test_a_job_goes_to_a_server_that_has_what_it_requires(api: Gateway) -> None:
    small, large = TaskServer("small"), TaskServer("large")
    async with small, large, pushers(api, 2):
        await register(api, small, capabilities={"gpu": 8, "models": ["a"]}, labels={"zone": "a"}, slots=4)
        await register(api, large, capabilities={"gpu": 24, "models": ["a", "b"]}, slots=4)
        await online(api, small, large)
        wishes: list[dict[str, Any]] = [{"gpu": {"$gte": 16}}, {"models": {"$has": "b"}}, {"gpu": 24}]
        fitting = [await submit(api, requires=wish) for wish in wishes * 4]
        assert {await run_by(api, job) for job in fitting} == {"large"}
        only = [await submit(api, requires={"gpu": {"$lt": 16}}) for _ in range(4)]
        assert {await run_by(api, job) for job in only} == {"small"}


async def test_labels_of_a_server_decide_nothing(api: Gateway) -> None:
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server, labels={"zone": "a"})
        await online(api, server)
        labelled = await submit(api, requires={"zone": "a"})
        later = await submit(api)
        assert await run_by(api, later) == "s1"
        assert await api.names(labelled) == ["submitted"]
        await register(api, server, capabilities={"zone": "a"})
        assert await run_by(api, labelled) == "s1"


async def test_a_job_goes_first_to_the_server_that_it_prefers(api: Gateway) -> None:
    plain, warm = TaskServer("plain"), TaskServer("warm")
    async with plain, warm, pushers(api):
        await register(api, plain, capabilities={"warm": False}, slots=4)
        await register(api, warm, capabilities={"warm": True}, slots=4)
        await online(api, plain, warm)
        by = [await run_by(api, await submit(api, prefers={"warm": True})) for _ in range(16)]
        assert by.count("warm") >= 12, by  # the other one takes what the first does not ask for just then
        warm.works_s = plain.works_s = 0.3
        jobs = [await submit(api, prefers={"warm": True}) for _ in range(16)]
        assert {await run_by(api, job) for job in jobs} == {"plain", "warm"}  # it is full, and others fit


@pytest.mark.parametrize("isolation", ["none", "loose", "strict"])
async def test_a_job_of_any_isolation_goes_to_its_tenants_servers(api: Gateway, isolation: str) -> None:
    own, other = TaskServer("own"), TaskServer("other")
    async with own, other, pushers(api):
        await register(api, own)
        stranger = api.token("tenant-admin", tenant=api.stranger)
        await api.call("PUT", "/v1/servers/other", other.wish, token=stranger)
        jobs = [await submit(api, isolation=isolation) for _ in range(3)]
        assert {await run_by(api, job) for job in jobs} == {"own"}
        strange = await api.call(
            "POST",
            "/v1/jobs",
            {"kind": "upscale", "isolation": isolation},
            token=api.token(tenant=api.stranger),
        )
        assert strange.status == 201, strange
        await api.final(strange.json["id"])
        assert set(other.took) == {f"task-{strange.json['id']}"}
        await api.call("DELETE", "/v1/servers/other", token=stranger)


async def test_a_pusher_without_a_read_model_finds_jobs_behind_those_of_others(
    api: Gateway, tmp_path: Path
) -> None:
    """Two tenants have a server, and a third one's jobs, which has none, are first in the lane."""
    bare = tmp_path / "bare"
    bare.mkdir(mode=0o700)
    shutil.copy(api.settings.data_dir / SECRET_FILE, bare)
    third = f"{api.tenant}-third"
    others = [
        (await api.call("POST", "/v1/jobs", {"kind": "upscale"}, token=api.token(tenant=third))).json["id"]
        for _ in range(20)
    ]
    stranger = api.token("tenant-admin", tenant=api.stranger)
    own, other = TaskServer("own"), TaskServer("other")
    async with own, other, pushers(api, data_dir=bare):
        jobs = [await traced(api) for _ in range(10)]
        strange = [
            (await api.call("POST", "/v1/jobs", {"kind": "upscale"}, token=api.token(tenant=api.stranger)))
            for _ in range(10)
        ]
        await register(api, own)
        await api.call("PUT", "/v1/servers/other", other.wish, token=stranger)
        for job in [*jobs, *(answer.json["id"] for answer in strange)]:
            assert (await api.final(job)).name == "succeeded"
        assert set(own.took) == {f"task-{job}" for job in jobs}
        assert {headers["traceparent"].split("-")[1] for _, headers in own.asked} == {"ab" * 16}
        assert all(count == 1 for server in (own, other) for count in server.took.values())
        await api.call("DELETE", "/v1/servers/other", token=stranger)
    for job in others:
        assert await api.names(job) == ["submitted"]
        await api.call("POST", f"/v1/jobs/{job}/cancel", token=api.token(tenant=third))
