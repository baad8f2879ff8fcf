"""A gateway is killed while the page is open: what happens meanwhile is shown afterwards, once."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import nats
import pytest
import structlog
from nats.aio.client import Client
from playwright.async_api import Browser, expect

from switchyard.events import subjects
from tests.monitor.browser import NEEDS_BROWSER, Watched, tab
from tests.monitor.pages import Pages
from tests.ports import free_port
from tests.system.deployment import Deployment
from tests.system.log_check import read_log

log = structlog.get_logger()
pytestmark = [NEEDS_BROWSER, pytest.mark.system]


async def claimed(site: Deployment, worker: str) -> tuple[str, dict[str, str]]:
    """The path of a lease, and the headers of what is called there."""
    ask = {"worker": worker, "kinds": ["held"], "wait_s": 20, "tenant": "acme"}
    status, found = await site.request("POST", "/v1/leases", json=ask)
    assert status == 201, found
    lease = found["lease"]
    return f"/v1/leases/{lease['id']}", {"Switchyard-Lease-Token": lease["token"]}


async def report(site: Deployment, path: str, headers: dict[str, str], body: Any) -> None:
    """Something that a worker reports."""
    status, found = await site.request("POST", path, json=body, headers=headers)
    assert status == 200, found


async def test_no_transition_is_missing_or_doubled_when_the_gateway_is_killed(
    tmp_path: Path, browser: Browser
) -> None:
    async with Deployment(tmp_path) as site:
        await site.start("projector", "projector")
        await site.start("keeper", "keeper")
        port = free_port()
        await site.start_gateway("gateway", port)
        address = site.url
        job = await site.submit(kind="held", retry={"base_s": 0.1, "max_s": 0.1})
        async with tab(browser, address) as page:
            await page.sign_in(site.token, f"jobs/{job}")
            line = page.page.locator(".now-line")
            path, lease = await claimed(site, "first")
            await expect(line).to_contain_text("Running")
            await site.start_gateway("other")
            await site.parts["gateway"].kill()
            await page.connection("Reconnecting")
            await report(site, f"{path}/fail", lease, {"error": {"code": "x", "retryable": True}})
            path, lease = await claimed(site, "second")
            await site.start_gateway("gateway", port)
            await page.connection("Live")
            await expect(line).to_contain_text("attempt 2")
            await report(site, f"{path}/succeed", lease, {"result": {}})
            await expect(line).to_contain_text("Succeeded")
            await page.page.locator(".events > summary").click()
            shown = await page.sequences()
            _, found = await site.request("GET", f"/v1/jobs/{job}/events")
            assert shown == [event["seq"] for event in found["events"]]
            assert [event["type"] for event in found["events"]].count("claimed") == 2
            assert page.strangers == []


class Size(NamedTuple):
    """How much of it.

    Args:
        kills: how often the gateway is killed and started again.
        browsers: pages in Chromium.
        others: pages without a browser.
        jobs: that fail and begin again all the time.
    """

    kills: int
    browsers: int
    others: int
    jobs: int


FULL: Final = Size(kills=20, browsers=14, others=186, jobs=40)
PAUSE_S: Final = 3.0
"""Between two attempts of a job."""
FOLLOW: Final = 3
"""Jobs that a page without a browser follows, where it does not follow all."""
QUIET_S: Final = 120.0
KEEP: Final = """async () => {
    const { src } = document.querySelector("script[type=module]");
    const live = await import(new URL("live.mjs", src));
    window.kept = { seqs: [], resyncs: 0 };
    live.subscribe({ all: true }, {
        event: (event) => window.kept.seqs.push(event.seq), resync: () => { window.kept.resyncs += 1; },
    });
}"""
"""Has a page note what its live connection brings it, of which a list shows the newest alone."""


ROWS_ARE: Final = """wanted => {
    const rows = [...document.querySelectorAll(".job-row.item")];
    const found = rows.map((row) => [row.querySelector("a").title, row.dataset.state]);
    return found.length > 1 && found.every(([id, state]) => wanted[id] === state);
}"""
"""Whether each row that is seen of a list has this state."""


async def last_seq(nc: Client) -> int:
    """The sequence of the last event."""
    found = await nc.jetstream().stream_info(subjects.JOBS)
    return found.state.last_seq


async def grown(nc: Client, by: int) -> None:
    """Wait until so many events more are in the log."""
    until = await last_seq(nc) + by
    while await last_seq(nc) < until:
        await asyncio.sleep(0.05)


class Open(NamedTuple):
    """Pages of both sorts, and what each is about.

    Args:
        shown: pages of one job, with its id.
        lists: pages of all jobs.
        others: without a browser.
        wishes: what each of those follows.
    """

    shown: list[tuple[Watched, str]]
    lists: list[Watched]
    others: Pages
    wishes: list[dict[str, Any]]

    async def live(self) -> int:
        """How many are connected."""
        pages = [*(page for page, _ in self.shown), *self.lists]
        words = await asyncio.gather(*(page.page.locator(".connection").inner_text() for page in pages))
        return words.count("Live") + await self.others.live()

    async def until_live(self, count: int) -> None:
        """Wait until so many are."""
        while await self.live() < count:
            await asyncio.sleep(0.1)


async def opened(
    stack: AsyncExitStack, site: Deployment, browser: Browser, jobs: list[str], size: Size
) -> Open:
    """Open them all; every seventh page in a browser is a list, every tenth other one follows all jobs."""
    shown, lists = [], []
    for number in range(size.browsers):
        page = await stack.enter_async_context(tab(browser, site.url))
        if number % 7 == 1:
            await page.sign_in(site.token, "jobs")
            await page.page.evaluate(KEEP)
            lists.append(page)
        else:
            await page.sign_in(site.token, f"jobs/{jobs[number % len(jobs)]}")
            shown.append((page, jobs[number % len(jobs)]))
    wishes: list[dict[str, Any]] = []
    for number in range(size.others):
        some = [jobs[(number * FOLLOW + place) % len(jobs)] for place in range(FOLLOW)]
        wish = {"all": True} if number % 10 == 0 else {"jobs": some}
        wishes.append({"wish": wish, "seq": 1 + number})  # as one who has read that far
    others = await stack.enter_async_context(Pages(site.url, site.token, wishes))
    return Open(shown, lists, others, wishes)


async def check(found: Open, nc: Client) -> int:
    """Compare with the log what each page has got and shows; how many transitions that is."""
    events = await read_log(nc)
    of: defaultdict[str, list[int]] = defaultdict(list)
    last_of: dict[str, str] = {}  # the names of these are those of the states
    for event in events:
        of[event.job_id].append(event.seq)
        last_of[event.job_id] = event.name
    last, count = events[-1].seq, 0
    wanted = [
        [one.seq for one in events if one.seq > wish["seq"] and one.job_id in wish["wish"].get("jobs", of)]
        for wish in found.wishes
    ]
    async with asyncio.timeout(QUIET_S):
        heard = await found.others.heard()
        while [one["seqs"] for one in heard] != wanted:
            # What is too much or in another order never comes right: the rest may still be under way.
            for one, want in zip(heard, wanted, strict=True):
                assert one["seqs"] == want[: len(one["seqs"])]
            await asyncio.sleep(0.2)
            heard = await found.others.heard()
    assert [one["resyncs"] for one in heard] == [[]] * len(heard)
    count += sum(map(len, wanted))
    for page, job in found.shown:
        await expect(page.page.locator(".events > summary")).to_have_text(f"{len(of[job]):,} events")
        await page.page.locator(".events > summary").click()
        if len(of[job]) > len(await page.sequences()):
            await page.page.get_by_role("button", name="Show all").click()
        assert await page.sequences() == of[job]
        count += len(of[job])
    for page in found.lists:
        await page.page.wait_for_function("last => window.kept.seqs.at(-1) === last", arg=last)
        kept = await page.page.evaluate("window.kept")
        assert kept == {"seqs": [one.seq for one in events if one.seq >= kept["seqs"][0]], "resyncs": 0}
        await page.page.wait_for_function(ROWS_ARE, arg={job: last_of[job] for job in of})
        count += len(kept["seqs"])
    for page in [*(page for page, _ in found.shown), *found.lists]:
        assert page.strangers == []
    return count


@pytest.mark.drill
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("size", [FULL])
async def test_many_pages_miss_and_double_nothing_while_the_gateway_is_killed_again_and_again(
    tmp_path: Path, browser: Browser, size: Size
) -> None:
    """200 pages: 14 in Chromium, and 186 that are the page's own live module in Node.js, a copy for each.

    Those of a job show its whole history; those of all jobs note what their live connection brings. Kills
    come when by chance some or all pages are connected again, so some fall into the replay of what was
    missed.
    """
    chance = random.Random(20)
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Deployment(tmp_path))
        nc = await nats.connect(site.broker.url)
        stack.push_async_callback(nc.close)
        await site.start("projector", "projector")
        await site.start("keeper", "keeper")
        port = free_port()
        await site.start_gateway("gateway", port)
        await site.start_worker("worker", slots=size.jobs)
        again = {"base_s": PAUSE_S, "max_s": PAUSE_S}
        work = {"duration_s": 0.1, "steps": 1, "fail": "retryable", "fail_attempts": 100}
        jobs = [await site.submit(payload=work, retry=again, max_attempts=100) for _ in range(size.jobs)]
        await grown(nc, size.jobs)
        found = await opened(stack, site, browser, jobs, size)
        every = size.browsers + size.others
        await found.until_live(every)
        for kill in range(size.kills):
            await site.parts["gateway"].kill()
            before = await last_seq(nc)
            await grown(nc, chance.randrange(1, size.jobs))
            await site.start_gateway("gateway", port)
            await found.until_live(chance.choice((1, every // 10, every // 2, every, every)))
            log.info("gateway_killed", kill=kill + 1, events=await last_seq(nc) - before)
        await found.until_live(every)
        for job in jobs:
            assert (await site.request("POST", f"/v1/jobs/{job}/cancel", json={}))[0] in (200, 202, 409)
        async with asyncio.timeout(QUIET_S):
            while (await site.request("GET", "/v1/jobs?state=active,waiting"))[1]["jobs"]:
                await asyncio.sleep(0.2)
        count = await check(found, nc)
        log.info("transitions_seen", pages=every, kills=size.kills, events=await last_seq(nc), seen=count)
