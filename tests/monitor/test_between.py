"""What happens between two of the readings of a page."""

from __future__ import annotations

import re

from playwright.async_api import Route, expect

from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched
from tests.monitor.work import Hand

pytestmark = NEEDS_BROWSER


async def test_an_event_between_the_job_and_its_events_is_shown(page: Watched, api: Gateway) -> None:
    job = await api.submit(kind=f"b-{api.tenant}")

    async def begins(route: Route) -> None:
        await Hand.claim(api, f"b-{api.tenant}")
        await route.continue_()

    await page.page.route(re.compile(f"/v1/jobs/{job['id']}/events"), begins, times=1)
    await page.sign_in(api.token("submitter"), f"jobs/{job['id']}")
    await expect(page.page.locator(".now-line")).to_contain_text("Running")
    page.check()


async def test_a_job_that_could_not_be_read_after_its_last_event_is_read_again(
    page: Watched, api: Gateway
) -> None:
    job = await api.submit(kind=f"b-{api.tenant}")
    await page.sign_in(api.token("submitter"), f"jobs/{job['id']}")
    hand = await Hand.claim(api, f"b-{api.tenant}")
    line = page.page.locator(".now-line")
    await expect(line).to_contain_text("Running")
    refused: list[int] = []

    async def refuses(route: Route) -> None:
        refused.append(503)
        await route.fulfill(status=503, json={"code": "unavailable"})

    await page.page.route(re.compile(f"/v1/jobs/{job['id']}([?]|$)"), refuses, times=1)
    await hand.call("succeed", {"result": 1})
    await expect(line).to_contain_text("Succeeded")
    assert refused == [503]


async def test_an_event_between_the_list_and_its_rows_is_shown(page: Watched, api: Gateway) -> None:
    await api.submit(kind=f"b-{api.tenant}")
    await api.caught_up()
    readings: list[int] = []

    async def reads(route: Route) -> None:
        readings.append(1)
        if len(readings) > 1:  # nothing but the events of the row may say it
            await route.fulfill(status=503, json={"code": "unavailable"})
            return
        answer = await route.fetch()
        await Hand.claim(api, f"b-{api.tenant}")
        await api.caught_up()
        await route.fulfill(response=answer)

    await page.page.route(re.compile("/v1/jobs[?]"), reads)
    await page.sign_in(api.token("submitter"), "jobs")
    await expect(page.page.locator(".job-row.item .is")).to_contain_text("Running")
