"""Timed leases over REST."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import Wake
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway


class Worker:
    """A worker of the gateway's tenant that knows HTTP alone."""

    def __init__(self, api: Gateway, name: str = "curl-1", **said: Any) -> None:
        self.api = api
        self.token = api.token("worker")
        self.body = {"worker": name, "kinds": ["noop"], "lease_s": 30, **said}

    async def claim(self, *, headers: dict[str, str] | None = None, **said: Any) -> Answer:
        return await self.api.call(
            "POST", "/v1/leases", {**self.body, **said}, token=self.token, **(headers or {})
        )

    async def say(self, claimed: Answer, verb: str, body: Any = None) -> Answer:
        lease = claimed.json["lease"]
        return await self.api.call(
            "POST", f"/v1/leases/{lease['id']}/{verb}", body,
            token=self.token, Switchyard_Lease_Token=lease["token"],
        )  # fmt: skip


@pytest.fixture
def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=[api.tenant])


async def submit(api: Gateway, **fields: Any) -> str:
    """A job of a kind that is this test's own."""
    return str((await api.submit(kind=api.tenant, **fields))["id"])


async def state_of(api: Gateway, job_id: str) -> str:
    return str((await api.get(f"/v1/jobs/{job_id}")).json["state"])


async def events_of(api: Gateway, job_id: str) -> list[str]:
    return [entry.name for entry in await api.store.history(JobId(job_id))]


async def test_a_job_is_claimed_worked_on_and_ended(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, payload={"n": 1}, labels={"team": "red"})
    claimed = await worker.claim()
    assert claimed.status == 201, claimed
    job, lease = claimed.json["job"], claimed.json["lease"]
    assert (job["id"], job["payload"], job["labels"], job["attempt"]) == (
        job_id,
        {"n": 1},
        {"team": "red"},
        1,
    )
    assert lease["id"] == f"{job_id}.{lease['fence']}"
    assert claimed.headers["Location"] == f"/v1/leases/{lease['id']}"
    progress = await worker.say(claimed, "progress", {"fraction": 0.5, "stage": "half"})
    assert (progress.status, progress.json["cancel_requested"]) == (200, False)
    assert (await worker.say(claimed, "logs", {"lines": ["one", "two"]})).status == 200
    renewed = await worker.say(claimed, "renew", {"lease_s": 60})
    assert renewed.json["lease"]["expires_at"] > lease["expires_at"]
    done = await worker.say(claimed, "succeed", {"result": {"ok": True}, "usage": {"pages": 2}})
    assert (done.status, done.json["state"], done.json["result"]) == (200, "succeeded", {"ok": True})
    assert (await worker.say(claimed, "succeed", {"result": {"ok": True}})).status == 200
    assert await events_of(api, job_id) == ["submitted", "claimed", "claim_renewed", "succeeded"]
    assert (await worker.claim()).status == 204


async def test_an_outcome_beyond_its_bounds_is_refused_by_name(api: Gateway, worker: Worker) -> None:
    await submit(api)
    claimed = await worker.claim()
    for verb, body, field in (
        ("succeed", {"usage": {"x" * 101: 1}}, "usage"),
        ("succeed", {"usage": {str(n): n for n in range(101)}}, "usage"),
        ("propose", {"checks": {str(n): True for n in range(101)}}, "checks"),
        ("fail", {"error": {"code": "c", "message": "m" * 65_537}}, "error.message"),
    ):
        refused = await worker.say(claimed, verb, body)
        assert (refused.status, refused.json["field"]) == (422, field), (verb, refused)
    long = await worker.say(claimed, "fail", {"error": {"code": "c", "message": "m" * 65_536}})
    assert long.status == 200, long


async def test_the_highest_priority_goes_first_and_then_the_oldest(api: Gateway, worker: Worker) -> None:
    jobs = [await submit(api, priority=priority) for priority in (10, 90, 50, 90)]
    got = [(await worker.claim()).json["job"]["id"] for _ in jobs]
    assert got == [jobs[1], jobs[3], jobs[2], jobs[0]]


