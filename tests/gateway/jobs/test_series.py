"""`/v1/series`: jobs over time, for whoever may see them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.rest import Gateway

pytestmark = pytest.mark.shared_gateway

STATES = ("succeeded", "dead", "cancelled", "expired")


async def sums(api: Gateway, query: str = "", **options: Any) -> dict[str, Any]:
    answer = await api.get(f"/v1/series{query}", **options)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    for name in ("submitted", *STATES):
        assert found["total"][name] == sum(point[name] for point in found["points"])
    return found


async def ended(api: Gateway, outcome: str) -> None:
    """A job that has run, and ended so."""
    job = await api.submit(kind="crafted")
    worker = api.token("worker")
    claim = await api.call(
        "POST", "/v1/leases", {"worker": "w", "kinds": ["crafted"], "wait_s": 5}, token=worker
    )
    assert claim.status == 201, claim
    lease = claim.json["lease"]
    body = {"result": {}} if outcome == "succeed" else {"error": {"code": "x", "retryable": False}}
    answer = await api.call(
        "POST",
        f"/v1/leases/{lease['id']}/{outcome}",
        body,
        token=worker,
        Switchyard_Lease_Token=lease["token"],
    )
    assert answer.status == 200, answer
    seen = await api.get("/v1/jobs", Switchyard_Min_Seq=answer.headers["Switchyard-Seq"])
    assert any(one["id"] == job["id"] for one in seen.json["jobs"])


async def test_jobs_are_counted_when_they_come_and_when_they_end(api: Gateway) -> None:
    await ended(api, "succeed")
    await ended(api, "fail")
    job = await api.submit()
    cancelled = await api.call("POST", f"/v1/jobs/{job['id']}/cancel", {})
    await api.get("/v1/jobs", Switchyard_Min_Seq=cancelled.headers["Switchyard-Seq"])
    total = (await sums(api))["total"]
    assert [total[name] for name in ("submitted", *STATES)] == [3, 1, 1, 1, 0]
    assert total["wait_s"]["p50"] is not None
    assert total["run_s"]["p99"] is not None
    assert (await sums(api, "?kind=crafted"))["total"]["submitted"] == 2


async def test_jobs_of_others_are_not_counted(api: Gateway) -> None:
    await api.submit()
    stranger = await sums(api, token=api.token("viewer", tenant=api.stranger))
    assert stranger["total"]["submitted"] == 0
    assert (await api.get("/v1/series?tenant=*")).status == 403
    everybody = await sums(api, "?tenant=*", token=api.token("operator", tenant=api.stranger))
    assert everybody["total"]["submitted"] >= 1


@pytest.mark.parametrize(
    ("query", "step_s", "points"),
    [
        ("since=2026-01-01T00:00:00Z&until=2026-01-01T03:00:00Z", 60, 180),
        ("since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z", 900, 96),
        ("since=2026-01-01T00:00:00Z&until=2026-01-08T00:00:00Z", 3600, 168),
        ("since=2026-01-01T00:00:00Z&until=2026-03-31T00:00:00Z", 86400, 89),
        ("since=2026-01-01T00:00:30Z&until=2026-01-01T00:01:30Z&step_s=60", 60, 2),
    ],
)
async def test_steps_are_as_long_as_a_picture_needs(
    api: Gateway, query: str, step_s: int, points: int
) -> None:
    found = await sums(api, f"?{query}")
    assert (found["step_s"], len(found["points"])) == (step_s, points)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("step_s=7", "step_s"),
        ("step_s=-60", "step_s"),
        ("since=2026-01-01T00:00:00Z&until=2026-03-01T00:00:00Z&step_s=60", "step_s"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=2025-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("until=0001-01-01T00:00:00Z", "until"),
        ("until=9999-12-31T23:59:59Z", "until"),
        ("since=yesterday", "since"),
        ("kind=-", "kind"),
    ],
)
async def test_a_question_that_breaks_a_rule_says_which_one(api: Gateway, query: str, field: str) -> None:
    answer = await api.get(f"/v1/series?{query}")
    assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_parameter", field)


async def test_very_many_kinds_are_asked_for_at_once(api: Gateway) -> None:
    job = await api.submit(kind="k77")
    cancelled = await api.call("POST", f"/v1/jobs/{job['id']}/cancel", {})
    await api.get("/v1/jobs", Switchyard_Min_Seq=cancelled.headers["Switchyard-Seq"])
    kinds = ",".join(f"k{number}" for number in range(700))
    assert (await sums(api, f"?kind={kinds},{kinds}"))["total"]["submitted"] == 1


async def test_many_questions_at_once_are_answered_one_of_each_tenant_after_the_other(api: Gateway) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(sums(api)) for _ in range(20)]
        other = tasks.create_task(sums(api, token=api.token("viewer", tenant=api.stranger)))
    assert len({len(one.result()["points"]) for one in (*asked, other)}) == 1
