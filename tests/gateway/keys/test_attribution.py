"""Jobs, files and events say by which key they came."""

from __future__ import annotations

import asyncio
from typing import Any

from switchyard.services.keeper.loop import Keeper
from tests.gateway.keys.site import make
from tests.gateway.leases.test_leases import Worker
from tests.gateway.rest import DEADLINE_S, Gateway


async def events(api: Gateway, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(f"/v1/jobs/{job_id}/events")).json["events"]
    return found


async def test_job_and_its_events_are_their_keys(api: Gateway) -> None:
    by, other = await make(api, "submitter"), await make(api, "submitter")
    made = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=by.secret)
    (line,) = await api.bulk({"kind": "noop"}, token=by.secret)
    plain = await api.submit()
    assert made.json["key"] == by.id
    assert plain["key"] is None
    assert (await api.get(f"/v1/jobs/{line['id']}")).json["key"] == by.id
    await api.call("POST", f"/v1/jobs/{made.json['id']}/cancel", {}, token=other.secret)
    first, second = await events(api, made.json["id"])
    assert (first["key"], first["actor"]) == (by.id, f"key:{by.id}")
    assert (second["key"], second["actor"]) == (other.id, f"key:{other.id}")
    (only,) = await events(api, plain["id"])
    assert "key" not in only
    assert only["actor"] == "user:ann"


async def test_jobs_are_listed_by_their_key(api: Gateway) -> None:
    by = await make(api, "submitter")
    wanted = set()
    for number in range(3):
        body = {"kind": "noop", "labels": {"n": str(number)}}
        wanted.add((await api.call("POST", "/v1/jobs", body, token=by.secret)).json["id"])
        seq = (await api.call("POST", "/v1/jobs", body)).headers["Switchyard-Seq"]

    async def listed(query: str) -> list[str]:
        answer = await api.get(f"/v1/jobs?{query}", Switchyard_Min_Seq=seq)
        assert answer.status == 200, answer
        return [job["id"] for job in answer.json["jobs"]]

    assert set(await listed(f"key={by.id}")) == wanted
    assert len(await listed(f"key={by.id}&label=n:1")) == 1
    assert len(await listed(f"key={by.id}&kind=noop&state=queued&limit=2")) == 2
    assert await listed(f"key={'0' * 16}") == []
    for value in ("x", "", "*", by.secret, f"swy_{by.id}"):
        answer = await api.get(f"/v1/jobs?key={value}")
        assert (answer.status, answer.json["field"]) == (400, "key")


async def test_what_a_worker_does_with_a_key_is_its_keys(api: Gateway) -> None:
    job = await api.submit(kind=api.tenant)
    key = await make(api, "worker")
    worker = Worker(api, kinds=[api.tenant])
    worker.token = key.secret
    claimed = await worker.claim(wait_s=10)
    assert claimed.status == 201
    assert (await worker.say(claimed, "succeed", {"result": 1})).status == 200
    found = await events(api, job["id"])
    assert [(event["type"], event.get("key")) for event in found] == [
        ("submitted", None),
        ("claimed", key.id),
        ("succeeded", key.id),
    ]
    assert found[1]["actor"].startswith("worker:")


async def test_file_is_its_keys(api: Gateway) -> None:
    key = await make(api, "submitter")
    mine = await api.call("POST", "/v1/files?name=a", b"x", token=key.secret, Content_Type="text/plain")
    other = await api.call("POST", "/v1/files?name=b", b"x", Content_Type="text/plain")
    assert (mine.json["key"], other.json["key"]) == (key.id, None)
    async with asyncio.timeout(DEADLINE_S):
        while len(found := (await api.get("/v1/files")).json["files"]) < 2:
            pass
    assert {file["name"]: file["key"] for file in found} == {"a": key.id, "b": None}


async def test_jobs_of_a_schedule_are_its_keys(api: Gateway) -> None:
    key = await make(api, "submitter")
    ticks = {"every_s": 1, "job": {"kind": api.tenant}}
    made = await api.call("POST", "/v1/schedules", ticks, token=key.secret)
    assert made.status == 201, made
    keeper = Keeper(api.nc, api.settings)
    keeping = asyncio.create_task(keeper.run())
    async with asyncio.timeout(DEADLINE_S):
        while not (jobs := (await api.get(f"/v1/jobs?kind={api.tenant}")).json["jobs"]):
            pass
    keeping.cancel()
    await asyncio.wait([keeping])
    await api.call("DELETE", f"/v1/schedules/{made.json['id']}")
    assert jobs[0]["key"] == key.id


async def test_archived_job_still_says_its_key(api: Gateway) -> None:
    key = await make(api, "submitter")
    made = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
    path = f"/v1/jobs/{made.json['id']}"
    await api.call("POST", f"{path}/cancel", {})
    archived = await api.call("DELETE", path)
    assert archived.status == 200, archived
    assert archived.json["key"] == key.id
