"""Whose jobs a claim takes, where its key may name several tenants or exclude some."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.records.tenancy import Tenancy
from tests.gateway.leases.test_leases import Worker, until_in_registry
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.worker.site import TestConnector

SEED = random.SystemRandom().randrange(10**6)


class Plant:
    """Three tenants, and an admin's worker."""

    def __init__(self, api: Gateway) -> None:
        self.api = api
        self.a, self.b, self.c = (f"{api.tenant}-{letter}" for letter in "abc")
        self.tenants = (self.a, self.b, self.c)

    async def submit(self, tenant: str, **fields: Any) -> str:
        token = self.api.token("submitter", tenant=tenant)
        body = {"kind": self.api.tenant, **fields}
        answer = await self.api.call("POST", "/v1/jobs", body, token=token)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def worker(self, name: str = "w", *, tenant: str | None = None, **said: Any) -> Worker:
        made = Worker(self.api, name, kinds=[self.api.tenant], **said)
        made.token = self.api.token("worker" if tenant else "admin", tenant=tenant)
        return made

    async def explained(self, tenant: str, job: str) -> Any:
        return (await self.api.get(f"/v1/jobs/{job}/explain", token=self.api.token(tenant=tenant))).json


@pytest.fixture
async def plant(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with gateway(broker.url, tmp_path, lease_s=6.0) as api:
        yield Plant(api)


def job_of(answer: Answer) -> Any:
    return answer.json["job"]["id"] if answer.status == 201 else None


async def test_an_admins_worker_takes_jobs_of_the_tenants_that_it_names_alone(plant: Plant) -> None:
    jobs = {tenant: await plant.submit(tenant) for tenant in plant.tenants}
    await plant.submit(plant.a, isolation="strict")
    worker = plant.worker(tenants=[plant.b, plant.c])
    assert {job_of(await worker.claim(wait_s=5)) for _ in range(2)} == {jobs[plant.b], jobs[plant.c]}
    assert job_of(await worker.claim(wait_s=1)) is None


async def test_an_admins_worker_takes_no_job_of_a_tenant_that_it_excludes(plant: Plant) -> None:
    jobs = {tenant: await plant.submit(tenant) for tenant in plant.tenants}
    worker = plant.worker(exclude_tenants=[plant.a])
    assert {job_of(await worker.claim(wait_s=5)) for _ in range(2)} == {jobs[plant.b], jobs[plant.c]}
    assert job_of(await worker.claim(wait_s=1)) is None
    found = await plant.explained(plant.a, jobs[plant.a])
    name = f"rest.{plant.api.tenant}.w"
    assert found["reason"] == "no_worker_fits"
    assert found["summary"] == f"worker {name} excludes your tenant"
    (shown,) = [each for each in found["workers"] if each["id"] == name]
    assert (shown["verdict"], shown["message"]) == ("excluded", "it excludes your tenant")


async def test_what_a_worker_is_for_holds_for_its_revision(plant: Plant) -> None:
    """A claim by revision takes what was declared; another declaration is another revision."""
    first = await plant.submit(plant.a)
    worker = plant.worker(exclude_tenants=[plant.a])
    excluding = await worker.claim()
    assert excluding.status == 204
    revision = int(excluding.headers["Switchyard-Worker-Revision"])
    by_revision = plant.worker()
    by_revision.body = {"worker": "w", "revision": revision}
    assert (await by_revision.claim()).status == 204
    both = await plant.worker(exclude_tenants=[]).claim(wait_s=5)
    assert job_of(both) == first
    assert both.json["lease"]["revision"] > revision
    assert (await by_revision.claim()).json["code"] == "unknown_revision"


async def test_a_claim_that_waits_takes_nothing_that_its_worker_excludes_meanwhile(plant: Plant) -> None:
    wide, narrow = plant.worker(), plant.worker(exclude_tenants=[plant.a])
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wide.claim(wait_s=8))
        await until_in_registry(plant.api, wide)
        assert (await narrow.claim()).status == 204
        job = await plant.submit(plant.a)
    assert waiting.result().status == 204
    assert (await plant.explained(plant.a, job))["reason"] == "no_worker_fits"
    assert job_of(await plant.worker("other").claim(wait_s=5)) == job


