"""What the overview draws is a fold of the log, minute by minute."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from tests.gateway.rest import Gateway
from tests.monitor.browser import NEEDS_BROWSER, Watched
from tests.monitor.work import lived

pytestmark = [NEEDS_BROWSER, pytest.mark.shared_gateway]

MINUTE = "%-d %b %Y, %H:%M:00"
"""A minute, as the browser writes it."""
STEPS = 17 / 16
"""How far a percentile may be over what it stands for."""


async def folded(api: Gateway, jobs: list[Job]) -> tuple[dict[str, Counter[str]], dict[str, list[float]]]:
    """What came and ended by minute, and how long each waited and ran, from the events of each alone."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("Submitted", "Succeeded", "Failed")}
    times: dict[str, list[float]] = {"wait": [], "run": []}
    for job in jobs:
        submitted: datetime | None = None
        begun: datetime | None = None
        for entry in await api.store.history(JobId(job.id)):
            at = entry.event.at
            assert at is not None
            if entry.name == "submitted":
                submitted = at
                counts["Submitted"][at.strftime(MINUTE)] += 1
            elif entry.name == "leased":
                assert submitted is not None
                begun = at
                times["wait"].append((at - submitted).total_seconds())
            elif entry.name in ("succeeded", "dead"):
                assert begun is not None
                counts["Succeeded" if entry.name == "succeeded" else "Failed"][at.strftime(MINUTE)] += 1
                times["run"].append((at - begun).total_seconds())
    return counts, times


def seconds(words: str) -> float:
    """A span of the page."""
    sizes = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
    return sum(float(number) * sizes[unit] for number, unit in re.findall(r"([\d.]+) (ms|s|min|h)\b", words))


async def test_the_figures_of_the_charts_equal_a_fold_of_the_log(page: Watched, api: Gateway) -> None:
    start = datetime.now(UTC).replace(second=5, microsecond=0) - timedelta(minutes=30)
    jobs = [
        await lived(
            api, "drawn", start + timedelta(minutes=(number * 7) % 23, seconds=number % 40),
            0.5 + number % 9, 2.0 + number % 31, dies=number % 5 == 0,
        )
        for number in range(40)
    ]  # fmt: skip
    last = (await api.store.history(JobId(jobs[-1].id)))[-1].seq
    await api.get("/v1/jobs", Switchyard_Min_Seq=str(last))
    counts, times = await folded(api, jobs)
    await page.sign_in(api.token("viewer"))
    figure = page.page.get_by_role("figure").filter(has_text="Jobs per minute")
    await figure.get_by_text("As a table").click()
    rows = figure.locator("tbody tr")
    await expect(rows).to_have_count(40)
    shown: dict[str, Counter[str]] = {name: Counter() for name in counts}
    names = await figure.locator("thead th").all_inner_texts()
    assert names == ["From", *counts]
    for row in await rows.all():
        minute, *cells = await row.locator("th, td").all_inner_texts()
        for name, cell in zip(counts, cells, strict=True):
            shown[name][minute] += int(cell)
    assert {name: +found for name, found in shown.items()} == counts
    figures = dict(zip(
        await page.page.locator(".figure dt").all_inner_texts(),
        await page.page.locator(".figure dd").all_inner_texts(), strict=True,
    ))  # fmt: skip
    ended = {name: int(figures[name].split()[0]) for name in ("Succeeded", "Failed")}
    assert ended == {name: counts[name].total() for name in ended}
    for name, found in (("Wait, p95", times["wait"]), ("Run, p95", times["run"])):
        found.sort()
        exact = found[-(-95 * len(found) // 100) - 1]
        assert exact <= seconds(figures[name].split("\n")[0]) + 0.05, name
        assert seconds(figures[name].split("\n")[0]) <= exact * STEPS + 0.5, name
    page.check()
