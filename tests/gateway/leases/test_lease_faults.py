"""What timed leases are when something dies, is paused, or runs out of places or time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Claim
from switchyard.events.errors import ConflictError
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api as js_api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.rest.idempotency import ClaimKeys, Intent
from switchyard.services.intake.request import request_hashes
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records import workers
from switchyard.services.records.limits import Limit, Limits
from tests.broker.shared import SharedBroker
from tests.gateway.leases.test_leases import Worker, events_of, state_of, submit, until_in_registry
from tests.gateway.rest import DEADLINE_S, Gateway, gateway


@pytest.fixture
def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=[api.tenant])


async def until_events(api: Gateway, job_id: str, last: str) -> list[str]:
    """The job's events, when the last one has that name."""
    async with asyncio.timeout(DEADLINE_S):
        while (names := await events_of(api, job_id))[-1] != last:
            await asyncio.sleep(0.02)
    return names


async def in_work(api: Gateway, job_id: str) -> int:
    """How many messages the job's lane has, delivered or not."""
    job = await api.store.load(JobId(job_id))
    query = {"subjects_filter": subjects.work(job.lane, job.priority)}
    info = await js_api(api.nc, "STREAM.INFO.WORK", query, timeout_s=20)
    return sum((info["state"].get("subjects") or {}).values())


async def pulled(api: Gateway, job_id: str) -> str:
    """Take the job's message as a gateway does that then dies; where it is answered."""
    job = await api.store.load(JobId(job_id))
    call = f"$JS.API.CONSUMER.MSG.NEXT.WORK.{subjects.lane_consumer(job.lane, job.priority)}"
    async with Inbox(api.nc) as inbox:
        await api.nc.publish(call, orjson.dumps({"batch": 1, "expires": 5_000_000_000}), reply=inbox.subject)
        return (await inbox.next(DEADLINE_S)).reply


# --- A gateway dies


async def test_a_job_that_was_pulled_and_not_claimed_comes_again(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, lease_s=1.0) as api:
        job_id = await submit(api)
        await pulled(api, job_id)
        claimed = await Worker(api, kinds=[api.tenant]).claim(wait_s=15)
        assert (claimed.json["job"]["id"], claimed.json["job"]["attempt"]) == (job_id, 1)


async def test_a_message_that_was_claimed_and_not_answered_is_nobody_elses_job(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, lease_s=1.0) as api:
        job_id = await submit(api)
        await pulled(api, job_id)
        now = datetime.now(UTC)
        claim = Claim(
            now=now, worker=WorkerId("gone"), revision=Revision(1), expires_at=now + timedelta(minutes=5)
        )
        await api.store.transition(JobId(job_id), claim, actor="worker:gone")
        second = await submit(api)
        worker = Worker(api, kinds=[api.tenant])
        assert (await worker.claim(wait_s=5)).json["job"]["id"] == second
        async with asyncio.timeout(DEADLINE_S):
            while await in_work(api, job_id):
                assert (await worker.claim()).status == 204
        assert await events_of(api, job_id) == ["submitted", "claimed"]