async def test_only_a_worker_that_fits_is_given_the_job(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, requires={"gpu.memory_gb": {"$gte": 16}})
    assert (await worker.claim()).status == 204
    assert (await worker.claim(capabilities={"gpu": {"memory_gb": 8}})).status == 204
    claimed = await worker.claim(capabilities={"gpu": {"memory_gb": 24}})
    assert claimed.json["job"]["id"] == job_id


async def test_a_claim_that_waits_is_given_the_job_that_comes(api: Gateway, worker: Worker) -> None:
    waiting = asyncio.create_task(worker.claim(wait_s=15))
    await until_in_registry(api, worker)
    job_id = await submit(api)
    assert (await waiting).json["job"]["id"] == job_id


async def until_in_registry(api: Gateway, worker: Worker) -> dict[str, Any]:
    """The worker's view, when its record is there."""
    async with asyncio.timeout(DEADLINE_S):
        while (
            found := await api.get(f"/v1/workers/rest.{api.tenant}.{worker.body['worker']}")
        ).status != 200:
            await asyncio.sleep(0.02)
    view: dict[str, Any] = found.json
    return view


async def test_a_worker_over_rest_stands_in_the_registry_with_what_it_holds(
    api: Gateway, worker: Worker
) -> None:
    job_id = await submit(api)
    await worker.claim(capabilities={"gpu": 1}, slots=2)
    async with asyncio.timeout(DEADLINE_S):
        while not (view := await until_in_registry(api, worker))["running"]:
            await asyncio.sleep(0.02)
    assert (view["door"], view["capabilities"], view["slots"], view["running"]) == ("rest", {"gpu": 1}, 2, 1)
    async with asyncio.timeout(DEADLINE_S):
        while [job["id"] for job in (await until_in_registry(api, worker))["jobs"]] != [job_id]:
            await asyncio.sleep(0.02)


async def test_another_tenants_worker_is_given_nothing_and_disturbs_nobody(
    api: Gateway, worker: Worker
) -> None:
    stranger = Worker(api, kinds=[api.tenant])
    stranger.token = api.token("worker", tenant=api.stranger)
    job_id = await submit(api)
    assert (await stranger.claim()).status == 204
    claimed = await worker.claim()
    assert claimed.json["job"]["id"] == job_id
    stolen = await stranger.say(claimed, "succeed", {})
    assert (stolen.status, stolen.json["code"]) == (404, "not_found")


async def test_a_tenants_job_behind_those_of_another_is_found(api: Gateway, worker: Worker) -> None:
    for _ in range(3):
        answer = await api.call(
            "POST", "/v1/jobs", {"kind": api.tenant}, token=api.token(tenant=api.stranger)
        )
        assert answer.status == 201
    jobs = [await submit(api) for _ in range(2)]
    got: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(got) < 2:
            claimed = await worker.claim(wait_s=5)
            if claimed.status == 201:
                got.append(claimed.json["job"]["id"])
    assert got == jobs


async def test_an_admin_claims_of_all_tenants_or_of_the_one_it_names(api: Gateway) -> None:
    other = await api.call("POST", "/v1/jobs", {"kind": api.tenant}, token=api.token(tenant=api.stranger))
    own = await submit(api)
    admin = Worker(api, kinds=[api.tenant])
    admin.token = api.token("admin")
    assert (await admin.claim(tenant=api.tenant, wait_s=5)).json["job"]["id"] == own
    assert (await admin.claim()).json["job"]["id"] == other.json["id"]


async def test_a_strictly_isolated_job_goes_to_its_own_tenants_worker(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, isolation="strict")
    admin = Worker(api, kinds=[api.tenant])
    admin.token = api.token("admin")
    assert (await admin.claim()).status == 204
    assert (await worker.claim()).json["job"]["id"] == job_id


# --- Idempotency


