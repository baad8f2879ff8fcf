"""Each attempt that has ended stands in the ledger once, whatever happens to whoever writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.commands import Accept, Archive, Propose, Reject
from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.events.ledger.line import (
    ATTEMPTS,
    MICRO,
    RUN,
    Line,
    amounts_of,
    encode,
    lines_of,
    page,
    shown,
)
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.ledger.book import Book
from switchyard.services.ledger.writer import LedgerWriter
from tests.ledger.books import in_ledger, of_log, settled, totals
from tests.worker.site import Site, open_site

PAGES = {"pages": 3, "tokens": 1.5}


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path) as site:
        yield site


def now() -> datetime:
    return datetime.now(UTC)


async def done(site: Site, usage: dict[str, float], **fields: Any) -> Job:
    """A job with its result."""
    return await site.complete(await site.lease(await site.submit(1, **fields)), usage=usage)


async def test_each_end_of_an_attempt_is_one_line_with_its_outcome(site: Site) -> None:
    job_id = await site.submit(1, max_attempts=3, key="0123456789abcdef")
    await site.fail(await site.lease(job_id), "broken", retryable=False)
    good = await done(site, PAGES, key="0123456789abcdef")
    with pytest.raises(ConflictError):  # fenced off, and in no event
        await site.complete(await site.lease(good), usage=PAGES)
    async with site.keeper():
        found = {line.job: line for line in await settled(site, 2)}
    assert found[job_id].outcome == "failed"
    line = found[good.id]
    assert (line.outcome, line.kind, line.tenant, line.worker, line.engine, line.key) == (
        "succeeded", "simulate", "acme", "w1", "w1", "0123456789abcdef"
    )  # fmt: skip
    assert line.units["pages"] == 3 * MICRO
    assert line.units["tokens"] == 1_500_000
    assert line.units[ATTEMPTS] == MICRO
    assert line.units[RUN] == round((line.ended_at - line.started_at) / timedelta(microseconds=1))


async def test_a_result_that_is_judged_has_its_line_when_it_is(site: Site) -> None:
    job = await site.lease(await site.submit(1))

    async def step(job: Job, command: Any) -> Job:
        return (await site.store.transition(job, command, actor="user:ann")).job

    for decision in (Reject(now=now(), reviewer="ann", reason="no"), Accept(now=now(), reviewer="ann")):
        assert job.lease is not None
        job = await step(job, Propose(now=now(), fence=job.lease.fence, result=1, usage=PAGES))
        job = await step(job, decision)
        if isinstance(decision, Reject):
            job = await site.lease(job)
    async with site.keeper():
        found = await settled(site, 2)
    assert [(line.attempt, line.outcome, line.units["pages"]) for line in found] == [
        (1, "rejected", 3 * MICRO), (2, "accepted", 3 * MICRO),
    ]  # fmt: skip
    assert all(line.ended_at <= line.at for line in found)


async def test_whatever_comes_again_is_written_once(site: Site) -> None:
    for _ in range(5):
        await done(site, PAGES)
    expected = await of_log(site)
    books = [Book(site.nc, site.publisher, timeout_s=20) for _ in range(4)]
    written = await asyncio.gather(*(book.write(expected[first:]) for first in range(3) for book in books))
    assert sum(written) == 5
    async with site.keeper():  # the whole log comes to it
        found = await settled(site, 5)
    assert sorted(line.id for line in found) == sorted(line.id for line in expected)
    assert {line.id: line for line in found} == {line.id: line for line in expected}


async def test_a_history_is_in_the_ledger_before_it_is_purged(site: Site) -> None:
    job = await done(site, PAGES)
    await api(site.nc, f"CONSUMER.DELETE.JOBS.{subjects.KEEPER_LEDGER}", timeout_s=20)
    await site.store.transition(job, Archive(now=now()), actor="user:ann")
    writer = LedgerWriter(site.nc, site.publisher, site.settings)
    expected = await of_log(site)
    async with site.keeper():  # it makes its consumer again in a while; the purge does not wait for that
        async with asyncio.timeout(60):
            while len(await site.store.history(JobId(job.id))) > 1:
                pass
        assert await in_ledger(site) == expected
    await writer.settle(JobId(job.id))  # nothing is left to write
    assert await in_ledger(site) == expected


async def test_what_a_newer_version_wrote_waits_and_what_is_damaged_is_set_aside(site: Site) -> None:
    broken, newer = [await site.lease(await site.submit(n)) for n in range(2)]
    headers = {"Switchyard-Tenant": "acme", "Switchyard-Kind": "simulate"}
    await site.publisher.publish(f"job.{broken.id}.succeeded", b'{"v":1,"fence":"x"}', headers)
    body = b'{"v":99,"at":"2026-01-02T03:04:05Z","fence":1}'
    await site.publisher.publish(f"job.{newer.id}.succeeded", body, headers)
    good = await done(site, PAGES)
    async with site.keeper():
        async with asyncio.timeout(60):
            while [line.job for line in await in_ledger(site)] != [good.id]:
                pass
        info = await api(site.nc, f"CONSUMER.INFO.JOBS.{subjects.KEEPER_LEDGER}", timeout_s=20)
        assert info["num_ack_pending"] == 1  # that of the newer version


async def test_a_hundred_attempts_are_billed_once_though_keepers_are_lost(site: Site) -> None:
    for stream in (subjects.KEEPER_LEDGER,):  # what a lost keeper had in hand comes again soon
        info = await api(site.nc, f"CONSUMER.INFO.JOBS.{stream}", timeout_s=20)
        config = info["config"] | {"ack_wait": 1_000_000_000}
        await api(
            site.nc, f"CONSUMER.DURABLE.CREATE.JOBS.{stream}", {"stream_name": "JOBS", "config": config},
            timeout_s=20,
        )  # fmt: skip
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.keeper())
        for count in range(100):
            async with AsyncExitStack() as lost:
                if not count % 10:
                    await lost.enter_async_context(site.keeper())
                job = await site.lease(await site.submit(count, max_attempts=3))
                if count % 3:
                    await site.complete(job, usage={"pages": count})
                else:
                    await site.fail(job, "broken", retryable=False)
        found = await settled(site, 100)
    assert len(found) == len({line.id for line in found}) == 100
    assert totals(found) == totals(await of_log(site))
    assert totals(found)["acme", "succeeded", "pages"] == MICRO * sum(n for n in range(100) if n % 3)


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        (-1, None), (1e308, None), (10**12, 10**18), (10**12 + 1, None), (0, 0), (-0.0, 0),
        (0.1, 100_000), (5e-7, 0), (1.5e-6, 2), (float("nan"), None), (float("inf"), None),
        (9_223_372_036_854_775_807, None),
    ],
)  # fmt: skip
def test_an_amount_is_whole_millionths_or_refused(amount: float, units: int | None) -> None:
    found, refused = amounts_of({"pages": amount}, 1.0)
    assert found.get("pages") == units
    assert ("pages" in refused) is (units is None)


def test_names_of_ours_are_not_the_handlers_and_a_clock_that_jumped_back_gives_no_time() -> None:
    found, refused = amounts_of({RUN: 5, ATTEMPTS: 7}, -3.0)
    assert found == {RUN: 0, ATTEMPTS: MICRO}
    assert refused == {RUN: 5, ATTEMPTS: 7}


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (10**18, "1000000000000")]
)
def test_an_amount_is_shown_as_a_decimal_number(amount: int, text: str) -> None:
    assert shown(amount) == text


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 2000, b'{"v":2}', b"null\n", b"\xff"])
def test_what_is_no_line_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the decoder says of it
        lines_of(body)


def test_a_line_of_hostile_names_reads_as_it_was_written() -> None:
    at = now()
    line = Line(
        id="w-1", seq=1, job="j", attempt=1, fence=1, tenant="acme", kind="k", worker="=cmd|' /C calc'!A0",
        engine='\n\r,"', units={"x" * 100: 1}, started_at=at, ended_at=at, at=at, outcome="succeeded",
    )  # fmt: skip
    assert lines_of(page([encode(line), encode(line)])) == [line, line]