async def test_an_intent_that_came_to_nothing_does_not_stand_in_the_way(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    keys = ClaimKeys(api.nc, api.store, timeout_s=20)
    request = request_hashes(orjson.dumps(worker.body))[0]
    name = f"rest.{api.tenant}.curl-1"
    key = await keys.find(api.tenant, f"user:ann\0{name}", "k1", request)
    until = datetime.now(UTC) + timedelta(minutes=5)
    await key.write(api.publisher, Intent(request, WorkerId(name), Revision(1), JobId(job_id), 1, until))
    claimed = await worker.claim(headers={"Idempotency_Key": "k1"})
    assert claimed.json["job"]["id"] == job_id
    again = await worker.claim(headers={"Idempotency_Key": "k1"})
    assert again.json["lease"]["id"] == claimed.json["lease"]["id"]


async def test_an_intent_that_may_still_come_to_pass_is_carried_out(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    job = await api.store.load(JobId(job_id))
    await submit(api, priority=90)  # what a new claim would be given
    keys = ClaimKeys(api.nc, api.store, timeout_s=20)
    name = f"rest.{api.tenant}.curl-1"
    request = request_hashes(orjson.dumps(worker.body))[0]
    key = await keys.find(api.tenant, f"user:ann\0{name}", "k1", request)
    until = datetime.now(UTC) + timedelta(minutes=5)
    await key.write(
        api.publisher, Intent(request, WorkerId(name), Revision(1), JobId(job_id), job.seq, until)
    )
    claimed = await worker.claim(headers={"Idempotency_Key": "k1"})
    assert claimed.json["job"]["id"] == job_id
    late = Claim(now=datetime.now(UTC), worker=WorkerId(name), revision=Revision(1), expires_at=until)
    with pytest.raises(ConflictError):
        await api.store.transition(job, late, actor=f"worker:{name}")


async def test_two_claims_with_one_key_at_once_are_one_lease(api: Gateway, worker: Worker) -> None:
    jobs = [await submit(api) for _ in range(4)]
    answers = await asyncio.gather(*(worker.claim(headers={"Idempotency_Key": "k"}) for _ in range(4)))
    given = {answer.json["lease"]["id"] for answer in answers if answer.status == 201}
    assert len(given) == 1
    # 204: its look ended before it saw a job; the next claim with the key went on.
    assert {answer.status for answer in answers} <= {201, 204, 503}
    claimed = [job_id for job_id in jobs if "claimed" in await events_of(api, job_id)]
    assert len(claimed) == 1


async def test_a_client_that_leaves_while_it_waits_loses_no_job(api: Gateway, worker: Worker) -> None:
    headers = {"Authorization": f"Bearer {worker.token}"}
    async with aiohttp.ClientSession() as session:
        waiting = asyncio.create_task(
            session.post(f"{api.url}/v1/leases", json={**worker.body, "wait_s": 60}, headers=headers)
        )
        await until_in_registry(api, worker)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    job_id = await submit(api)
    claimed = await worker.claim(wait_s=10)
    assert (claimed.json["job"]["id"], claimed.json["job"]["attempt"]) == (job_id, 1)


async def test_more_claims_than_may_be_under_way_are_asked_to_come_again(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, claimers=1) as api:
        worker = Worker(api, kinds=[api.tenant])
        waiting = asyncio.create_task(worker.claim(wait_s=20))
        await until_in_registry(api, worker)
        refused = await worker.claim()
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        await submit(api)
        assert (await waiting).status == 201


# --- Time


async def test_a_lease_ends_at_its_time_and_not_with_its_workers_record(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, lease_s=1.0) as api, asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        worker = Worker(api, kinds=[api.tenant])
        kept, short = await submit(api), await submit(api)
        first = await worker.claim(lease_s=300)
        await until_in_registry(api, worker)
        record = workers.HEARTBEATS.subject(f"rest.{api.tenant}.curl-1")
        gone = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
        await api.publisher.publish(record, b"", gone)
        second = await Worker(api, "curl-2", kinds=[api.tenant]).claim(lease_s=3, wait_s=5)
        assert second.json["job"]["id"] == short
        await until_events(api, short, "queued")
        ended = (await api.store.history(JobId(short)))[-1]
        assert getattr(ended.event, "cause", None) == "claim_expired"
        assert ended.at >= datetime.fromisoformat(second.json["lease"]["expires_at"])
        assert await events_of(api, kept) == ["submitted", "claimed"]
        assert (await worker.say(first, "succeed", {})).status == 200
        keeping.cancel()


@pytest.mark.parametrize(("own", "renews"), [(True, False), (True, True), (False, True)])
async def test_an_attempt_whose_time_is_over_ends_as_a_timeout_whoever_notices(
    broker: NatsServer, tmp_path: Path, *, own: bool, renews: bool
) -> None:
    settings: dict[str, Any] = {} if own else {"attempt_timeout_s": 2.0}
    async with gateway(broker.url, tmp_path, **settings) as api, asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        job_id = await submit(api, max_attempts=1, **({"attempt_timeout_s": 2} if own else {}))
        await submit(api, attempt_timeout_s=60)  # held beside it: a lost lease would be nobody's fault
        worker = Worker(api, kinds=[api.tenant])
        claimed = await worker.claim(lease_s=1 if renews else 30)
        await worker.claim(lease_s=30)
        assert claimed.json["lease"]["timeout_s"] == 2
        async with asyncio.timeout(DEADLINE_S):
            while renews and (await worker.say(claimed, "renew", {})).status == 200:
                await asyncio.sleep(0.1)
        await until_events(api, job_id, "dead")
        dead = (await api.store.load(JobId(job_id))).error
        assert dead is not None
        assert (dead.code, dead.message) == ("timeout", "the attempt took longer than 2 s")
        assert (await events_of(api, job_id)).count("claimed") == 1
        keeping.cancel()


async def test_an_outage_of_the_broker_ends_no_timed_lease(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, lease_s=1.0) as api, asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        worker = Worker(api, kinds=[api.tenant])
        job_id = await submit(api)
        claimed = await worker.claim(lease_s=120)
        await broker.kill()
        await asyncio.sleep(2.5)  # longer than two leases of the other sort
        await broker.restart()
        async with asyncio.timeout(DEADLINE_S):
            while (renewed := await worker.say(claimed, "renew", {"lease_s": 4})).status == 503:
                await asyncio.sleep(0.1)
        assert renewed.status == 200
        assert await events_of(api, job_id) == ["submitted", "claimed", "claim_renewed"]
        await until_events(api, job_id, "queued")
        keeping.cancel()


async def test_no_renewal_prolongs_an_attempt_beyond_its_time_and_grace(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, cancel_grace_s=1.0) as api:
        worker = Worker(api, kinds=[api.tenant])
        await submit(api, attempt_timeout_s=2)
        claimed = await worker.claim(lease_s=60)
        assert claimed.json["lease"]["timeout_s"] == 2
        job = await api.store.load(claimed.json["job"]["id"])
        assert job.started_at is not None
        ends_at = job.started_at + timedelta(seconds=3)
        assert datetime.fromisoformat(claimed.json["lease"]["expires_at"]) <= ends_at + timedelta(seconds=0.1)
        renewed = await worker.say(claimed, "renew", {"lease_s": 60})
        assert datetime.fromisoformat(renewed.json["lease"]["expires_at"]) == ends_at
        async with asyncio.timeout(DEADLINE_S):
            while (renewed := await worker.say(claimed, "renew")).status == 200:
                await asyncio.sleep(0.05)
        assert (renewed.status, renewed.json["code"]) == (409, "attempt_timeout")


async def test_an_attempt_may_say_that_its_time_is_over(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, attempt_timeout_s=0.2, max_attempts=1)
    claimed = await worker.claim(lease_s=1)
    await asyncio.sleep(0.3)  # longer than the attempt may take
    assert (await worker.say(claimed, "renew", {"lease_s": 1})).status == 200
    report = {"error": {"code": "timeout", "message": "too long", "retryable": True}}
    assert (await worker.say(claimed, "fail", report)).status == 200
    assert (await api.store.load(JobId(job_id))).status == "dead"


# --- Operators


async def control(api: Gateway, verb: str) -> None:
    answer = await api.call("POST", f"/v1/workers/rest.{api.tenant}.curl-1/{verb}", token=api.token("admin"))
    assert answer.status == 202, answer


async def test_a_paused_worker_is_given_nothing_until_it_is_resumed(api: Gateway, worker: Worker) -> None:
    await worker.claim()
    await until_in_registry(api, worker)
    await control(api, "pause")
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await worker.claim()).headers["Switchyard-Worker-State"] != "paused":
            await asyncio.sleep(0.02)
    waiting = asyncio.create_task(worker.claim(wait_s=20))
    job_id = await submit(api)
    assert (await worker.claim()).status == answer.status == 204
    await control(api, "resume")
    assert (await waiting).json["job"]["id"] == job_id


async def test_a_draining_worker_is_notified(api: Gateway, worker: Worker) -> None:
    await worker.claim()
    await until_in_registry(api, worker)
    await control(api, "drain")
    await submit(api)
    answer = await worker.claim(wait_s=20, headers={})
    while answer.status == 201:  # the wish came a moment later
        answer = await worker.claim(wait_s=20)
    assert (answer.status, answer.headers["Switchyard-Worker-State"]) == (204, "draining")


async def test_explain_names_the_worker_over_rest_that_fits(api: Gateway, worker: Worker) -> None:
    await worker.claim()
    await until_in_registry(api, worker)
    job_id = await submit(api)
    shown = (await api.get(f"/v1/jobs/{job_id}/explain")).json["workers"]
    assert [one["verdict"] for one in shown if one["id"] == f"rest.{api.tenant}.curl-1"] == ["free"]


# --- Limits


async def limited(api: Gateway, concurrency: int) -> None:
    limits = Limits(api.nc, api.publisher, api.settings)
    await limits.put(f"{api.tenant}.gpu", Limit(concurrency, None, datetime.now(UTC)))


async def submit_limited(api: Gateway) -> str:
    body = {"kind": api.tenant, "limits": ["gpu"]}
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await api.call("POST", "/v1/jobs", body)).status == 422:
            await asyncio.sleep(0.02)  # the limit has not come to the gateway yet
    return str(answer.json["id"])