async def test_a_lost_answer_is_given_again_by_any_gateway(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:
        worker = Worker(api, kinds=[api.tenant])
        job_id = await submit(api)
        await submit(api)
        key = {"Idempotency_Key": "k1"}
        first = await worker.claim(headers=key)
        again = await worker.claim(headers=key)
        assert first.json["job"]["id"] == again.json["job"]["id"] == job_id
        assert first.json["lease"]["id"] == again.json["lease"]["id"]
        other = await worker.claim(headers=key, slots=2)
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
    async with gateway(shared_broker.url, tmp_path) as restarted:
        worker.api, restarted.tenant = restarted, api.tenant
        again = await worker.claim(headers=key)
        assert again.json["lease"]["id"] == first.json["lease"]["id"]
        assert (await worker.say(again, "succeed", {})).status == 200
        assert (await worker.claim(headers=key)).json["job"]["id"] != job_id


async def test_a_release_whose_answer_was_lost_may_be_said_again_each_time(
    api: Gateway, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.events.job.MAX_RELEASES", 3)
    job_id = JobId(await submit(api))
    for state in ("queued", "scheduled", "dead"):
        claimed = await worker.claim(wait_s=5)
        said = await worker.say(claimed, "release")
        again = await worker.say(claimed, "release")
        assert (said.json["state"], said.status, again.status) == (state, 200, 200), again
        assert said.headers["Switchyard-Seq"] == again.headers["Switchyard-Seq"]
        other = await worker.say(claimed, "fail", {"error": {"code": "x", "message": "y"}})
        assert other.status == 409, other
        if state == "scheduled":  # nobody need wait until its next start
            await api.store.transition(job_id, Wake(now=clock.now() + timedelta(hours=1)), actor="keeper")


# --- What a stale or wrong token gets


async def test_a_stale_fence_is_answered_with_what_happened_since(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    assert (await worker.say(claimed, "release")).json["state"] == "queued"
    assert (await worker.say(claimed, "release")).status == 200
    again = await Worker(api, "curl-2", kinds=[api.tenant]).claim()
    assert again.json["job"]["attempt"] == 2
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("succeed", {"result": 1}), ("fail", {"error": {"code": "x", "message": "y"}}), ("propose", {}),
        ("renew", {}), ("progress", {"fraction": 0.1}), ("logs", {"lines": []}),
    )  # fmt: skip
    for verb, body in calls:
        stale = await worker.say(claimed, verb, body)
        assert (stale.status, stale.json["code"]) == (409, "lease_lost"), verb
        assert "succeed" in stale.json["allowed"]
        assert [event["type"] for event in stale.json["since"]] == ["queued", "claimed"]
        assert stale.json["since"][1]["actor"] == f"worker:rest.{api.tenant}.curl-2"
    uploaded = await worker.say(claimed, "artifacts?name=a.txt", b"late")
    assert uploaded.status == 409
    assert await state_of(api, job_id) == "running"


async def test_every_verb_is_refused_after_the_end_with_what_is_allowed(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    await worker.say(claimed, "fail", {"error": {"code": "bad", "message": "no", "retryable": False}})
    assert await state_of(api, job_id) == "dead"
    for verb in ("succeed", "release", "propose", "renew"):
        late = await worker.say(claimed, verb, {})
        assert (late.status, late.json["code"]) == (409, "illegal_transition"), verb
        assert late.json["allowed"] == ["redrive", "discard", "archive"]
        assert [event["type"] for event in late.json["since"]] == ["dead"]
    again = await worker.say(claimed, "fail", {"error": {"code": "bad"}})
    assert (again.status, again.json["state"]) == (200, "dead")


async def test_a_wrong_token_is_refused(api: Gateway, worker: Worker) -> None:
    await submit(api)
    await submit(api)
    one, two = await worker.claim(), await worker.claim()
    path = f"/v1/leases/{one.json['lease']['id']}/renew"
    for token in (two.json["lease"]["token"], worker.token, "x.y.z", one.json["lease"]["token"][:-2] + "xx"):
        refused = await api.call("POST", path, {}, token=worker.token, Switchyard_Lease_Token=token)
        assert (refused.status, refused.json["code"]) == (403, "lease_token_invalid")
    missing = await api.call("POST", path, {}, token=worker.token)
    assert (missing.status, missing.json["field"]) == (403, "Switchyard-Lease-Token")
    as_access = await api.call("GET", "/v1/jobs", token=one.json["lease"]["token"])
    assert as_access.status == 401


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"worker": "a b"}, "worker"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["No"]}, "kinds[0]"),
        ({"lease_s": 0}, "lease_s"),
        ({"lease_s": 1e9}, "lease_s"),
        ({"wait_s": -1}, "wait_s"),
        ({"slots": 0}, "slots"),
        ({"capabilities": {"x": "y" * 40_000}}, "capabilities"),
        ({"more": 1}, "more"),
    ],
)
async def test_a_claim_that_breaks_a_rule_names_the_field(
    api: Gateway, worker: Worker, fields: dict[str, Any], field: str
) -> None:
    refused = await worker.claim(**fields)
    assert (refused.status, refused.json["field"].replace("[...]", "[0]")) == (422, field)


