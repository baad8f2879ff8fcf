"""What was used, as the API adds it up, is what the ledger holds: to the unit, and to the micro-cent."""

from __future__ import annotations

import asyncio
import csv
import io
import math
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.ledger.line import MICRO, Line, amounts_of
from switchyard.events.ledger.prices import PARTS, PriceBook, PriceVersion, micro_cents
from switchyard.projections.ledger.report import BY
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.ledger.book import Book
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.ledger.books import in_ledger

TODAY = datetime.now(UTC)
DAY = timedelta(days=1)
ALL = "by=day,tenant,key,kind,operation,engine,outcome"


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as running:
        yield running


def line(n: int, usage: dict[str, float], **fields: Any) -> Line:
    """A line of an attempt that ran a second."""
    units, refused = amounts_of(usage, 1.0)
    values: dict[str, Any] = {
        "id": f"e-{n}", "seq": n, "job": f"j-{n}", "attempt": 1, "fence": n, "tenant": "acme", "kind": "ocr",
        "worker": "w1", "engine": "w1", "started_at": TODAY, "ended_at": TODAY, "at": TODAY,
        "outcome": "succeeded",
    }  # fmt: skip
    return Line(**values | fields, units=units, refused=refused)


async def write(api: Gateway, *lines: Line) -> None:
    await Book(api.nc, api.publisher, timeout_s=20).write(lines)


async def summary(api: Gateway, query: str, **options: Any) -> Answer:
    token = options.pop("token", None) or api.token("operator")
    answer = await api.get(f"/v1/usage/summary?{query}", token=token, **options)
    assert answer.status == 200, answer
    return answer


