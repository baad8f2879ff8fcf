"""Reads of stored messages: what they bring, and what they ask of the broker for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import topology
from switchyard.services.broker.connection import listen
from switchyard.services.broker.part_reader import MANY, last_messages, read_few, read_page
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import Stored, read_range
from switchyard.services.ids import new_id

CALL = f"$JS.API.DIRECT.GET.{subjects.JOBS}"
TIMEOUT_S = 10.0


@pytest.fixture
async def jobs(nats_connection: Client) -> list[JobId]:
    """A log of three jobs, whose messages take turns: 1 4 7, 2 5 8, 3 6 9."""
    await topology.apply(nats_connection)
    ids = [new_id() for _ in range(3)]
    async with Publisher(nats_connection) as publisher:
        for n in range(9):
            await publisher.publish(subjects.job_event(ids[n % 3], f"e{n // 3}"), b"x" * 100, {})
    return ids


async def asked(nc: Client, read: Callable[[], Any]) -> tuple[Any, list[dict[str, Any]]]:
    """What a read brings, and what it asked the broker for."""
    queries: list[dict[str, Any]] = []

    def saw(message: Msg) -> None:
        queries.append(orjson.loads(message.data))

    await listen(nc, CALL, saw)
    found = await read()
    await nc.flush()
    return found, queries


def seqs(found: list[Stored]) -> list[int]:
    return [stored.seq for stored in found]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("start", range(1, 12))
async def test_few_messages_are_read_as_many_are(
    nats_connection: Client, jobs: list[JobId], start: int, limit: int
) -> None:
    for subject in (*map(subjects.job_filter, jobs), subjects.job_filter(new_id())):
        options: dict[str, Any] = {"start": start, "limit": limit, "timeout_s": TIMEOUT_S}
        few = await read_few(nats_connection, subjects.JOBS, subject, **options)
        assert seqs(few) == seqs(await read_range(nats_connection, subjects.JOBS, subject, **options))


async def test_nobody_looks_behind_the_last_message_of_a_job(
    nats_connection: Client, jobs: list[JobId]
) -> None:
    async def read() -> list[Stored]:
        filter_ = subjects.job_filter(JobId(jobs[0]))
        return await read_few(nats_connection, subjects.JOBS, filter_, limit=500, timeout_s=TIMEOUT_S)

    found, queries = await asked(nats_connection, read)
    assert seqs(found) == [1, 4, 7]
    assert sum(query["batch"] for query in queries) == 3


async def test_a_job_without_news_is_not_looked_for(nats_connection: Client, jobs: list[JobId]) -> None:
    async def read() -> list[Stored]:
        filter_ = subjects.job_filter(JobId(jobs[0]))
        return await read_few(nats_connection, subjects.JOBS, filter_, start=8, timeout_s=TIMEOUT_S)

    found, queries = await asked(nats_connection, read)
    assert found == []
    assert [query for query in queries if "batch" in query] == []


@pytest.mark.parametrize("max_bytes", [1, 150, 10_000])
@pytest.mark.parametrize("limit", [1, 4, 9, 100])
@pytest.mark.usefixtures("jobs")
async def test_pages_give_the_whole_log_whatever_bounds_them(
    nats_connection: Client, limit: int, max_bytes: int
) -> None:
    got: list[int] = []
    more = True
    while more:
        start = got[-1] + 1 if got else 1
        page, more = await read_page(
            nats_connection, subjects.JOBS, start=start, limit=limit, max_bytes=max_bytes, timeout_s=TIMEOUT_S
        )
        assert page
        got += seqs(page)
    assert got == list(range(1, 10))
    nothing = await read_page(
        nats_connection, subjects.JOBS, start=10, limit=limit, max_bytes=max_bytes, timeout_s=TIMEOUT_S
    )
    assert nothing == ([], False)


async def test_the_last_messages_of_many_jobs_are_read_at_once(
    nats_connection: Client, jobs: list[JobId]
) -> None:
    filters = [subjects.job_filter(JobId(job_id)) for job_id in (*jobs[:2], new_id())]
    found = await last_messages(nats_connection, subjects.JOBS, filters, timeout_s=TIMEOUT_S)
    assert seqs(found) == [1, 2, 4, 5, 7, 8]
    nobody = [subjects.job_filter(new_id())]
    assert await last_messages(nats_connection, subjects.JOBS, nobody, timeout_s=TIMEOUT_S) == []


async def test_a_job_with_too_many_subjects_hides_no_other(
    nats_connection: Client, jobs: list[JobId]
) -> None:
    odd = new_id()
    async with Publisher(nats_connection) as publisher:
        for n in range(MANY + 1):
            await publisher.publish(subjects.job_event(odd, f"e{n}"), b"", {})
    filters = [subjects.job_filter(odd), subjects.job_filter(JobId(jobs[0]))]
    found = await last_messages(nats_connection, subjects.JOBS, filters, timeout_s=TIMEOUT_S)
    assert seqs(found) == [1, 4, 7]