async def test_a_tenants_own_key_names_no_other_tenant(plant: Plant) -> None:
    other = await plant.submit(plant.b)
    own = plant.worker(tenant=plant.a)
    for said in ({"tenants": [plant.b]}, {"tenants": [plant.a, plant.b]}, {"tenant": plant.b}):
        refused = await own.claim(**said)
        assert (refused.status, refused.json["field"]) == (403, next(iter(said)))
    nobody = await own.claim(exclude_tenants=[plant.a])
    assert (nobody.status, nobody.json["field"]) == (422, "exclude_tenants")
    assert (await own.claim(tenants=[plant.a], exclude_tenants=[plant.b])).status == 204
    # An admin has declared more under the same name: its revision gives a tenant's key nothing.
    wide = plant.worker("same", tenants=[plant.a, plant.b])
    wide.token = plant.api.token("admin", tenant=plant.a)
    revision = int((await wide.claim(kinds=["noop"])).headers["Switchyard-Worker-Revision"])
    claimed = await plant.worker("same", tenant=plant.a).claim(revision=revision)
    assert claimed.status == 204, claimed
    assert (await plant.explained(plant.b, other))["state"] == "queued"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"tenants": []}, "tenants"), ({"tenants": ["No Name"]}, "tenants"), ({"tenants": "a"}, "tenants"),
        ({"tenants": ["a"], "tenant": "a"}, "tenants"), ({"tenants": ["a", None]}, "tenants"),
        ({"tenants": ["a", "b"], "exclude_tenants": ["b"]}, "exclude_tenants"),
        ({"exclude_tenants": ["x" * 64]}, "exclude_tenants"),
        ({"exclude_tenants": [f"t{n}" for n in range(101)]}, "exclude_tenants"),
        ({"excluded": ["a"]}, "excluded"),
    ],
)  # fmt: skip
async def test_what_is_no_list_of_tenants_is_refused_by_name(
    plant: Plant, said: dict[str, Any], field: str
) -> None:
    refused = await plant.worker().claim(**said)
    assert refused.status in (400, 422), refused
    assert refused.json["field"].startswith(field)


async def test_a_caller_sees_of_a_workers_tenants_its_own_alone(plant: Plant) -> None:
    worker = plant.worker(tenants=[plant.a, plant.b], exclude_tenants=[plant.c])
    await worker.claim()
    await plant.worker("most", exclude_tenants=[plant.a, plant.b]).claim()
    path, most = (f"/v1/workers/rest.{plant.api.tenant}.{name}" for name in ("w", "most"))
    api = plant.api
    async with asyncio.timeout(DEADLINE_S):
        for each in (path, most):
            while (await api.get(each, token=api.token("operator"))).status != 200:
                await asyncio.sleep(0.01)
    whole = (await api.get(path, token=api.token("operator"))).json
    assert (whole["tenants"], whole["exclude_tenants"]) == ([plant.a, plant.b], [plant.c])
    of_a = (await api.get(path, token=api.token(tenant=plant.a))).json
    assert (of_a["tenants"], "exclude_tenants" in of_a) == ([plant.a], False)
    assert (await api.get(path, token=api.token(tenant=plant.c))).status == 404
    assert (await api.get(most, token=api.token(tenant=plant.a))).json["exclude_tenants"] == [plant.a]
    assert "exclude_tenants" not in (await api.get(most, token=api.token(tenant=plant.c))).json
    listed = (await api.get("/v1/workers", token=api.token(tenant=plant.c))).json["workers"]
    assert [each["id"] for each in listed] == [f"rest.{api.tenant}.most"]


async def test_drawn_claims_get_jobs_of_tenants_that_they_serve_alone_and_no_job_is_left(
    plant: Plant,
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    jobs: dict[str, str] = {}
    for _ in range(40):
        tenant = draw.choice(plant.tenants)
        jobs[await plant.submit(tenant, priority=draw.choice([25, 50]))] = tenant
    left = dict(jobs)
    async with asyncio.timeout(5 * DEADLINE_S):
        while left:
            named = draw.sample(plant.tenants, draw.randrange(4))
            excluded = [each for each in plant.tenants if each not in named and draw.random() < 0.4]
            said: dict[str, Any] = {"exclude_tenants": excluded} | ({"tenants": named} if named else {})
            claimed = await plant.worker(f"w{draw.randrange(3)}", slots=99).claim(**said, wait_s=0)
            if claimed.status == 204:
                continue
            tenant = left.pop(job_of(claimed))
            assert tenant in (named or plant.tenants)
            assert tenant not in excluded


async def test_a_worker_on_nats_and_a_claim_over_rest_pass_by_each_others_jobs(plant: Plant) -> None:
    async def done(_: Any) -> None:
        return

    jobs = {tenant: [await plant.submit(tenant) for _ in range(3)] for tenant in plant.tenants}
    only = Tenancy((), (plant.b,))
    async with plant.api.worker(TestConnector(done, plant.api.tenant), name="nats", tenancy=only):
        for job in (*jobs[plant.a], *jobs[plant.c]):
            await plant.api.final(job)
        rest = plant.worker(tenants=[plant.b, plant.c])
        assert [job_of(await rest.claim(wait_s=5)) for _ in range(3)] == jobs[plant.b]