async def counted(api: Gateway, attempts: int, query: str = "by=tenant&tenant=*") -> list[dict[str, Any]]:
    """The rows, once so many attempts are in them."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            rows: list[dict[str, Any]] = (await summary(api, f"{query}&unit=attempts")).json["usage"]
            if sum(row["attempts"] for row in rows) >= attempts:
                found: list[dict[str, Any]] = (await summary(api, query)).json["usage"]
                return found


def many(count: int) -> list[Line]:
    """Lines of some tenants, keys, kinds, engines, outcomes, units and days."""
    return [
        line(
            n * 37, {"pages": n, "tokens": n * 0.3, "bytes": n * 10**9}, tenant=f"t{n % 3}",
            key=("", "0123456789abcdef")[n % 2], kind=f"k{n % 4}", engine=f"e{n % 5}",
            operation=("", "batch", "convert")[n % 3],
            outcome=("succeeded", "failed", "accepted")[n % 3 and n % 2 + 1], at=TODAY - (n % 7) * DAY,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


PRICES: dict[str, Any] = {
    "prices": [
        {"unit": "pages", "micro_cents": 1_000_003, "least_micro_cents": 30_000_000},
        {"unit": "pages", "kind": "k1", "micro_cents": 7, "margin_bp": -10_000},
        {"unit": "pages", "kind": "k2", "micro_cents": 0},
        {"unit": "tokens", "micro_cents": 333_331, "per": 1_000_000},
        {"unit": "bytes", "micro_cents": 1, "per": 1_000_000_000, "margin_bp": 1, "step_micro_cents": 7},
        {"unit": "attempts", "micro_cents": 11, "least_micro_cents": 21, "step_micro_cents": 10},
    ],
    "margin_bp": 3_000,
    "billed": {"k3": ["succeeded", "failed"], "*": ["succeeded"]},
}


def by_hand(lines: list[Line], start: date) -> Fraction:
    """What lines cost, in micro-cents, put down a second time without a whole number in sight."""
    total = Fraction(0)
    for one in lines:
        billed = ("succeeded", "failed") if one.kind == "k3" else ("succeeded",)
        if one.outcome not in billed or one.at.date() < start:
            continue
        for unit, amount in one.units.items():
            prices: list[dict[str, Any]] = [p for p in PRICES["prices"] if p["unit"] == unit]
            own = [p for p in prices if p.get("kind") == one.kind] or [p for p in prices if "kind" not in p]
            for price in own:
                margin = Fraction(price.get("margin_bp", 3_000), 10_000)
                each = Fraction(price["micro_cents"], price.get("per", 1))
                cost = Fraction(amount, MICRO) * each * (1 + margin)
                if step := price.get("step_micro_cents"):
                    cost = Fraction(math.ceil(cost / step) * step)
                total += max(cost, Fraction(price.get("least_micro_cents", 0)))
    return total


def rounded(cost: Fraction) -> int:
    """A cost as it is shown."""
    return (2 * cost.numerator + cost.denominator) // (2 * cost.denominator)


async def put_prices(api: Gateway, start: date, body: dict[str, Any]) -> Answer:
    return await api.call("PUT", f"/v1/prices/{start}", body, token=api.token("operator"))


async def test_sums_and_bills_equal_a_fold_of_the_ledger_however_they_are_put_together(api: Gateway) -> None:
    start = (TODAY - 4 * DAY).date()
    assert (await put_prices(api, start, PRICES)).status == 201
    await write(api, *many(200))
    since = (TODAY - 7 * DAY).date()
    period = f"tenant=*&from={since}&to={TODAY.date()}"
    await counted(api, 200, f"{period}&by=tenant")
    lines = await in_ledger(api)
    units: defaultdict[str, int] = defaultdict(int)
    for one in lines:
        for unit, amount in one.units.items():
            units[unit] += amount
    for by in (*BY, ALL.removeprefix("by=")):
        rows = (await summary(api, f"{period}&by={by}&limit=500")).json["usage"]
        cursor = (await summary(api, f"{period}&by={by}&limit=500")).json["cursor"]
        while cursor:
            page = (await summary(api, f"{period}&by={by}&limit=500&cursor={cursor}")).json
            rows, cursor = rows + page["usage"], page["cursor"]
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in rows:
            sums[row["unit"]] += Decimal(row["amount"])
        assert {unit: int(amount * MICRO) for unit, amount in sums.items()} == units, by
    bill = (await api.get(f"/v1/usage/bill?{period}", token=api.token("operator"))).json
    assert bill["total_micro_cents"] == rounded(by_hand(lines, start)) > 0
    # Days that had no prices get some, so that what was added up is no bill any more until it is again.
    assert (await put_prices(api, start - 2 * DAY, PRICES)).status == 201
    async with asyncio.timeout(DEADLINE_S):
        while (again := await api.get(f"/v1/usage/bill?{period}", token=api.token("operator"))).status != 200:
            assert again.status == 503, again
    assert again.json["total_micro_cents"] == rounded(by_hand(lines, start - 2 * DAY))
    assert again.json["total_micro_cents"] > bill["total_micro_cents"]
    whole = sum(row["cost_micro_cents"] for row in bill["usage"])
    assert abs(whole - bill["total_micro_cents"]) <= len(bill["usage"])


async def test_pages_and_filters_bring_each_row_once(api: Gateway) -> None:
    await write(api, *many(60))
    since = (TODAY - 8 * DAY).date()
    query = f"tenant=*&from={since}&{ALL}"
    await counted(api, 60, query + "&limit=500")
    whole = (await summary(api, query + "&limit=500")).json
    assert whole["cursor"] is None
    rows: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await summary(api, f"{query}&limit=7" + (f"&cursor={cursor}" if cursor else ""))).json
        rows, cursor = rows + page["usage"], page["cursor"]
    assert rows == whole["usage"]
    some = (await summary(api, f"{query}&limit=500&kind=k1&unit=pages&outcome=failed")).json["usage"]
    assert some == [
        row for row in rows if (row["kind"], row["unit"], row["outcome"]) == ("k1", "pages", "failed")
    ]


async def test_a_tenant_sees_its_own_a_key_its_own_and_an_operator_all(api: Gateway) -> None:
    made = await api.call(
        "POST", "/v1/keys", {"name": "k", "roles": ["submitter"]}, token=api.token("tenant-admin")
    )
    key, secret = made.json["id"], made.json["key"]
    await write(
        api, line(1, {"pages": 1}, tenant=api.tenant), line(2, {"pages": 2}, tenant=api.tenant, key=key),
        line(3, {"pages": 4}, tenant=api.stranger),
    )  # fmt: skip
    await counted(api, 3)
    by = "by=tenant&unit=pages"

    async def amounts(query: str, token: str) -> list[str]:
        return [row["amount"] for row in (await summary(api, query, token=token)).json["usage"]]

    assert await amounts(by, api.token("viewer")) == ["3"]
    assert await amounts(by, api.token("tenant-admin")) == ["3"]
    assert await amounts(by, secret) == ["2"]
    assert await amounts(f"{by}&key=0123456789abcdef", secret) == ["2"]
    assert await amounts(f"{by}&tenant=*", api.token("operator")) == ["3", "4"]
    for tenant in (api.stranger, "*"):
        refused = await api.get(f"/v1/usage/summary?tenant={tenant}", token=api.token("tenant-admin"))
        assert refused.status == 403
    assert (await api.get("/v1/prices", token=api.token("tenant-admin"))).status == 403
    assert (await api.get("/v1/disk", token=api.token("tenant-admin"))).status == 403


async def test_csv_holds_no_formula(api: Gateway) -> None:
    await write(api, line(1, {"=cmd|' /C calc'!A0": 1, '"x",\r\n@SUM': 2}, engine="+1", tenant=api.tenant))
    await counted(api, 1)
    query = "by=engine,kind,key"
    asked = [
        await summary(api, f"{query}&format=csv", token=api.token("viewer")),
        await summary(api, query, token=api.token("viewer"), Accept="text/csv"),
    ]
    assert asked[0].raw == asked[1].raw
    for other in ("text/csv;q=0, application/json", "text/csv ; Q=0.000", "application/json, text/csv"):
        answer = await summary(api, query, token=api.token("viewer"), Accept=other)
        assert answer.headers["Content-Type"].startswith("application/json"), other
    assert asked[0].headers["Content-Type"] == "text/csv; charset=utf-8"
    first, *rows = csv.reader(io.StringIO(asked[0].raw.decode(), newline=""))
    assert first == ["key", "kind", "engine", "unit", "amount", "attempts", "cost_micro_cents"]
    assert [(row[2], row[3], row[4]) for row in rows] == [
        ("'+1", '"x",\r\n@SUM', "2"), ("'+1", "'=cmd|' /C calc'!A0", "1"), ("'+1", "attempts", "1"),
        ("'+1", "run_s", "1"),
    ]  # fmt: skip


AMISS = (
    "from=2026-13-01", "from=x", "to=9999-12-31", "from=1969-12-31", "from=0001-01-01", "from=20260101",
    "from=2026-02-02&to=2026-02-01", "from=1970-01-01&to=2026-01-01", "by=x", "by=unit", "by=day;drop",
    "cursor=x", "cursor=WyJ4IiwieCJd", "cursor=WzM2ODkzNDg4MTQ3NDE5MTAzMjMyLCJ4Il0", "format=xml",
    "limit=0", f"unit={'x' * 301}", "&".join(["unit=x"] * 101),
)  # fmt: skip


async def test_what_is_asked_amiss_is_refused(api: Gateway) -> None:
    for query in AMISS:
        answer = await api.get(f"/v1/usage/summary?{query}", token=api.token("viewer"))
        assert answer.status in (400, 422), (query, answer)
        assert answer.json["field"], query


async def test_a_tenant_that_names_ever_new_units_has_some_rows_and_an_other(api: Gateway) -> None:
    flood = [line(n, {f"u{n}-{unit}": 1 for unit in range(100)}, tenant=api.tenant) for n in range(1, 11)]
    await write(api, *flood)
    await counted(api, 10, f"by=tenant&tenant={api.tenant}&limit=500")
    answer = await summary(api, f"by=tenant&tenant={api.tenant}&format=csv")
    sums = {row[1]: Decimal(row[2]) for row in list(csv.reader(io.StringIO(answer.raw.decode())))[1:]}
    assert len(sums) == 501
    assert sums["attempts"] == 10
    assert sum(amount for unit, amount in sums.items() if unit.startswith(("u", "("))) == 1000


# --- Prices


async def test_prices_in_force_stay_and_later_ones_may_change(api: Gateway) -> None:
    today = TODAY.date()
    tomorrow = today + DAY
    one = {"prices": [{"unit": "pages", "micro_cents": 1}]}
    assert (await put_prices(api, today - 3 * DAY, one)).status == 201
    for start in (today - 3 * DAY, today - DAY, today):
        refused = await put_prices(api, start, {"prices": []})
        assert (refused.status, refused.json["code"]) == (409, "price_in_force")
    assert (await put_prices(api, tomorrow, one)).status == 201
    assert (await put_prices(api, tomorrow, {"prices": []})).status == 200
    token = api.token("operator")
    assert (await api.call("DELETE", f"/v1/prices/{today - 3 * DAY}", token=token)).status == 409
    assert (await api.call("DELETE", f"/v1/prices/{tomorrow}", token=token)).status == 204
    assert (await api.call("DELETE", f"/v1/prices/{tomorrow}", token=token)).status == 404
    listed = (await api.get("/v1/prices", token=token)).json["prices"]
    assert [(one["start"], one["in_force"]) for one in listed] == [(str(today - 3 * DAY), True)]
    before = today - 9 * DAY  # these days have had no prices
    assert (await put_prices(api, before, one)).status == 201


ODD = (
    {"prices": [{"unit": "pages", "micro_cents": -1}]},
    {"prices": [{"unit": "pages", "micro_cents": 1.5}]},
    {"prices": [{"unit": "pages", "micro_cents": 10**16}]},
    {"prices": [{"unit": "", "micro_cents": 1}]},
    {"prices": [{"unit": "pages", "micro_cents": 1, "per": 3}]},
    {"prices": [{"unit": "pages", "micro_cents": 1, "kind": "No Name"}]},
    {"prices": [{"unit": "pages", "micro_cents": 1}, {"unit": "pages", "micro_cents": 2}]},
    {"margin_bp": -10_001},
    {"margin_bp": 10**9},
    {"billed": {"*": ["Succeeded!"]}},
    {"billed": {"k3": ["succeeded", "succeded"]}},
    {"prices": [{"unit": f"u{n}", "micro_cents": 1} for n in range(1001)]},
)


async def test_odd_prices_are_refused(api: Gateway) -> None:
    for body in ODD:
        answer = await put_prices(api, date(9000, 1, 1), body)
        assert (answer.status, bool(answer.json["field"])) == (422, True), answer
    for start in ("2026-1-1", "x", "2026-02-30", "20260101", "2026-W01-1"):
        answer = await api.call("PUT", f"/v1/prices/{start}", {}, token=api.token("operator"))
        assert answer.status == 422, answer


def test_no_margin_makes_a_bill_of_less_than_nothing_and_halves_are_rounded_up() -> None:
    free = PriceVersion(margin_bp=-10_000)
    assert PriceBook({date(1970, 1, 1): free}).cost(0, "k", "pages", "succeeded", 10**18) == 0
    assert [micro_cents(cost * PARTS // 10) for cost in (0, 4, 5, 14, 15)] == [0, 0, 1, 1, 2]
