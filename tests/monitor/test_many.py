"""A hundred thousand jobs and a thousand workers: the page stays small and quick to use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from playwright.async_api import Browser, expect

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab

log = structlog.get_logger()
pytestmark = [NEEDS_BROWSER, pytest.mark.drill, pytest.mark.timeout(1800)]

JOBS = 100_000
WORKERS = 1000
AT_ONCE = 5000
MOST_ROWS = 120
"""Rows that stand in the page at most, however long the list."""
SCROLLS = 60
PAGE = 100


@pytest.fixture
async def full(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with that many."""
    most = WORKERS + 10
    async with gateway(shared_broker.url, tmp_path, workers=most, tenant_jobs=JOBS + 1000) as api:
        for start in range(0, JOBS, AT_ONCE):
            numbers = range(start, start + AT_ONCE)
            await api.bulk(*({"kind": "many", "labels": {"n": str(n % 10)}} for n in numbers))
        token = api.token("worker")

        async def come(number: int) -> None:
            ask = {"worker": f"w{number:04}", "kinds": ["none"], "slots": 4}
            assert (await api.call("POST", "/v1/leases", ask, token=token)).status == 204

        for start in range(0, WORKERS, 50):
            await asyncio.gather(*map(come, range(start, start + 50)))
        yield api


async def painted(page: Watched, view: str, shows: str) -> tuple[float, float]:
    """Seconds from the request to the first paint, and to what the view is for."""
    await page.page.goto("about:blank")
    await page.page.goto(f"{page.url}/#/{view}", wait_until="commit")
    await page.page.locator(shows).first.wait_for()
    shown: float = await page.page.evaluate("performance.now() / 1000")
    first: float = await page.page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
    )
    return first, shown


async def test_long_lists_take_no_more_than_what_is_seen(browser: Browser, full: Gateway) -> None:
    async with tab(browser, full.url) as page:
        first, whole = await painted(page, "", "#token")  # with nothing in the browser's cache
        log.info("view_painted", view="sign-in", first_s=round(first, 2), whole_s=round(whole, 2))
        await page.sign_in(full.token("submitter"), "workers")
        await expect(page.page.get_by_role("status").filter(has_text=f"{WORKERS:,} workers")).to_be_visible()
        assert await page.page.get_by_role("row").count() <= MOST_ROWS
        await page.go("jobs")
        rows = page.page.get_by_role("row")
        await expect(rows.nth(5)).to_be_visible()
        count = page.page.locator(".head [role=status]")
        for _ in range(SCROLLS):  # each brings another page of jobs
            before = await count.inner_text()
            await page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
            await expect(count).not_to_have_text(before)
        await expect(count).to_contain_text("jobs so far")
        assert int((await count.inner_text()).split()[0].replace(",", "")) >= SCROLLS * PAGE
        assert await rows.count() <= MOST_ROWS
        for view, shows in (("", ".lanes td"), ("jobs", ".job-row .what"), ("workers", ".worker-row .what")):
            first, shown = await painted(page, view, shows)
            log.info(
                "view_painted", view=view or "overview", first_s=round(first, 2), whole_s=round(shown, 2)
            )
        page.check()