async def test_a_limit_holds_for_timed_leases_and_its_place_is_free_at_the_end(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, lease_s=0.5) as api:
        await limited(api, 1)
        first, second = await submit_limited(api), await submit_limited(api)
        worker = Worker(api, kinds=[api.tenant])
        claimed = await worker.claim(lease_s=300)
        assert claimed.json["job"]["id"] == first
        # Longer than the broker waits for an answer about a place that a worker on NATS would hold.
        assert (await worker.claim(wait_s=2.5)).status == 204
        assert (await worker.say(claimed, "renew", {"lease_s": 300})).status == 200
        waiting = asyncio.create_task(worker.claim(wait_s=20))
        assert (await worker.say(claimed, "succeed", {})).status == 200
        assert (await waiting).json["job"]["id"] == second


async def test_a_place_comes_back_after_a_lease_that_nobody_ended(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, lease_s=0.5) as api:
        await limited(api, 1)
        await submit_limited(api)
        second = await submit_limited(api)
        worker = Worker(api, kinds=[api.tenant])
        assert (await worker.claim(lease_s=1)).status == 201
        assert (await worker.claim(wait_s=19)).json["job"]["id"] == second


async def test_an_upload_is_dropped_when_the_lease_is_lost_before_its_end(
    api: Gateway, worker: Worker
) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    lease = claimed.json["lease"]
    begun = asyncio.Event()
    lost = asyncio.Event()

    async def body() -> Any:
        yield b"x" * 200_000
        begun.set()
        await lost.wait()
        yield b"y"

    headers = {
        "Authorization": f"Bearer {worker.token}", "Switchyard-Lease-Token": lease["token"],
        "Content-Type": "application/octet-stream",
    }  # fmt: skip
    path = f"{api.url}/v1/leases/{lease['id']}/artifacts?name=late.bin"
    uploading = asyncio.create_task(api.http.post(path, data=body(), headers=headers))
    await begun.wait()
    await worker.say(claimed, "release")
    lost.set()
    answer = await uploading
    assert answer.status == 409
    assert [event["type"] for event in (await answer.json(content_type=None))["since"]] == ["queued"]
    assert (await api.get(f"/v1/files/{lease['id']}.late.bin")).status == 404
    assert await state_of(api, job_id) == "queued"


