"""What one tenant may take of what all share, while others continue; by small limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from switchyard.services.projector.projector import rebuild
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.gateway.shares.test_lane_shares import submit, usage


async def used(api: Gateway, what: str, tenant: str | None = None) -> int:
    return int((await usage(api, tenant))[what]["used"])


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await check():
            pass


async def others_go_on(api: Gateway) -> None:
    """A stranger submits, claims over REST and cancels."""
    mine = await submit(api, tenant=api.stranger, labels={"n": "1"})
    assert mine.status == 201, mine
    claimed = await api.call(
        "POST", "/v1/leases", {"worker": "w", "kinds": [api.tenant], "wait_s": 10},
        token=api.token("worker", tenant=api.stranger),
    )  # fmt: skip
    assert (claimed.status, claimed.json["job"]["id"]) == (201, mine.json["id"])
    second = await submit(api, tenant=api.stranger)
    token = api.token(tenant=api.stranger)
    assert (await api.call("POST", f"/v1/jobs/{second.json['id']}/cancel", token=token)).status == 200


async def cancel(api: Gateway, job_id: str) -> None:
    assert (await api.call("POST", f"/v1/jobs/{job_id}/cancel")).status == 200


# --- Jobs


async def test_a_tenant_with_as_many_jobs_as_it_may_have_is_refused_until_one_ends(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=3) as api:
        jobs = [(await submit(api)).json["id"] for _ in range(2)]
        later = await submit(api, delay_s=3600)
        assert later.status == 201
        refused = await submit(api)
        assert (refused.status, refused.json["code"]) == (429, "too_many_jobs")
        assert int(refused.headers["Retry-After"]) > 0
        assert f"tenant {api.tenant} has 3 jobs" in refused.json["detail"]
        assert "of at most 3" in refused.json["detail"]
        await others_go_on(api)
        await cancel(api, jobs[0])

        async def admitted() -> bool:
            return (await submit(api)).status == 201

        await until(admitted)
        assert (await submit(api)).status == 429


async def test_lines_over_the_limit_are_refused_and_the_rest_of_a_bulk_call_goes_on(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=3) as api:
        line = {"kind": api.tenant}
        known = {**line, "idempotency_key": "a"}
        assert (await api.bulk(known))[0]["status"] == 201
        lines = await api.bulk(line, line, line, known, b"{", line)
        assert [answer["status"] for answer in lines] == [201, 201, 429, 200, 400, 429]
        error = lines[2]["error"]
        assert (error["code"], error["retry_after_s"] > 0) == ("too_many_jobs", True)


async def test_a_submission_that_was_taken_in_is_answered_again_at_the_limit(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=1) as api:
        body = {"kind": api.tenant}
        first = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
        assert first.status == 201
        again = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k")
        assert (again.status, again.json["id"]) == (200, first.json["id"])
        other = await api.call("POST", "/v1/jobs", {**body, "priority": 1}, Idempotency_Key="k")
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_what_ends_in_an_error_or_was_there_already_takes_nothing(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=3, projector=False) as api:
        for fields in ({"depends_on": ["nobody"]}, {"requires": {"a": {"$foo": 1}}}, {"kind": "!"}):
            for _ in range(5):
                assert (await submit(api, **fields)).status == 422
        assert await used(api, "jobs") == 0
        body = {"kind": api.tenant}
        answers = [await api.call("POST", "/v1/jobs", body, Idempotency_Key="k") for _ in range(5)]
        assert [answer.status for answer in answers] == [201, 200, 200, 200, 200]
        assert await used(api, "jobs") == 1
        assert [(await submit(api)).status for _ in range(3)] == [201, 201, 429]


async def test_bytes_of_jobs_are_those_of_the_submissions(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_job_bytes=1000) as api:
        assert (await submit(api, payload={"x": "y" * 800})).status == 201
        taken = await used(api, "job_bytes")
        assert 800 < taken < 900
        refused = await submit(api, payload={"x": "y" * 200})
        assert (refused.status, refused.json["code"]) == (429, "too_many_job_bytes")
        assert str(taken) in refused.json["detail"]
        assert (await submit(api)).status == 201
        await others_go_on(api)


async def test_pairs_of_a_blocked_job_and_one_that_it_waits_for_are_limited(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_waits=3) as api:
        parents = [(await submit(api)).json["id"] for _ in range(2)]
        blocked = await submit(api, depends_on=parents)
        assert blocked.status == 201
        refused = await submit(api, depends_on=parents)
        assert (refused.status, refused.json["code"]) == (429, "too_many_waits")
        assert refused.json["field"] == "depends_on"
        assert (await submit(api, depends_on=parents[:1])).status == 201
        await others_go_on(api)
        await cancel(api, blocked.json["id"])

        async def admitted() -> bool:
            return (await submit(api, depends_on=parents)).status == 201

        await until(admitted)


async def test_a_tenant_may_fill_its_part_of_the_event_log_and_no_more(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    share = 100_000 / (8 << 30)
    async with gateway(shared_broker.url, tmp_path, tenant_log_share=share) as api:
        for _ in range(2):  # cancelled ones stay in the log
            await cancel(api, (await submit(api, payload={"x": "y" * 50_000})).json["id"])

        async def refused() -> bool:
            answer = await submit(api)
            return answer.status == 429 and answer.json["code"] == "log_share_spent"

        await until(refused)
        assert (await usage(api))["log_bytes"]["limit"] == 100_000
        await others_go_on(api)


async def test_a_redrive_takes_of_the_share_like_a_submission(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=2) as api:
        dead = (await submit(api)).json["id"]
        await api.fail(await api.lease(dead), "broken", retryable=False)

        async def is_empty() -> bool:
            return await used(api, "jobs") == 0

        await until(is_empty)
        assert [(await submit(api)).status for _ in range(3)] == [201, 201, 429]
        refused = await api.call("POST", f"/v1/jobs/{dead}/redrive")
        assert (refused.status, refused.json["code"]) == (429, "too_many_jobs")
        many = await api.call("POST", "/v1/dead-letters/redrive")
        assert (many.json["redriven"], many.json["refused"]) == (0, 1)
        assert many.json["errors"][0]["code"] == "too_many_jobs"
        running = await api.call("POST", f"/v1/jobs/{(await _first_open(api))}/redrive")
        assert running.status == 409  # a conflict is reported before a limit
        await cancel(api, await _first_open(api))

        async def redriven() -> bool:
            answer = await api.call("POST", f"/v1/jobs/{dead}/redrive", {"payload": {"x": "y" * 100}})
            return answer.status == 200

        await until(redriven)
        assert await used(api, "jobs") == 2
        assert await used(api, "job_bytes") > 150


async def _first_open(api: Gateway) -> str:
    await api.caught_up()
    return str((await api.get("/v1/jobs?state=queued&limit=1")).json["jobs"][0]["id"])


async def test_what_was_written_counts_once_before_and_after_it_is_projected(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=100) as api:
        for count in range(1, 30):
            job = await submit(api)
            assert await used(api, "jobs") == count
        await api.get("/v1/jobs", Switchyard_Min_Seq=str(job.json["seq"]))
        assert await used(api, "jobs") == 29
        lines = await api.bulk(*({"kind": api.tenant} for _ in range(60)))
        await api.get("/v1/jobs", Switchyard_Min_Seq=str(lines[-1]["seq"]))
        assert await used(api, "jobs") == 89
        before = await usage(api)
        await rebuild(api.nc, api.settings)
        after = await usage(api)
        assert {what: after[what]["used"] for what in after} == {
            what: before[what]["used"] for what in before
        }


async def test_a_gateway_whose_read_model_stands_still_admits_up_to_the_limit_and_no_more(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, projector=False, tenant_jobs=5) as api:
        lines = await api.bulk(*({"kind": api.tenant} for _ in range(8)))
        assert [line["status"] for line in lines] == [201] * 5 + [429] * 3


async def test_gateways_count_what_others_have_taken_in(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a", tenant_jobs=4) as one,
        gateway(shared_broker.url, tmp_path / "b", tenant_jobs=4) as other,
    ):
        for _ in range(4):
            assert (await submit(one)).status == 201

        async def seen() -> bool:
            return await used(other, "jobs", one.tenant) == 4

        await until(seen)
        refused = await submit(other, tenant=one.tenant)
        assert (refused.status, refused.json["code"]) == (429, "too_many_jobs")
        assert (await submit(other, tenant=one.stranger)).status == 201


async def test_numbers_are_shown_to_their_tenant_and_to_admins(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:
        await submit(api)
        mine = await api.get("/v1/usage", token=api.token("viewer"))
        assert mine.json["tenant"] == api.tenant
        assert mine.json["usage"]["jobs"] == {"used": 1, "limit": 200_000}
        path = f"/v1/usage?tenant={api.tenant}"
        assert (await api.get(path, token=api.token(tenant=api.stranger))).status == 403
        admin = await api.get(path, token=api.token("admin", tenant=api.stranger))
        assert admin.json == mine.json
        assert (await api.call("POST", "/v1/files", b"12345")).status == 201
        found = await usage(api)
        assert found["files"]["used"] >= 1
        assert found["file_bytes"]["used"] >= 5
