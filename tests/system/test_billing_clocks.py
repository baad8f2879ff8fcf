"""Hosts whose clocks are off by hours and days: nothing is archived early, and all counts on its own day."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.services import clock
from switchyard.services.intake.budgets import end_of
from tests.ledger.books import settled
from tests.system.shifted import ShiftedDeployment
from tests.system.test_clocks import Log
from tests.worker.site import Site, open_site

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

HOUR_S = 3600.0
DAY_S = 86400.0
KEEP_S = 900.0
WAIT_S = 120.0
ROUNDS = (
    {"keeper": HOUR_S, "gateway": -2 * DAY_S, "projector": HOUR_S, "worker0": -HOUR_S},
    {"keeper": -2 * DAY_S, "gateway": 2 * DAY_S, "projector": -HOUR_S, "worker0": HOUR_S},
)


async def got(site: ShiftedDeployment, path: str, **params: str) -> Any:
    """What is answered, once it is 200."""
    async with asyncio.timeout(WAIT_S):
        while True:
            status, body = await site.request("GET", path, params=params)
            if status == 200:
                return body
            assert status in (404, 503), body


async def until_state(site: ShiftedDeployment, job: str, state: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await got(site, f"/v1/jobs/{job}"))["state"] != state:
            await asyncio.sleep(0.1)


async def check_round(site: ShiftedDeployment, log: Site, events: Log, round_: int) -> None:
    """Have a job kept for a quarter of an hour, and another one for a second."""
    kept, brief = await site.submit(payload={"duration_s": 0.01}), await site.submit(kind="brief")
    await events.ended([kept])
    assert (await site.request("POST", f"/v1/jobs/{brief}/cancel"))[0] == 200
    await until_state(site, brief, "archived")
    assert (await got(site, f"/v1/jobs/{kept}"))["state"] == "succeeded"
    ended_at = await events.when(kept, "succeeded")
    lines = {line.job: line for line in await settled(log, round_ + 1)}
    line = lines[kept]
    assert (line.started_at, line.ended_at, line.at) == (
        await events.when(kept, "leased"),
        ended_at,
        ended_at,
    )
    assert line.units["run_s"] < WAIT_S * 10**6
    day = str(ended_at.date())
    async with asyncio.timeout(WAIT_S):
        while True:
            params = {"from": day, "to": day, "unit": "attempts", "by": "day"}
            rows = (await got(site, "/v1/usage/summary", **params))["usage"]
            if rows and int(rows[0]["amount"]) == sum(str(one.at.date()) == day for one in lines.values()):
                break
    at_end = await got(site, f"/v1/jobs/{kept}", at=ended_at.isoformat())
    before = await site.request(
        "GET", f"/v1/jobs/{kept}", params={"at": (ended_at - timedelta(1)).isoformat()}
    )
    assert (at_end["state"], before[0]) == ("succeeded", 404)


async def check_days(site: ShiftedDeployment) -> None:
    """What begins and ends with days does so with those of the broker."""
    for ahead, in_force in ((0, True), (1, False)):
        start = clock.now().date() + timedelta(ahead)
        _, made = await site.request("PUT", f"/v1/prices/{start}", json={"note": "n"})
        if clock.now().date() + timedelta(ahead) == start:  # it is not midnight just now
            assert made.get("in_force", made.get("code") == "price_in_force") is in_force, made
    quota = {"unit": "attempts", "period": "day", "most": 10**6}
    _, made = await site.request("PUT", "/v1/quotas/all", json={"quotas": [quota]})
    now = clock.now()
    assert made["quotas"][0]["ends_at"] in {
        end_of("day", time).strftime("%Y-%m-%dT%H:%M:%SZ") for time in (now, now - timedelta(minutes=1))
    }


@pytest.mark.drill
async def test_clocks_that_are_off_archive_nothing_early_and_move_nothing_to_another_day(
    tmp_path: Path,
) -> None:
    site = ShiftedDeployment(tmp_path, lease_s=3.0)
    site.settings["SWITCHYARD_KEEP_S"] = str(KEEP_S)
    async with site, open_site(site.broker.url) as log:
        for name, shift_s in ROUNDS[0].items():
            site.shift(name, shift_s)
        await site.start_all(workers=1)
        assert (await site.request("PUT", "/v1/kinds/brief", json={"keep_s": 1}))[0] in (200, 201)
        for round_, shifts in enumerate(ROUNDS):
            for name, shift_s in shifts.items():
                site.shift(name, shift_s)
            await check_round(site, log, Log(log.nc), round_)
            await check_days(site)