async def test_a_claim_that_waits_is_served_when_its_kind_is_resumed(api: Gateway, worker: Worker) -> None:
    admin = api.token("admin")
    await submit(api)
    assert (await worker.claim()).status == 201
    assert (await api.call("POST", f"/v1/kinds/{api.tenant}/pause", token=admin)).status == 200
    job_id = await submit(api)
    assert (await worker.claim()).status == 204
    waiting = asyncio.create_task(worker.claim(wait_s=19))
    assert (await worker.claim(wait_s=1)).status == 204
    assert (await api.call("POST", f"/v1/kinds/{api.tenant}/resume", token=admin)).status == 200
    assert (await waiting).json["job"]["id"] == job_id


async def test_claims_of_many_lanes_at_once_lose_and_double_nothing(api: Gateway, worker: Worker) -> None:
    jobs = [
        await submit(api, priority=10 + 40 * (n % 3), requires={"size": {"$gte": n % 4}}) for n in range(48)
    ]
    got: list[str] = []

    async def work() -> None:
        while len(got) < len(jobs):
            claimed = await worker.claim(capabilities={"size": 9}, wait_s=0.5)
            if claimed.status == 201:
                assert (await worker.say(claimed, "succeed", {})).status == 200
                got.append(claimed.json["job"]["id"])

    await asyncio.gather(*(work() for _ in range(8)))
    assert sorted(got) == sorted(jobs)
    for job_id in jobs:
        assert await events_of(api, job_id) == ["submitted", "claimed", "succeeded"]