async def test_a_role_without_work_may_not_claim(api: Gateway, worker: Worker) -> None:
    worker.token = api.token("submitter")
    assert (await worker.claim()).status == 403
    worker.token = api.token("worker")
    assert (await worker.claim(tenant=api.stranger)).status == 403


# --- What an attempt leaves


async def test_a_failed_attempt_is_followed_by_another(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, retry={"base_s": 60})
    claimed = await worker.claim()
    failed = await worker.say(claimed, "fail", {"error": {"code": "no_vram", "message": "out of memory"}})
    assert (failed.json["state"], failed.json["error"]["code"]) == ("retrying", "no_vram")
    assert (await worker.say(claimed, "fail", {"error": {"code": "no_vram"}})).status == 200
    assert await events_of(api, job_id) == ["submitted", "claimed", "failed"]
    bad = await worker.say(claimed, "fail", {"error": {"message": "x"}})
    assert (bad.status, bad.json["field"]) == (422, "error.code")


async def test_artifacts_and_large_results_are_kept_as_files(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    stored = await worker.say(claimed, "artifacts?name=page.md", b"# Page")
    assert stored.status == 201, stored
    assert stored.json["file"] == f"{claimed.json['lease']['id']}.page.md"
    unknown = await worker.say(claimed, "succeed", {"artifacts": ["page.md", "other.md"]})
    assert (unknown.status, unknown.json["field"]) == (422, "artifacts[1]")
    large = {"text": "x" * 100_000}
    done = await worker.say(claimed, "succeed", {"result": large, "artifacts": ["page.md"]})
    assert [artifact["name"] for artifact in done.json["artifacts"]] == ["page.md", "result.json"]
    found = await api.get(f"/v1/jobs/{job_id}/result")
    assert found.status == 303
    assert (await api.get(found.headers["Location"])).json == large
    assert (await api.get(f"/v1/files/{stored.json['file']}")).raw == b"# Page"


async def test_a_cancelled_job_asks_its_worker_to_stop(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    cancelled = await api.call("POST", f"/v1/jobs/{job_id}/cancel", {"reason": "wrong"})
    assert cancelled.status == 202
    renewed = await worker.say(claimed, "renew")
    assert (renewed.json["cancel_requested"], renewed.json["cancel"]["reason"]) == (True, "wrong")
    assert (await worker.say(claimed, "release")).json["state"] == "cancelled"
    last = (await api.store.history(JobId(job_id)))[-1]
    assert getattr(last.event, "cause", None) == "confirmed"


async def test_a_job_whose_time_is_over_is_not_claimed(api: Gateway, worker: Worker) -> None:
    late = await submit(api, queue_timeout_s=1e-6)
    fine = await submit(api)
    claimed = await worker.claim(headers={"Idempotency-Key": "k1"})
    assert claimed.json["job"]["id"] == fine
    assert await events_of(api, late) == ["submitted", "expired"]
    assert (await worker.claim()).status == 204
