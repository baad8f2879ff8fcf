"""Jobs that end in parts, by a worker over REST with one slot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from switchyard.client import AsyncClient
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.handlers import Context, Join, SyncContext
from switchyard.services.broker.server.server import NatsServer
from switchyard.worker import Worker
from tests.gateway.rest import Gateway, gateway

DEADLINE_S = 60.0


def made(worker: Worker) -> None:
    @worker.kind("book")
    async def book(payload: dict[str, Any], context: Context) -> Any:
        if context.joins:
            outcomes = {part.name: await part.outcome() for part in context.parts}
            return {name: outcome.result for name, outcome in outcomes.items()}
        file = await context.save("note.txt", "a note")
        for n in range(payload["chapters"]):
            await context.spawn("chapter", {"n": n, "file": file.file}, name=f"chapter-{n}")
        context.usage["pages"] = 1
        return context.join()

    @worker.kind("chapter")
    def chapter(payload: dict[str, Any], context: SyncContext) -> Any:
        if context.joins:
            return [part.outcome().result for part in context.parts]
        if payload["n"] == 1:
            context.spawn("page", {"n": "x" * 100})
            context.spawn("page", {"n": "short"})
            return context.join("collect")
        return context.fetch(payload["file"]).path.read_text()

    @worker.kind("page")
    def page(payload: dict[str, Any]) -> str:
        return str(payload["n"]) * 1000

    @worker.kind("nobodys")
    async def nobodys(_: dict[str, Any], context: Context) -> Join:
        await context.spawn("nobody-runs-this", {}, name="lost")
        return context.join()


async def test_parts_run_over_rest_in_one_slot(broker: NatsServer, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(DEADLINE_S),
        gateway(broker.url, tmp_path) as api,
        api.keeper(),
        AsyncClient(api.url, api.token()) as client,
        asyncio.TaskGroup() as group,
    ):
        worker = Worker(url=api.url, token=api.token("worker"), lease_s=5.0, poll_s=2.0, slots=1)
        made(worker)
        serving = group.create_task(worker.serve())
        wanted = {"chapter-0": "a note", "chapter-1": ["x" * 100_000, "short" * 1000]}
        job = await client.submit("book", {"chapters": 2}, max_attempts=1)
        assert await client.result(job.id) == wanted
        done = await client.get(job.id)
        assert (done.failures, [part.name for part in done.parts]) == (0, ["chapter-0", "chapter-1"])
        part = await client.get(done.parts[1].id)
        assert (part.parent, len(part.parts)) == (done.id, 2)

        kept = await client.submit("book", {"chapters": 1}, erasable=True)
        assert await client.result(kept.id) == {"chapter-0": "a note"}
        kept = await client.get(kept.id)
        assert (await api.store.load(JobId(kept.parts[0].id))).erasable
        assert kept.result is None
        assert kept.artifacts[0]["name"] == "result.json"
        erased = await api.call("DELETE", f"/v1/jobs/{kept.id}?erase=true")
        assert erased.json["state"] == "archived"
        assert (await api.store.load(JobId(kept.parts[0].id))).status is Status.ARCHIVED

        waits = await client.submit("nobodys", {})
        await api.until(waits.id, "parted")
        (lost,) = (await client.get(waits.id)).parts
        await api.until(lost.id, "submitted")
        why = (await api.get(f"/v1/jobs/{waits.id}/explain")).json
        assert (why["reason"], lost.id in why["summary"]) == ("parts", True)
        assert (await api.get(f"/v1/jobs/{lost.id}/explain")).json["reason"] == "no_worker_fits"
        await client.cancel(waits.id)
        assert (await api.final(lost.id)).name == "cancelled"

        await _by_hand(api, (await client.submit("by-hand", {})).id)
        worker.stop()
        await serving


async def _by_hand(api: Gateway, job_id: str) -> None:
    """What a worker of curl does."""
    claim = {"worker": "curl", "kinds": ["by-hand"], "wait_s": 5}
    worker_token = api.token("worker")
    lease = (await api.call("POST", "/v1/leases", claim, token=worker_token)).json["lease"]
    held: dict[str, Any] = {"token": worker_token, "Switchyard_Lease_Token": lease["token"]}
    path = f"/v1/leases/{lease['id']}/part"
    for body, code in (
        ({}, "unknown_file"), ({"parts": []}, "no_parts"), ({"parts": [{"name": "a"}]}, "invalid"),
        ({"parts": [{"name": "A", "kind": "b"}]}, "invalid_part"),
    ):  # fmt: skip
        refused = await api.call("POST", path, body, **held)
        assert (refused.status, refused.json["code"]) == (422, code), refused
    plan = {"parts": [{"name": "a", "kind": "page", "payload": {"n": 1}}]}
    for _ in range(2):  # the answer may have been lost
        answer = await api.call("POST", path, plan, **held)
        assert (answer.status, answer.json["parts"][0]["name"]) == (200, "a"), answer
    claimed = (await api.call("POST", "/v1/leases", {**claim, "wait_s": 20}, token=worker_token)).json
    held["Switchyard_Lease_Token"] = claimed["lease"]["token"]
    (one,) = claimed["job"]["parts"]
    lease_path = f"/v1/leases/{claimed['lease']['id']}"
    outcome = await api.call("GET", f"{lease_path}/parts/{one['id']}", **held)
    assert (outcome.json["status"], outcome.json["result"]) == ("succeeded", "1" * 1000)
    assert (await api.call("GET", f"{lease_path}/parts/{job_id}", **held)).status == 404
    assert (await api.call("POST", f"{lease_path}/part", plan, **held)).json["code"] == "parted_before"
    assert (await api.call("POST", f"{lease_path}/succeed", {}, **held)).json["state"] == "succeeded"
