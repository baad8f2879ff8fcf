"""What was used, on the command line and with the client, and what takes how much of the disk."""

from __future__ import annotations

import asyncio
import json

import pytest

from switchyard.client import AsyncClient, Client
from tests.cli.site import Site

pytestmark = pytest.mark.system
DEADLINE_S = 60.0


async def test_what_a_job_used_is_shown_added_up_and_billed(site: Site) -> None:
    connection = site.connection
    async with AsyncClient(connection["url"], connection["token"]) as client:
        job = await client.submit("simulate", {"duration_s": 0.1})
        await client.wait(job.id)
        async with asyncio.timeout(DEADLINE_S):
            while not await client.usage.summary(by=["kind"], unit=["attempts"]):
                pass
        bill = await client.usage.bill()
        assert (bill.usage, bill.total_micro_cents) == ([], 0)
    with Client(connection["url"], connection["token"]) as client:
        row = client.usage.summary(["kind", "outcome"], unit=["attempts"])[0]
    assert (row.kind, row.outcome, row.unit, row.amount) == ("simulate", "succeeded", "attempts", "1")
    shown = site.json("usage", "--by", "kind", "--unit", "attempts")
    assert [(one["kind"], one["amount"]) for one in shown["usage"]] == [("simulate", "1")]
    assert "attempts" in site.run("usage", "--by", "day,kind").stdout
    table = site.run("usage", "--by", "kind", "--unit", "attempts", "--csv").stdout
    assert table == "kind,unit,amount,attempts,cost_micro_cents\nsimulate,attempts,1,1,0\n"
    assert "total: 0 micro-cents" in site.run("usage", "--bill", "--from", "2026-01-01").stdout
    assert "jobs" in site.run("usage").stdout
    for wrong in (("--bill", "--by", "day"), ("--kind", "x"), ("--by", "day", "--csv", "--json")):
        assert site.run("usage", *wrong).returncode == 2
    assert site.run("usage", "--by", "x").returncode != 0
    assert "JOBS" in site.run("disk").stdout
    disk = json.loads(site.run("disk", "--json").stdout)
    assert {one["kind"] for one in disk["kinds"]} == {"simulate"}
