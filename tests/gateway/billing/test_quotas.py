"""Who has used what it may is refused the next job, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.intake.budgets import begin_of, end_of
from switchyard.services.keeper.loop import Keeper
from tests.gateway.billing.test_usage import line, put_prices, write
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as running:
        yield running


async def put(api: Gateway, of: str, *quotas: dict[str, Any], tenant: str = "") -> Answer:
    path = f"/v1/quotas/{of}?tenant={tenant or api.tenant}"
    return await api.call("PUT", path, {"quotas": quotas}, token=api.token("operator"))


async def until_refused(api: Gateway, token: str) -> Answer:
    """The first submission that is refused; those before it are the overshoot."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=token)
            if answer.status != 201:
                return answer


async def test_a_tenant_that_has_used_its_units_is_refused_and_others_go_on(api: Gateway) -> None:
    assert (await put(api, "all", {"unit": "pages", "period": "day", "most": 10})).status == 200
    await write(api, line(1, {"pages": 9.999999}, tenant=api.tenant))
    await write(api, line(2, {"pages": 50}, tenant=api.tenant, at=clock.now() - timedelta(days=1)))
    assert (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status == 201
    await write(api, line(3, {"pages": 0.000001}, tenant=api.tenant, outcome="failed"))
    refused = await until_refused(api, api.token())
    assert (refused.status, refused.json["code"]) == (429, "quota_spent")
    assert "Retry-After" not in refused.headers
    assert (
        await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=api.token(tenant=api.stranger))
    ).status == 201
    lines = await api.bulk({"kind": "noop"})
    assert lines[0]["error"]["code"] == "quota_spent"
    shown = (await api.get("/v1/quotas/all")).json
    assert [(one["unit"], one["most"], one["used"]) for one in shown["quotas"]] == [("pages", 10, "10")]
    assert (
        await api.call("DELETE", f"/v1/quotas/all?tenant={api.tenant}", token=api.token("operator"))
    ).status == 204
    assert (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status == 201


async def test_a_key_that_has_spent_its_money_is_refused_with_402_and_its_tenant_goes_on(
    api: Gateway,
) -> None:
    made = await api.call(
        "POST", "/v1/keys", {"name": "k", "roles": ["submitter"]}, token=api.token("tenant-admin")
    )
    key, secret = made.json["id"], made.json["key"]
    prices = {"prices": [{"unit": "pages", "micro_cents": 1_000_000}], "margin_bp": 5_000}
    assert (await put_prices(api, clock.now().date(), prices)).status == 201
    assert (await put(api, key, {"unit": "micro_cents", "period": "month", "most": 3_000_000})).status == 200
    await write(api, line(1, {"pages": 2}, tenant=api.tenant, key=key))
    refused = await until_refused(api, secret)
    assert (refused.status, refused.json["code"]) == (402, "budget_spent")
    assert (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status == 201


async def test_a_quota_of_nothing_lets_no_job_in_and_what_is_known_is_answered(api: Gateway) -> None:
    first = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="a")
    assert first.status == 201
    assert (await put(api, "all", {"unit": "x", "period": "month", "most": 0})).status == 200
    assert (await until_refused(api, api.token())).json["code"] == "quota_spent"
    again = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="a")
    assert (again.status, again.json["id"]) == (200, first.json["id"])


async def test_a_tick_of_a_schedule_obeys_the_quotas_of_its_tenant(api: Gateway) -> None:
    assert (await put(api, "all", {"unit": "x", "period": "month", "most": 0})).status == 200
    made = await api.call("PUT", "/v1/schedules/s", {"every_s": 1, "job": {"kind": "noop"}})
    assert made.status == 201, made
    async with asyncio.TaskGroup() as group:
        model = ReadModel(path_in(api.settings.data_dir))
        keeping = group.create_task(Keeper(api.nc, api.settings, model).run())
        async with asyncio.timeout(5 * DEADLINE_S):
            while (refused := (await api.get("/v1/schedules/s")).json["last_refused"]) is None:
                pass
        keeping.cancel()
    model.close()
    assert refused["code"] == "quota_spent"


async def test_odd_quotas_are_refused(api: Gateway) -> None:
    one = {"unit": "pages", "period": "day", "most": 1}
    for odd in ({"most": -1}, {"most": 0.5}, {"most": 10**19}, {"period": "year"}, {"unit": ""}, {"x": 1}):
        answer = await put(api, "all", {**one, **odd})
        assert answer.status == 422, (odd, answer)
    for of in ("x", "ALL", "*", "0123456789ABCDEF", "all%2Fx", ">", "a.b"):
        assert (await put(api, of, one)).status in (404, 422), of
    assert (await put(api, "all")).status == 422
    assert (await put(api, "all", one, one)).status == 422
    assert (
        await api.call("PUT", "/v1/quotas/all", {"quotas": [one]}, token=api.token("tenant-admin"))
    ).status == 403


async def test_the_disk_is_shown_by_stream_tenant_and_kind(api: Gateway) -> None:
    await api.submit(payload={"x": "y" * 5000})
    await api.call("POST", "/v1/files?name=a", b"z" * 3000)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.get("/v1/disk", token=api.token("operator"))
            assert answer.status == 200, answer
            mine = [one for one in answer.json["tenants"] if one["tenant"] == api.tenant]
            if mine and mine[0]["files"] and mine[0]["jobs"]:
                break
    assert (mine[0]["jobs"], mine[0]["files"], mine[0]["file_bytes"]) == (1, 1, 3000)
    assert mine[0]["job_bytes"] > 5000
    kinds = {one["kind"]: (one["jobs"], one["job_bytes"]) for one in answer.json["kinds"]}
    assert kinds == {"noop": (1, mine[0]["job_bytes"])}
    streams = {one["stream"]: one["bytes"] for one in answer.json["streams"]}
    assert streams["JOBS"] > 5000
    assert streams["OBJ_files"] > 3000
    assert "LEDGER" in streams
    assert answer.json["read_model_bytes"] > 0


def test_periods_begin_and_end_in_utc() -> None:
    now = clock.now().replace(month=12, day=31)
    assert begin_of("month", now).day == 1
    assert (end_of("month", now).month, end_of("month", now).day, end_of("month", now).hour) == (1, 1, 0)
    assert end_of("day", now) - begin_of("day", now) == timedelta(days=1)
