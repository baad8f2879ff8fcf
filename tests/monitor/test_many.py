"""Lists longer than a page: what comes and goes is seen, and the page stays small and quick to use."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from playwright.async_api import Browser, expect

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab
from tests.monitor.work import lived

log = structlog.get_logger()
pytestmark = NEEDS_BROWSER

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


@pytest.mark.drill
@pytest.mark.timeout(1800)
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


async def dead(api: Gateway, count: int) -> list[str]:
    """Jobs that will not be tried again, the newest last."""
    jobs = [await lived(api, "dies", datetime.now(UTC), 0, 0, dies=True) for _ in range(count)]
    return [job.id for job in jobs]


async def shows(page: Watched, ids: list[str]) -> None:
    """Wait until these rows stand in a table, in this order, and no others."""
    shown = "[...document.querySelectorAll('tbody a')].map((one) => one.title)"
    await page.page.wait_for_function(f"ids => String(ids) === String({shown})", arg=ids)


@pytest.mark.shared_gateway
async def test_rows_that_come_and_go_hide_none_of_those_beyond_the_first_page(
    page: Watched, api: Gateway
) -> None:
    jobs = (await dead(api, PAGE + 20))[::-1]
    await page.sign_in(api.token("submitter"), "dead-letters")
    await shows(page, jobs[:PAGE])
    await page.page.get_by_role("button", name="Show more").click()
    await shows(page, jobs)
    jobs = [*(await dead(api, 10))[::-1], *jobs]  # ten of the first page are on the second now
    await shows(page, jobs)
    gone = [jobs[2], jobs[-2]]  # one of each page
    for job in gone:
        assert (await api.call("POST", f"/v1/jobs/{job}/redrive", {})).status == 200
    await shows(page, [job for job in jobs if job not in gone])
    page.check()


@pytest.mark.shared_gateway
async def test_a_list_of_jobs_stays_where_it_is_read_and_begins_again_at_the_top(
    page: Watched, api: Gateway
) -> None:
    made = [line["id"] for line in await api.bulk(*({"kind": "many"} for _ in range(PAGE + 50)))]
    await page.sign_in(api.token("submitter"), "jobs")
    count, rows = page.page.locator(".head [role=status]"), page.page.locator(".job-row.item")
    await expect(count).to_have_text(f"{PAGE} jobs so far")
    await rows.filter(has_text=made[-1][-8:]).get_by_role("checkbox").check()
    await page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await expect(count).to_have_text(f"{PAGE + 50} jobs")
    await page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    oldest = rows.filter(has_text=made[0][-8:])
    await expect(oldest).to_be_visible()
    await oldest.get_by_role("checkbox").check()
    new = page.page.get_by_role("button", name=re.compile("Show .* new job"))
    for number in range(1, 4):
        made.append((await api.submit(kind="many"))["id"])
        await expect(new).to_have_text(f"Show {plural(number)}")  # each counts once, however often it is read
        await expect(oldest).to_be_visible()
    made += [line["id"] for line in await api.bulk(*({"kind": "many"} for _ in range(PAGE + 30)))]
    await expect(new).to_have_text(f"Show {PAGE} or more new jobs")
    await expect(oldest).to_be_visible()  # though none of the first page is known
    await expect(count).to_have_text(f"{PAGE + 50} jobs")
    await new.click()
    await expect(rows.filter(has_text=made[-1][-8:])).to_be_visible()
    await expect(count).to_have_text(f"{PAGE} jobs so far")
    chosen = page.page.get_by_role("region", name="Chosen jobs")  # of which neither is in the list now
    await chosen.get_by_role("button", name="Cancel 2").click()
    await page.page.get_by_role("dialog").get_by_role("button", name="Cancel 2 jobs").click()
    for job in (made[0], made[PAGE + 49]):
        await expect(page.page.get_by_text("2 jobs cancelled")).to_be_visible()
        assert (await api.get(f"/v1/jobs/{job}")).json["state"] == "cancelled"
    page.check()


def plural(count: int) -> str:
    """So many new jobs, as the page says it."""
    return f"{count} new job{'' if count == 1 else 's'}"
