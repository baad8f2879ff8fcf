"""What a newer version of the program has written is set aside and shown, and makes no bill wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.ledger.line import encode
from switchyard.services import clock
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.billing.test_quotas import put
from tests.gateway.billing.test_usage import counted, line, put_prices, write
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

DAY = timedelta(days=1)


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as running:
        yield running


async def aside(api: Gateway, stream: str) -> dict[str, Any]:
    """The one message of a stream that was set aside."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.get(f"/v1/quarantine?stream={stream}", token=api.token("admin"))
            if answer.json["quarantine"]:
                (found,) = answer.json["quarantine"]
                return dict(found)


async def bill(api: Gateway, days: str = "") -> Answer:
    return await api.get(f"/v1/usage/bill?tenant=*{days}", token=api.token("operator"))


async def until_status(api: Gateway, status: int) -> Answer:
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await bill(api)).status != status:
            pass
    return answer


async def test_a_line_of_a_newer_version_is_set_aside_and_the_others_count(api: Gateway) -> None:
    newer = encode(line(1, {"pages": 5})).replace(b'"v":1', b'"v":2')
    assert b'"v":2' in newer
    await api.publisher.publish(subjects.ledger(1), newer, {})
    await write(api, line(2, {"pages": 3}))
    rows = await counted(api, 1)
    assert {row["unit"]: row["amount"] for row in rows}["pages"] == "3"
    assert (await aside(api, subjects.LEDGER))["subject"] == subjects.ledger(1)


async def test_prices_of_a_newer_version_make_no_bill_wrong(api: Gateway) -> None:
    today = clock.now().date()
    one = {"prices": [{"unit": "pages", "micro_cents": 7}]}
    assert (await put_prices(api, today - 9 * DAY, one)).status == 201
    await write(api, line(1, {"pages": 3}), line(2, {"pages": 1}, at=clock.now() - 3 * DAY))
    await counted(api, 2)
    assert (await bill(api)).status == 200
    newer = b'{"prices":[{"unit":"pages","micro_cents":9,"tiers":[1]}]}'
    await api.publisher.publish(f"$KV.prices.{today - DAY}", newer, {})
    refused = await until_status(api, 503)
    assert f"the prices from {today - DAY} on" in refused.json["detail"]
    days = f"&from={today - 4 * DAY}&to={today - 2 * DAY}"
    assert (await bill(api, days)).json["total_micro_cents"] == 7
    assert (await aside(api, "KV_prices"))["subject"] == f"$KV.prices.{today - DAY}"
    listed = (await api.get("/v1/prices", token=api.token("operator"))).json["prices"]
    assert [found["start"] for found in listed] == [str(today - 9 * DAY)]
    assert (await put_prices(api, today - 2 * DAY, one)).status == 409
    assert (
        await put_prices(api, today - DAY, {"prices": [{"unit": "pages", "micro_cents": 2}]})
    ).status == 201
    assert (await bill(api, f"&from={today - 9 * DAY}")).json["total_micro_cents"] == 2 * 3 + 7


async def test_a_later_version_that_cannot_be_read_changes_nothing_before(api: Gateway) -> None:
    today = clock.now().date()
    assert (await put_prices(api, today, {"prices": [{"unit": "pages", "micro_cents": 7}]})).status == 201
    await write(api, line(1, {"pages": 3}))
    await counted(api, 1)
    await api.publisher.publish(f"$KV.prices.{today + DAY}", b'{"tiers":[]}', {})
    await aside(api, "KV_prices")
    assert (await bill(api)).json["total_micro_cents"] == 21


async def test_quotas_of_a_newer_version_bound_nothing_and_may_be_set_again(api: Gateway) -> None:
    assert (await put(api, "all", {"unit": "pages", "period": "day", "most": 0})).status == 200
    newer = b'{"quotas":[{"unit":"pages","period":"week","most":0}]}'
    await api.publisher.publish(f"$KV.quotas.{api.tenant}.all", newer, {})
    found = await aside(api, "KV_quotas")
    assert found["subject"] == f"$KV.quotas.{api.tenant}.all"
    async with asyncio.timeout(DEADLINE_S):
        while (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status != 201:
            pass
    assert (await api.get("/v1/quotas/all")).status == 404
    assert (await put(api, "all", {"unit": "pages", "period": "day", "most": 0})).status == 200
    assert (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status == 429
