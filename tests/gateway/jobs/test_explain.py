"""Why a job waits or has ended, over REST; what a queue needs; limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId, WorkerId
from switchyard.projections.job_view import job_view
from switchyard.services import clock
from switchyard.services.broker.jetstream import api as js_api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, BusyError, FatalError
from switchyard.services.dispatch.reasons.explain import explained
from switchyard.services.dispatch.reasons.verdicts import Situation
from switchyard.services.records import workers as registry
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.worker.site import TestConnector

KIND = "paint"


class Plant:
    """A gateway and, on the same broker, workers of this process."""

    def __init__(self, api: Gateway) -> None:
        self.api = api

    async def explain(self, job: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/jobs/{job['id']}/explain")).json
        return found

    async def until(self, job: dict[str, Any], reason: str) -> dict[str, Any]:
        """What is explained once the reason is this one."""
        async with asyncio.timeout(DEADLINE_S):
            while (found := await self.explain(job))["reason"] != reason:
                pass
        return found

    async def put_limit(self, name: str, body: dict[str, Any], role: str = "admin") -> Any:
        return await self.api.call("PUT", f"/v1/limits/{name}", body, token=self.api.token(role))


@pytest.fixture
async def plant(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with gateway(broker.url, tmp_path, lease_s=1.5, drain_grace_s=0.2) as api:
        yield Plant(api)


def connector(memory_gb: int | None = None) -> TestConnector:
    async def waits(_: Attempt) -> None:
        await asyncio.Event().wait()

    made = TestConnector(waits, KIND)
    if memory_gb is not None:
        made.extra = {"gpu": {"memory_gb": memory_gb}}
    return made


async def test_a_worker_that_the_broker_refuses_is_named_as_the_reason(plant: Plant) -> None:
    made = connector(24)
    async with plant.api.worker(made, name="a"):
        info = await js_api(plant.api.nc, f"STREAM.INFO.{registry.DECLARATIONS.stream}", timeout_s=20)
        config = info["config"] | {"max_bytes": 10}
        done = await js_api(
            plant.api.nc, f"STREAM.UPDATE.{registry.DECLARATIONS.stream}", config, timeout_s=20
        )
        assert "error" not in done
        # What replaces an entry and is no larger is taken by a full bucket too.
        made.extra = {"gpu": {"memory_gb": 48, "vendor": "nvidia"}}
        made.changed()
        async with asyncio.timeout(DEADLINE_S):
            while (await plant.api.get("/v1/workers")).json["workers"][0]["state"] != "unregistered":
                pass
        job = await plant.api.submit(kind=KIND, requires={"gpu.memory_gb": {"$gte": 24}})
        found = await plant.explain(job)
    assert (found["reason"], found["workers"][0]["verdict"]) == ("no_worker_fits", "unregistered")
    assert "the broker refuses what they declare: a" in found["summary"]


async def test_a_job_that_no_worker_fits_names_the_clause_and_the_nearest_miss(plant: Plant) -> None:
    job = await plant.api.submit(kind=KIND, requires={"gpu.memory_gb": {"$gte": 24}})
    nobody = await plant.explain(job)
    assert (nobody["reason"], nobody["workers"], nobody["nearest_miss"]) == ("no_worker_fits", [], None)
    assert nobody["would_help"] == [f"start a worker that runs {KIND}"]
    async with (
        plant.api.worker(connector(16), name="a"),
        plant.api.worker(connector(20), name="b"),
        plant.api.worker(connector(), name="c"),
        plant.api.worker(TestConnector(connector().handler, "other"), name="d"),
    ):
        async with asyncio.timeout(DEADLINE_S):
            while len((found := await plant.explain(job))["workers"]) < 4:
                pass
    by_id = {worker["id"]: worker for worker in found["workers"]}
    assert [by_id[name]["verdict"] for name in "abcd"] == ["does_not_fit"] * 3 + ["other_kind"]
    clause = by_id["a"]["failed"][0]
    assert (clause["path"], clause["operator"], clause["wanted"], clause["found"]) == (
        "gpu.memory_gb", "$gte", 24, 16,
    )  # fmt: skip
    assert by_id["c"]["failed"][0]["missing"] is True
    assert found["nearest_miss"]["message"] == "3 workers would fit if gpu.memory_gb ≥ 24 were not required"
    assert found["lane"]["ahead"] == 0
    assert "no worker fits" in found["summary"]


async def test_the_nearest_miss_says_by_how_much(plant: Plant) -> None:
    job = await plant.api.submit(kind=KIND, requires={"gpu.memory_gb": {"$gte": 24}})
    async with plant.api.worker(connector(16), name="a"), plant.api.worker(connector(20), name="b"):
        async with asyncio.timeout(DEADLINE_S):
            while len((found := await plant.explain(job))["workers"]) < 2:
                pass
    assert found["nearest_miss"]["message"] == "2 workers would fit if gpu.memory_gb ≥ 24 were ≥ 16"


async def test_a_job_behind_others_is_explained_by_that_all_fitting_workers_are_busy(plant: Plant) -> None:
    async with plant.api.worker(connector(), name="a"):
        first = await plant.api.submit(kind=KIND)
        await plant.api.until(first["id"], "leased")
        await plant.api.submit(kind=KIND)
        third = await plant.api.submit(kind=KIND)
        await plant.api.caught_up()
        found = await plant.until(third, "busy")
        assert found["lane"]["ahead"] == 1
        assert found["workers"][0]["verdict"] == "busy"
        running = await plant.explain(first)
        assert (running["reason"], running["summary"]) == ("running", "attempt 1 runs on a")


async def test_what_a_back_end_says_of_itself_stands_with_its_worker(plant: Plant) -> None:
    one = connector()
    one.extra = {KIND: {"state": "up", "why": "others use the server"}}
    async with plant.api.worker(one, name="a"):
        first = await plant.api.submit(kind=KIND)
        await plant.api.until(first["id"], "leased")
        found = await plant.until(await plant.api.submit(kind=KIND), "busy")
        assert found["workers"][0]["message"].endswith("taken; paint: others use the server")


async def test_a_job_that_was_given_back_says_when_it_comes_again(plant: Plant) -> None:
    async def refuses(_: Attempt) -> None:
        raise BusyError("full", "not now")

    async with plant.api.worker(TestConnector(refuses, KIND), name="a"):
        job = await plant.api.submit(kind=KIND)
        found = await plant.until(job, "released")
    state = await plant.api.store.load(job["id"])
    assert (found["state"], state.releases) == ("scheduled", 2)
    due = f"{state.start_at:%Y-%m-%dT%H:%M:%SZ}"
    assert found["summary"] == f"its last 2 attempts gave it back; it comes again at {due}"
    shown = (await plant.api.get(f"/v1/jobs/{job['id']}")).json
    for view in (found, shown):
        assert view["releases"] == 2
        assert datetime.fromisoformat(view["next_attempt_at"]) == state.start_at


def test_a_job_says_when_it_comes_again_only_while_it_waits_for_that() -> None:
    soon, job = clock.now() + timedelta(seconds=9), Job(id=JobId("x"), kind=KIND, tenant="t")
    for status, times in ((Status.SCHEDULED, {"start_at": soon}), (Status.RETRYING, {"retry_at": soon})):
        waits = msgspec.structs.replace(job, status=status, **times)
        assert job_view(waits).next_attempt_at == soon
        for other in (Status.RUNNING, Status.SUCCEEDED):
            assert job_view(msgspec.structs.replace(waits, status=other)).next_attempt_at is None


async def test_a_job_whose_time_is_over_is_not_said_to_be_about_to_start(plant: Plant) -> None:
    job = await plant.api.submit(kind=KIND, queue_timeout_s=1e-6)
    found = await plant.explain(job)
    assert (found["state"], found["reason"]) == ("queued", "overdue")
    assert found["summary"] == "its time to start is over: it will not start, and ends as expired"


def test_a_worker_that_leaves_a_job_to_others_is_named() -> None:
    now = clock.now()
    waiting = Job(
        id=JobId("j"),
        status=Status.QUEUED,
        kind=KIND,
        tenant="acme",
        failed_worker=WorkerId("a"),
        queued_at=now,
    )
    workers = [
        registry.new_record(worker_id=WorkerId(name), kinds=(KIND,), capabilities={}, slots=1, lease_s=30)
        for name in "ab"
    ]
    situation = Situation(LaneKey(KIND), 0, workers, now=now)
    made = explained(waiting, situation)
    assert made["reason"] == "about_to_start"
    assert "free slot; a, which failed it last, leaves it to them until" in made["summary"]
    late = situation._replace(now=now + timedelta(seconds=61))
    assert "2 fitting workers have a free slot" in explained(waiting, late)["summary"]
    alone = situation._replace(workers=situation.workers[:1])
    assert "1 fitting workers have a free slot; 0 jobs" in explained(waiting, alone)["summary"]


async def test_a_full_limit_and_a_pause_are_reported(plant: Plant) -> None:
    assert (await plant.put_limit("api", {"concurrency": 1})).status == 201
    async with plant.api.worker(connector(), name="a", slots=2):
        first = await plant.api.submit(kind=KIND, limits=["api"])
        await plant.api.until(first["id"], "leased")
        second = await plant.api.submit(kind=KIND, limits=["api"])
        found = await plant.until(second, "limit")
        assert found["limits"] == [
            {
                "name": "api",
                "concurrency": 1,
                "running": 1,
                "per_minute": None,
                "starts_left": True,
                "full": True,
            }
        ]
        admin = plant.api.token("admin")
        await plant.api.call("POST", f"/v1/kinds/{KIND}/pause", token=admin)
        found = await plant.until(second, "paused")
        assert found["paused"] == ["kind"]
        shown = (await plant.api.get("/v1/limits/api")).json
        assert (shown["running"], shown["starts_left"]) == (1, True)
        (holder,) = shown["jobs"]
        assert (holder["id"], holder["kind"], holder["worker"]) == (first["id"], KIND, "a")
        path = f"/v1/limits/api?tenant={plant.api.tenant}"
        # Who may list the jobs of the tenant sees them here, and nobody else does.
        for roles, sees in ((("operator",), False), (("operator", "viewer"), True), (("admin",), True)):
            stranger = plant.api.token(*roles, tenant=plant.api.stranger)
            listed = await plant.api.get(f"/v1/jobs?tenant={plant.api.tenant}", token=stranger)
            found = (await plant.api.get(path, token=stranger)).json["jobs"]
            assert (listed.status == 200, found is not None) == (sees, sees), roles
        assert (await plant.put_limit("unused", {"concurrency": 1})).status == 201
        assert (await plant.api.get("/v1/limits/unused")).json["jobs"] == []


async def test_a_job_that_waits_for_another_or_for_its_time_says_so(plant: Plant) -> None:
    parent = await plant.api.submit(kind=KIND)
    child = await plant.api.submit(kind=KIND, depends_on=[parent["id"]])
    found = await plant.explain(child)
    assert found["reason"] == "blocked"
    assert parent["id"] in found["summary"]
    later = await plant.api.submit(kind=KIND, delay_s=3600)
    assert (await plant.explain(later))["reason"] == "scheduled"


async def test_a_final_job_says_why_it_ended_so(plant: Plant) -> None:
    async def fails(_: Attempt) -> None:
        raise FatalError("no_such_model", "there is no model x")

    job = await plant.api.submit(kind=KIND)
    async with plant.api.worker(TestConnector(fails, KIND), name="a"):
        await plant.api.final(job["id"])
    found = await plant.explain(job)
    assert found["reason"] == "not_retryable"
    assert "no_such_model: there is no model x" in found["summary"]
    assert "lane" not in found


async def test_a_foreign_tenants_job_is_not_explained(plant: Plant) -> None:
    job = await plant.api.submit(kind=KIND)
    foreign = plant.api.token("viewer", tenant="someone-else")
    assert (await plant.api.get(f"/v1/jobs/{job['id']}/explain", token=foreign)).status == 404


async def test_a_queue_shows_what_an_autoscaler_needs(plant: Plant) -> None:
    requires = {"gpu.memory_gb": {"$gte": 24}}
    job = await plant.api.submit(kind=KIND, requires=requires)
    async with plant.api.worker(connector(32), name="a", slots=3), plant.api.worker(connector(8), name="b"):
        await plant.api.until(job["id"], "leased")
        for _ in range(2):
            last = await plant.api.submit(kind=KIND, requires=requires, priority=60)
        await plant.api.until(last["id"], "leased")
        last = await plant.api.submit(kind=KIND, requires=requires, priority=60)
        found = await plant.api.get("/v1/queues", Switchyard_Min_Seq=str(last["seq"]))
        queues = {queue["priority"]: queue for queue in found.json["queues"]}
    assert (queues[60]["waiting"], queues[60]["running"], queues[50]["running"]) == (1, 2, 1)
    assert (queues[60]["fitting_workers"], queues[60]["fitting_slots"]) == (1, 3)
    assert queues[60]["requires"] == {"gpu.memory_gb": {"$gte": 24}}
    assert queues[60]["oldest_waiting_s"] >= 0
    assert queues[50]["oldest_waiting_s"] is None


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"requires": {"a": {"$foo": 1}}}, "invalid", "requires.a.$foo"),
        ({"requires": {"a..b": 1}}, "invalid", None),
        ({"requires": []}, "invalid", "requires"),
        ({"prefers": {"a": {"$gte": []}}}, "invalid", None),
        ({"isolation": "total"}, "invalid", "isolation"),
        ({"limits": ["none-such"]}, "unknown_limit", "limits[0]"),
        ({"limits": ["a", "b", "c", "d", "e"]}, "invalid", "limits"),
    ],
)
async def test_wrong_conditions_are_refused_by_name(
    plant: Plant, fields: dict[str, Any], code: str, field: str | None
) -> None:
    refused = await plant.api.call("POST", "/v1/jobs", {"kind": KIND, **fields})
    assert (refused.status, refused.json["code"]) == (422, code), refused.json
    assert field is None or refused.json["field"] == field


async def test_too_many_lanes_name_the_keys_that_make_them(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, lanes=3) as api:
        for number in range(3):
            await api.submit(kind=KIND, requires={"session": f"s{number}", "gpu": True})
        refused = await api.call(
            "POST", "/v1/jobs", {"kind": KIND, "requires": {"session": "s4", "gpu": True}}
        )
        assert (refused.status, refused.json["code"]) == (422, "too_many_lanes")
        assert "session (3)" in refused.json["detail"]
        await api.submit(kind=KIND, requires={"session": "s1", "gpu": True}, prefers={"warm": True})


async def test_limits_are_set_shown_and_removed_by_admins_alone(plant: Plant) -> None:
    assert (await plant.put_limit("api", {"concurrency": 1}, role="submitter")).status == 403
    for body, field in (
        ({}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"per_minute": 10001}, "per_minute"),
    ):
        refused = await plant.put_limit("api", body)
        assert (refused.status, refused.json["field"]) == (422, field)
    assert (await plant.put_limit("api", {"concurrency": 1})).status == 201
    assert (await plant.put_limit("api", {"per_minute": 5})).status == 200
    listed = (await plant.api.get("/v1/limits")).json["limits"]
    assert [(limit["name"], limit["concurrency"], limit["per_minute"]) for limit in listed] == [
        ("api", None, 5)
    ]
    admin = plant.api.token("admin")
    assert (await plant.api.call("DELETE", "/v1/limits/api", token=admin)).status == 204
    assert (await plant.api.get("/v1/limits/api")).status == 404
    assert (await plant.put_limit("A!", {"concurrency": 1})).json["field"] == "name"
