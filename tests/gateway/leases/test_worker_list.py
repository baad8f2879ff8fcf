"""What others see of workers: pages, records of the version before, and what cannot be read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.cli.client import Api
from switchyard.services.cli.commands.control import all_workers
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records import workers
from switchyard.services.records.controls import CONTROLS
from tests.gateway.leases.test_leases import Worker, submit, until_in_registry
from tests.gateway.leases.test_worker_records import LARGE, declared
from tests.gateway.rest import DEADLINE_S, Gateway, gateway, now


@pytest.fixture
def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=[api.tenant])


async def test_workers_are_listed_in_pages(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path) as api:
        worker = Worker(api)
        for number in range(7):
            await worker.claim(worker=f"w{number}", capabilities=LARGE)
        await until_in_registry(api, Worker(api, "w6"))
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = (await api.get(f"/v1/workers?limit=3&cursor={cursor}")).json
            assert all("capabilities" not in shown for shown in page["workers"])
            seen += [shown["id"].rpartition(".")[2] for shown in page["workers"]]
            cursor = page["cursor"]
        assert seen == [f"w{number}" for number in range(7)]
        whole = (await api.get("/v1/workers?limit=1&capabilities=true")).json
        assert [shown["capabilities"] for shown in whole["workers"]] == [LARGE]
        for wrong in ("limit=0", "limit=501", "capabilities=yes", "other=1"):
            assert (await api.get(f"/v1/workers?{wrong}")).status == 400


async def test_the_command_line_shows_the_workers_of_all_pages(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path) as api:
        worker = Worker(api)
        await asyncio.gather(*(worker.claim(worker=f"w{number:03}") for number in range(120)))
        for number in range(120):
            await until_in_registry(api, Worker(api, f"w{number:03}"))
        async with Api(api.url, api.token()) as client:
            shown = await all_workers(client, 500)
            assert (len(shown["workers"]), shown["cursor"]) == (120, None)
            first = await all_workers(client, 110)
            assert (len(first["workers"]), first["cursor"]) == (110, first["workers"][-1]["id"])


async def test_a_page_with_large_capabilities_ends_early(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, workers=60, tenant_capabilities_bytes=8 << 20) as api:
        worker = Worker(api)
        await asyncio.gather(*(worker.claim(worker=f"w{n}", capabilities=LARGE) for n in range(40)))
        for n in range(40):
            await until_in_registry(api, Worker(api, f"w{n}"))
        answer = await api.get("/v1/workers?limit=40&capabilities=true")
        assert len(answer.raw) < 1.2 * (1 << 20)
        rest = await api.get(f"/v1/workers?limit=40&capabilities=true&cursor={answer.json['cursor']}")
        assert len(answer.json["workers"]) + len(rest.json["workers"]) == 40


def old_record(worker: str, capabilities: str) -> bytes:
    """A record as the version before wrote it, with what it declares in the heartbeat."""
    at = now().isoformat()
    return (
        f'{{"id":"{worker}","kinds":["noop"],"capabilities":{capabilities},"revision":3,"version":"0.0.1",'
        f'"host":"h","slots":2,"state":"running","fences":{{}},"lease_s":30.0,"started_at":"{at}","at":"{at}"}}'
    ).encode()


async def test_a_worker_of_the_version_before_is_seen_and_matched(api: Gateway) -> None:
    worker = f"old-{api.tenant}"
    await api.publisher.publish(
        workers.HEARTBEATS.subject(worker), old_record(worker, '{"gpu":24}'), {"Nats-TTL": "30s"}
    )
    async with asyncio.timeout(DEADLINE_S):
        while (shown := await api.get(f"/v1/workers/{worker}")).status != 200:
            await asyncio.sleep(0.02)
    assert (shown.json["capabilities"], shown.json["revision"], shown.json["slots"]) == ({"gpu": 24}, 3, 2)
    job = await api.submit(requires={"gpu": 24})
    verdicts = (await api.get(f"/v1/jobs/{job['id']}/explain")).json["workers"]
    assert [each["verdict"] for each in verdicts if each["id"] == worker] == ["free"]


async def test_a_record_that_cannot_be_shown_is_left_out_and_counted(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        huge = old_record("huge", '{"n":1' + "0" * 30 + "}")
        deep = old_record("deep", '{"a":' * 300 + "1" + "}" * 300)
        for name, body in {"huge": huge, "deep": deep, "x.y": b"garbage", "w": b'{"id":"w"}'}.items():
            await api.publisher.publish(workers.HEARTBEATS.subject(name), body, {})
        await Worker(api).claim()
        async with asyncio.timeout(DEADLINE_S):
            while (page := (await api.get("/v1/workers")).json)["unreadable"] < 4 or not page["workers"]:
                await asyncio.sleep(0.02)
        assert [shown["id"] for shown in page["workers"]] == [f"rest.{api.tenant}.curl-1"]
        assert (await api.get("/v1/workers/huge")).status == 404
        metrics = (await api.get("/metrics", token=api.token("operator"))).raw.decode()
        assert "switchyard_unreadable_workers 4.0" in metrics


async def test_a_wish_that_cannot_be_read_is_none_and_stops_no_gateway(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api, asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        worker = Worker(api, kinds=[api.tenant])
        name = f"rest.{api.tenant}.curl-1"
        for entry in (
            CONTROLS.subject(("worker", name)),
            CONTROLS.subject(("kind", api.tenant)),
            "$KV.controls.x",
        ):
            await api.publisher.publish(entry, b"\xff garbage", {})
        assert (await worker.claim()).headers["Switchyard-Worker-State"] == "running"
        await until_in_registry(api, worker)
        for verb, state in (("pause", "paused"), ("resume", "running")):
            path = f"/v1/workers/{name}/{verb}"
            assert (await api.call("POST", path, token=api.token("admin"))).status == 202
            async with asyncio.timeout(DEADLINE_S):
                while (await worker.claim()).headers["Switchyard-Worker-State"] != state:
                    pass
        job_id = await submit(api)
        assert (await worker.claim(wait_s=5)).json["job"]["id"] == job_id
        assert (await api.get("/v1/controls", token=api.token("admin"))).json["controls"] == []
        keeping.cancel()


async def test_garbage_under_a_workers_name_is_overwritten_and_the_worker_gets_jobs(
    api: Gateway, worker: Worker
) -> None:
    name = f"rest.{api.tenant}.curl-1"
    await api.publisher.publish(workers.HEARTBEATS.subject(name), b"\xffgarbage", {})
    await api.publisher.publish(workers.DECLARATIONS.subject(name), b'{"id":1}', {})
    job_id = await submit(api)
    claimed = await worker.claim(capabilities={"gpu": 1})
    assert claimed.json["job"]["id"] == job_id
    assert (await declared(api)).capabilities == {"gpu": 1}
    assert (await until_in_registry(api, worker))["capabilities"] == {"gpu": 1}


async def test_a_worker_is_shown_with_what_it_declared_while_it_holds_a_long_lease(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, lease_s=0.5) as api:
        worker = Worker(api, kinds=[api.tenant])
        await submit(api)
        claimed = await worker.claim(capabilities={"gpu": 1}, lease_s=60, wait_s=5)
        await worker.say(claimed, "renew", {"lease_s": 60})
        async with asyncio.timeout(DEADLINE_S):
            while ((await declared(api)).expires_at - now()).total_seconds() < 60:
                await asyncio.sleep(0.02)
        assert (await until_in_registry(api, worker))["running"] == 1
