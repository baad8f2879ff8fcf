"""What the door says that documents cost is what the ledger and the price book come to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from switchyard.events.ledger.line import MICRO, Line
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.ilios.client import Ilios
from tests.gateway.ilios.site import KEYS
from tests.gateway.ilios.test_batches import DEADLINE_S, batch_house, ended, submitted
from tests.ledger.books import in_ledger

CENT = 1_000_000
OF_AN_ILIOS = {
    "prices": [
        {"unit": "pages", "micro_cents": CENT, "least_micro_cents": 2 * CENT, "step_micro_cents": CENT}
    ],
    "margin_bp": 3_000,
}


async def counted(client: Ilios, documents: int) -> dict[str, Any]:
    """What was used, once so many documents are in it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found: dict[str, Any] = (await client.get("/api/usage/summary")).json["summary"]
            if found["totalOperations"] >= documents:
                return found
            await asyncio.sleep(0.05)


def pages_of(lines: Iterable[Line]) -> int:
    """The pages that are billed."""
    amounts = [line.units.get("pages", 0) for line in lines if line.outcome == "succeeded"]
    assert sum(amounts) % MICRO == 0
    return sum(amounts) // MICRO


async def test_bills_are_the_ledger_at_the_prices_of_an_ilios(broker: NatsServer, tmp_path: Path) -> None:
    async with batch_house(broker, tmp_path) as here:
        operator = here.api.token("operator")
        today = datetime.now(UTC).date()
        put = await here.api.call("PUT", f"/v1/prices/{today}", OF_AN_ILIOS, token=operator)
        assert put.status == 201, put
        first, second = here.client(KEYS[0]), here.client(KEYS[1])
        assert (await first.convert("a.pdf", b"1\f2\f3")).status == 200
        assert (await first.convert("a.pdf", b"1\f2\f3")).headers["X-Stored-Result"] == "true"  # free
        assert (await first.convert("b.pdf", b"broken")).status == 500  # free
        later = (await first.submit("c.pdf", b"1\f2")).json["id"]
        await first.ended(later)
        batch = (await submitted(second, [b"1", b"broken", b"1\f2\f3\f4\f5\f6\f7"])).json["batchId"]
        await ended(second, batch)
        bills = {0: await counted(first, 2), 1: await counted(second, 2)}
        shares = [(await client.get("/api/usage/breakdown")).json["breakdown"] for client in (first, second)]
        assert [[(one["operation"], one["count"], one["totalCostCents"]) for one in of] for of in shares] == [
            [("convert", 1, 3), ("convert-immediate", 1, 4)], [("batch", 2, 2 + 10)],
        ]  # fmt: skip
        lines = [line for line in await in_ledger(here.api) if line.tenant == here.api.tenant]
        keys = {line.key: [one for one in lines if one.key == line.key] for line in lines}
        assert sorted(map(pages_of, keys.values())) == [5, 8]
        for which, pages, cents in ((0, 5, 7), (1, 8, 12)):  # each document is rounded up, as there
            bill = bills[which]
            assert (bill["totalDocuments"], bill["totalPages"]) == (2, pages)
            assert (bill["totalCostMicroCents"], bill["totalCostCents"]) == (cents * CENT, cents)
            assert bill["totalCostUSD"] == f"0.{bill['totalCostCents']:02}"
        # The operator's bill of the tenant says the same.
        asked = f"/v1/usage/bill?tenant={here.api.tenant}&from={today}&to={today}"
        whole = await here.api.get(asked, token=operator)
        assert whole.status == 200, whole
        assert whole.json["total_micro_cents"] == 19 * CENT, whole.json
