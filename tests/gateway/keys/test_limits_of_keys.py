"""What a key may be used for, and how often."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.reader import last_message
from tests.broker.shared import SharedBroker
from tests.gateway.keys.site import Made, make
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

LIMIT = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')


# --- How often


async def hammer(api: Gateway, secret: str, calls: int, at_once: int) -> tuple[list[Answer], float]:
    """The answers to so many requests, and the seconds that they took."""
    left = iter(range(calls))
    answers: list[Answer] = []

    async def go() -> None:
        answers.extend([await api.get("/v1/controls", token=secret) for _ in left])

    begun = time.monotonic()
    await asyncio.gather(*(go() for _ in range(at_once)))
    return answers, time.monotonic() - begun


def passed(answers: list[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)


async def test_two_keys_of_one_tenant_are_each_held_to_their_own_limit_under_load(api: Gateway) -> None:
    slow = await make(api, "viewer", rate={"per_minute": 120, "burst": 10})
    quick = await make(api, "viewer", rate={"per_minute": 240, "burst": 100})
    free = await make(api, "viewer")
    runs = await asyncio.gather(*(hammer(api, key.secret, 300, 8) for key in (slow, quick, free)))
    for (answers, took_s), (per_minute, burst) in zip(runs, [(120, 10), (240, 100)], strict=False):
        most = burst + per_minute * took_s / 60 + 1
        assert burst <= passed(answers) <= most, (passed(answers), most)
        refused = [answer for answer in answers if answer.status != 200]
        assert refused
        for answer in refused:
            assert (answer.status, answer.json["code"]) == (429, "rate_limited")
            assert answer.json["limit"] == "key"
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["RateLimit-Policy"] == f'"key";q={per_minute};w=60'
            found = LIMIT.fullmatch(answer.headers["RateLimit"])
            assert found is not None
            assert found.group(1, 2) == ("key", "0")
    assert passed(runs[2][0]) == 300
    assert "RateLimit" not in runs[2][0][0].headers


async def test_two_gateways_let_at_most_twice_the_limit_pass(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        key = await make(one, "viewer", rate={"per_minute": 120, "burst": 10})
        async with asyncio.timeout(DEADLINE_S):
            while (await two.get("/v1/controls", token=key.secret)).status == 401:
                await asyncio.sleep(0.05)
        runs = await asyncio.gather(*(hammer(api, key.secret, 200, 8) for api in (one, two)))
        most = sum(10 + 120 * took_s / 60 + 1 for _, took_s in runs)
        assert 15 <= sum(passed(answers) for answers, _ in runs) <= most


async def test_answer_says_what_is_left_of_a_limit(api: Gateway) -> None:
    key = await make(api, "submitter", rate={"per_minute": 6, "burst": 3})
    said = []
    for _ in range(3):
        answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
        assert answer.status == 201
        said.append(answer.headers["RateLimit"])
    assert said == ['"key";r=2;t=10', '"key";r=1;t=20', '"key";r=0;t=30']
    wrong = await api.get("/v1/nothing", token=key.secret)
    assert wrong.status == 429
    assert key.view["rate"] == {"per_minute": 6, "burst": 3}


async def test_limit_of_the_tenant_counts_all_of_its_callers_and_no_other_tenants(api: Gateway) -> None:
    operator = api.token("operator", tenant="ops")
    set_ = await api.call(
        "PUT", f"/v1/limits/all?tenant={api.tenant}", {"requests_per_minute": 6}, token=operator
    )
    assert (set_.status, set_.json["requests_per_minute"]) == (201, 6)
    key = await make(api, "viewer", rate={"per_minute": 600, "burst": 100})
    refused = await api.get("/v1/jobs", token=key.secret)
    assert (refused.status, refused.json["limit"]) == (429, "tenant")
    assert refused.headers["RateLimit-Policy"] == '"key";q=600;w=60, "tenant";q=6;w=60'
    # What one limit refuses costs the other nothing.
    found = LIMIT.search(refused.headers["RateLimit"])
    assert found is not None
    assert found[2] == "100"
    assert (await api.get("/v1/jobs")).status == 429  # a token of the tenant
    assert (await api.get("/v1/jobs", token=api.token(tenant=api.stranger))).status == 200
    # Whoever acts for the tenant is no caller of it.
    assert (await api.get(f"/v1/limits?tenant={api.tenant}", token=operator)).status == 200
    gone = await api.call("DELETE", f"/v1/limits/all?tenant={api.tenant}", token=operator)
    assert gone.status == 204
    assert (await api.get("/v1/jobs", token=key.secret)).status == 200


async def test_only_the_tenants_own_limit_counts_requests(api: Gateway) -> None:
    answer = await api.call("PUT", "/v1/limits/gpu", {"requests_per_minute": 6}, token=api.token("operator"))
    assert (answer.status, answer.json["field"]) == (422, "requests_per_minute")


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("all", {"keep_s": 0}, "keep_s"),
        ("all", {"keep_s": 1e300}, "keep_s"),
        ("all", {"keep_dead_s": "x"}, "keep_dead_s"),
        ("gpu", {"keep_s": 5}, "keep_s"),
        ("gpu", {"concurrency": 1, "keep_dead_s": 5}, "keep_dead_s"),
    ],
)
async def test_times_to_keep_are_the_tenants_own_and_within_bounds(
    api: Gateway, name: str, body: dict[str, Any], field: str
) -> None:
    answer = await api.call("PUT", f"/v1/limits/{name}", body, token=api.token("operator"))
    assert (answer.status, answer.json["field"]) == (422, field)


async def test_time_to_keep_alone_holds_no_job_back(api: Gateway) -> None:
    operator = api.token("operator")
    made = await api.call("PUT", "/v1/limits/all", {"keep_s": 60, "keep_dead_s": 90.5}, token=operator)
    assert (made.status, made.json["keep_s"], made.json["keep_dead_s"]) == (201, 60, 90.5)
    assert (await api.get("/v1/limits/all", token=operator)).json["keep_dead_s"] == 90.5
    job = await api.submit()
    assert (await api.store.spec(job["id"])).limits == ()
    await api.call("DELETE", "/v1/limits/all", token=operator)


async def test_limit_on_requests_alone_holds_no_job_back(api: Gateway) -> None:
    await api.call("PUT", "/v1/limits/all", {"requests_per_minute": 600}, token=api.token("operator"))
    job = await api.submit()
    assert (await api.store.spec(job["id"])).limits == ()
    await api.call("DELETE", "/v1/limits/all", token=api.token("operator"))


# --- For what


async def test_key_for_some_kinds_submits_claims_and_schedules_no_others(api: Gateway) -> None:
    key = await make(api, "submitter", "worker", kinds=[api.tenant])
    token = key.secret

    async def code(method: str, path: str, body: Any) -> tuple[int, str | None]:
        answer = await api.call(method, path, body, token=token)
        return answer.status, answer.json.get("code") if answer.raw else None

    wrong = {"kind": "noop"}
    assert await code("POST", "/v1/jobs", wrong) == (403, "kind_not_allowed")
    assert await code("POST", "/v1/schedules", {"every_s": 60, "job": wrong}) == (403, "kind_not_allowed")
    for kinds in (["noop"], [api.tenant, "noop"]):
        claim = {"worker": "w", "kinds": kinds}
        assert await code("POST", "/v1/leases", claim) == (403, "kind_not_allowed")
    right = {"kind": api.tenant}
    lines = await api.bulk(wrong, right, token=token)
    assert [line.get("error", {}).get("code") for line in lines] == ["kind_not_allowed", None]
    assert (await code("POST", "/v1/jobs", right))[0] == 201
    assert (await code("POST", "/v1/leases", {"worker": "w", "kinds": [api.tenant]}))[0] == 201


async def test_key_submits_so_many_jobs_a_day_and_no_more(api: Gateway) -> None:
    key = await make(api, "submitter", spend={"jobs_per_day": 4})
    token = key.secret
    for _ in range(2):
        assert (await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=token)).status == 201
    refused = await api.call("POST", "/v1/jobs", {"kind": "N o"}, token=token)
    assert refused.status == 422  # what is refused is not spent
    lines = await api.bulk(*[{"kind": "noop"}] * 3, token=token)
    assert [line.get("error", {}).get("code") for line in lines] == [None, None, "key_spent"]
    spent = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=token)
    assert (spent.status, spent.json["code"]) == (429, "key_spent")
    assert 0 < int(spent.headers["Retry-After"]) <= 86400
    assert (await api.get("/v1/jobs", token=token)).status == 200
    ticks = await api.call("POST", "/v1/schedules", {"every_s": 60, "job": {"kind": "noop"}}, token=token)
    assert (ticks.status, ticks.json["code"]) == (403, "key_bounded")


async def test_same_submission_is_spent_once(api: Gateway) -> None:
    key = await make(api, "submitter", spend={"jobs_per_day": 2})
    for _ in range(4):
        answer = await api.call(
            "POST", "/v1/jobs", {"kind": "noop"}, token=key.secret, Idempotency_Key=f"one-{api.tenant}"
        )
        assert answer.status in (200, 201)
    assert (await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)).status == 201
    spent = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
    assert (spent.status, spent.json["code"]) == (429, "key_spent")
    again = await api.call(
        "POST", "/v1/jobs", {"kind": "noop"}, token=key.secret, Idempotency_Key=f"one-{api.tenant}"
    )
    assert again.status == 200


async def test_what_a_key_has_spent_outlives_its_gateway(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:
        key = await make(api, "submitter", spend={"jobs_per_day": 2})
        for _ in range(2):
            await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
        tenant = api.tenant
    async with gateway(shared_broker.url, tmp_path) as api:
        async with asyncio.timeout(DEADLINE_S):
            found: list[Any] = []
            while len(found) < 2:
                answer = await api.get("/v1/jobs", token=api.token(tenant=tenant))
                found = answer.json["jobs"]
        answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
        assert (answer.status, answer.json["code"]) == (429, "key_spent")


# --- When


async def test_use_is_shown_at_once_and_written_once_for_many_requests(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path / "a") as one:
        key = await make(one, "viewer")
        admin = one.token("admin")
        path = f"/v1/keys/{key.id}"
        assert (await one.get(path, token=admin)).json["last_used_at"] is None
        for _ in range(20):
            await one.get("/v1/jobs", token=key.secret)
        assert (await one.get(path, token=admin)).json["last_used_at"] is not None
        assert await last_message(one.nc, "KV_keys", f"$KV.keys.used.{key.id}", timeout_s=20) is None


async def written(api: Gateway, key: Made) -> bytes | None:
    message = await last_message(api.nc, "KV_keys", f"$KV.keys.used.{key.id}", timeout_s=20)
    return None if message is None else message.data


async def test_use_is_written_after_a_while_for_all_gateways(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("switchyard.services.records.keys.USED_S", 0.05)
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        key = await make(one, "viewer")
        await one.get("/v1/jobs", token=key.secret)
        admin = two.token("admin", tenant=one.tenant)
        async with asyncio.timeout(DEADLINE_S):
            while (await two.get(f"/v1/keys/{key.id}", token=admin)).json["last_used_at"] is None:
                pass
        assert await written(one, key)
