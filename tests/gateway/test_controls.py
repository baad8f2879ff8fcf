from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.broker.reader import last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records import controls
from switchyard.services.records.lanes import lane_for
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.worker.site import TestConnector

KIND = "paint"
LANE = lane_for(KIND)


class Plant:
    """A gateway and, on the same broker, workers of this process."""

    def __init__(self, api: Gateway, broker: NatsServer) -> None:
        self.api = api
        self.broker = broker
        self.admin = api.token("admin")

    async def post(self, path: str) -> Answer:
        return await self.api.call("POST", path, token=self.admin)

    async def paused(self, priority: int = 50) -> bool | None:
        """Whether the broker says that the lane's consumer is paused; None when there is none."""
        name = subjects.lane_consumer(LANE, priority)
        info = await broker_api(self.api.nc, f"CONSUMER.INFO.WORK.{name}", timeout_s=20)
        return None if "error" in info else bool(info.get("paused"))

    async def page(self, worker: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/workers/{worker}", token=self.admin)).json
        return found


@pytest.fixture
async def plant(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with gateway(broker.url, tmp_path, lease_s=1.5, drain_grace_s=0.2, sweep_s=0.5) as api:
        yield Plant(api, broker)


@asynccontextmanager
async def keeping(plant: Plant) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Keeper(plant.api.nc, plant.api.settings).run())
        yield
        task.cancel()


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await check():
            pass


async def echo(attempt: Attempt) -> Any:
    return attempt.payload


async def run_one(plant: Plant, **fields: Any) -> None:
    """Submit a job of another kind and wait for its end: the worker has looked at all of its lanes."""
    job = await plant.api.submit(kind="other", **fields)
    await plant.api.final(job["id"])


# --- Kinds and lanes


@pytest.mark.parametrize("path", [f"/v1/kinds/{KIND}", f"/v1/lanes/{LANE}"])
async def test_jobs_of_what_is_paused_wait_until_it_is_resumed(plant: Plant, path: str) -> None:
    await plant.api.submit(kind=KIND, priority=10)
    answer = await plant.post(f"{path}/pause")
    assert (answer.status, answer.json["state"], answer.json["by"]) == (200, "paused", "user:ann")
    assert answer.json["consumers"] == 1
    assert await plant.paused(10) is True
    connector, other = TestConnector(echo, KIND), TestConnector(echo, "other")
    async with plant.api.worker(connector, other):
        late = await plant.api.submit(kind=KIND, priority=90)  # its consumer is made now
        assert await plant.paused(90) is True
        await run_one(plant, priority=5)
        assert connector.started == []
        again = await plant.post(f"{path}/pause")
        assert (again.status, again.json["at"]) == (200, answer.json["at"])
        resumed = await plant.post(f"{path}/resume")
        assert (resumed.json["state"], resumed.json["consumers"]) == ("running", 2)
        async with asyncio.timeout(DEADLINE_S):  # less than a waiting pull lasts
            await plant.api.final(late["id"])
        await eventually(lambda: _has_started(connector, 2))
    assert await plant.paused(10) is False


async def _has_started(connector: TestConnector, count: int) -> bool:
    await asyncio.sleep(0)
    return len(connector.started) == count


async def test_what_runs_goes_on_while_its_kind_is_paused(plant: Plant) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(_: Attempt) -> None:
        entered.set()
        await release.wait()

    async with plant.api.worker(TestConnector(handler, KIND)):
        job = await plant.api.submit(kind=KIND)
        await entered.wait()
        await plant.post(f"/v1/kinds/{KIND}/pause")
        renewed = await plant.page("w1")
        await eventually(lambda: _has_beaten(plant, renewed["at"], 4))  # more than a lease
        release.set()
        await plant.api.final(job["id"])
    assert await plant.api.names(job["id"]) == ["submitted", "leased", "succeeded"]


async def _has_beaten(plant: Plant, since: str, beats: int) -> bool:
    now = (await plant.page("w1"))["at"]
    apart = datetime.fromisoformat(now) - datetime.fromisoformat(since)
    return apart >= timedelta(seconds=plant.api.settings.heartbeat_s * beats)


async def test_a_lane_stays_paused_when_its_kind_is_resumed(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    await plant.post(f"/v1/lanes/{LANE}/pause")
    await plant.post(f"/v1/kinds/{KIND}/pause")
    await plant.post(f"/v1/kinds/{KIND}/resume")
    assert await plant.paused() is True
    await plant.post(f"/v1/lanes/{LANE}/resume")
    assert await plant.paused() is False


async def test_a_pause_outlasts_a_restart_of_the_broker(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    await plant.post(f"/v1/kinds/{KIND}/pause")
    await plant.broker.kill()
    await plant.broker.start()
    connector, other = TestConnector(echo, KIND), TestConnector(echo, "other")
    async with asyncio.timeout(DEADLINE_S):
        while (await plant.api.get("/readyz")).status != 200:
            pass
    assert await plant.paused() is True
    async with plant.api.worker(connector, other):
        await run_one(plant, priority=5)
        assert connector.started == []
    await plant.api.caught_up()
    shown = (await plant.api.get("/v1/controls")).json["controls"]
    assert [(each["what"], each["name"], each["state"]) for each in shown] == [("kind", KIND, "paused")]


async def test_the_keeper_carries_out_what_a_gateway_only_wrote(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    async with keeping(plant):
        wish = controls.Control("paused", "user:ann", datetime.now(UTC))
        await controls.write(plant.api.publisher, "kind", KIND, wish)
        await eventually(lambda: _is(plant, paused=True))
        await controls.write(plant.api.publisher, "kind", KIND, None)
        await eventually(lambda: _is(plant, paused=False))


async def _is(plant: Plant, *, paused: bool) -> bool:
    return await plant.paused() is paused


async def test_the_keeper_sets_right_a_consumer_that_somebody_paused_by_hand(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    async with keeping(plant):
        name = subjects.lane_consumer(LANE, 50)
        await broker_api(
            plant.api.nc, f"CONSUMER.PAUSE.WORK.{name}", {"pause_until": controls.FOREVER}, timeout_s=20
        )
        assert await plant.paused() is True
        await eventually(lambda: _is(plant, paused=False))


async def test_a_restored_consumer_of_a_paused_kind_is_paused(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    await plant.post(f"/v1/kinds/{KIND}/pause")
    await broker_api(plant.api.nc, f"CONSUMER.DELETE.WORK.{subjects.lane_consumer(LANE, 50)}", timeout_s=20)
    assert await plant.paused() is None
    async with keeping(plant):
        await eventually(lambda: _is(plant, paused=True))


# --- Workers


async def test_a_paused_worker_finishes_what_it_runs_and_takes_nothing_new(plant: Plant) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        attempt.progress(0.5, stage="half")
        entered.set()
        await release.wait()

    connector = TestConnector(handler, KIND)
    async with plant.api.worker(connector, slots=2):
        first = await plant.api.submit(kind=KIND, payload={"n": 1})
        await entered.wait()
        answer = await plant.post("/v1/workers/w1/pause")
        assert (answer.status, answer.json["state"]) == (202, "paused")
        await eventually(lambda: _in_state(plant, "paused"))
        second = await plant.api.submit(kind=KIND, payload={"n": 2})
        release.set()
        await plant.api.final(first["id"])
        async with plant.api.worker(TestConnector(echo, KIND), name="w2"):
            await plant.api.final(second["id"])
        assert connector.started == [1]
        third = await plant.api.submit(kind=KIND, payload={"n": 3})
        assert (await plant.post("/v1/workers/w1/resume")).json["state"] == "running"
        await plant.api.final(third["id"])
        await eventually(lambda: _in_state(plant, "running"))
        assert connector.started == [1, 3]


async def _in_state(plant: Plant, state: str) -> bool:
    return (await plant.page("w1")).get("state") == state


async def test_a_drained_worker_hands_back_what_it_runs_and_ends_by_itself(plant: Plant) -> None:
    entered = asyncio.Event()

    async def handler(_: Attempt) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with plant.api.worker(TestConnector(handler, KIND)):
        job = await plant.api.submit(kind=KIND)
        await entered.wait()
        answer = await plant.post("/v1/workers/w1/drain")
        assert (answer.status, answer.json["state"]) == (202, "draining")
        for verb in ("pause", "resume"):
            refused = await plant.post(f"/v1/workers/w1/{verb}")
            assert refused.status in (404, 409)  # it may be gone by now
        await eventually(lambda: _is_gone(plant))
    assert await plant.api.names(job["id"]) == ["submitted", "leased", "queued"]
    found = await last_message(plant.api.nc, controls.CONTROLS.stream, "$KV.controls.worker.w1", timeout_s=20)
    assert found is not None
    assert found.data == b""


async def _is_gone(plant: Plant) -> bool:
    return (await plant.api.get("/v1/workers/w1")).status == 404


async def test_what_was_wished_for_a_worker_that_died_is_forgotten(plant: Plant) -> None:
    wish = controls.Control("paused", "user:ann", datetime.now(UTC))
    await controls.write(plant.api.publisher, "worker", "dead", wish)
    async with keeping(plant):
        await eventually(lambda: _nothing_is_wished(plant))


async def _nothing_is_wished(plant: Plant) -> bool:
    return not (await plant.api.get("/v1/controls")).json["controls"]


async def test_a_workers_page_shows_what_it_runs_to_those_whose_jobs_they_are(plant: Plant) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        attempt.progress(0.5, stage="half")
        entered.set()
        await release.wait()

    async with plant.api.worker(TestConnector(handler, KIND)):
        job = await plant.api.submit(kind=KIND)
        await entered.wait()
        leased = await plant.api.until(job["id"], "leased")

        async def shown(**options: Any) -> dict[str, Any]:
            answer = await plant.api.get("/v1/workers/w1", Switchyard_Min_Seq=str(leased.seq), **options)
            page: dict[str, Any] = answer.json
            return page

        async def with_progress() -> bool:
            jobs = (await shown())["jobs"]
            return bool(jobs and jobs[0]["progress"])

        await eventually(with_progress)
        page = await shown()
        (running,) = page["jobs"]
        assert (running["id"], running["attempt"], running["state"]) == (job["id"], 1, "running")
        assert (running["progress"]["stage"], running["started_at"]) == (
            "half", leased.at.isoformat().replace("+00:00", "Z"),
        )  # fmt: skip
        assert (page["kinds"], page["started"], page["succeeded"]) == ([KIND], 1, 0)
        stranger = await shown(token=plant.api.token("viewer", tenant=plant.api.stranger))
        assert stranger["jobs"] == []
        assert job["id"] not in str(stranger)
        refused = await plant.api.get("/v1/workers/w1?tenant=*")
        assert refused.status == 403
        release.set()
        await plant.api.final(job["id"])


# --- Who may


async def test_only_admins_control_and_unknown_things_are_not_there(plant: Plant) -> None:
    await plant.api.submit(kind=KIND)
    for path in (f"/v1/kinds/{KIND}/pause", f"/v1/lanes/{LANE}/resume", "/v1/workers/w1/drain"):
        for role in ("viewer", "submitter", "worker"):
            assert (await plant.api.call("POST", path, token=plant.api.token(role))).status == 403
    for path in ("/v1/workers/nobody/pause", "/v1/lanes/none-0000/pause"):
        assert (await plant.post(path)).status == 404
    assert (await plant.api.get("/v1/workers/nobody")).status == 404
    for path in ("/v1/kinds/A/pause", "/v1/lanes/*/pause", "/v1/lanes/a.b/pause"):
        assert (await plant.post(path)).status == 422
    assert (await plant.post(f"/v1/kinds/{KIND}/pause?tenant=x")).status == 400
    assert await plant.paused() is False


async def test_a_kind_may_be_paused_before_its_first_job(plant: Plant) -> None:
    assert (await plant.post(f"/v1/kinds/{KIND}/pause")).json["consumers"] == 0
    await plant.api.submit(kind=KIND)
    assert await plant.paused() is True
