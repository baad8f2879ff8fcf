"""Histories that are read for many jobs at once: the same lines, and few questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events import subjects
from switchyard.events.commands import Release
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.errors import UnavailableError
from switchyard.events.events import AnyEvent, CancelRequested, Leased, Queued, Submitted, Succeeded
from switchyard.events.job import Job
from switchyard.events.rules.whole import is_whole
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Seq, WorkerId
from switchyard.projections.fold import Message
from switchyard.projections.ledger.lines import Entry, lines
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.ledger.histories import Histories
from switchyard.services.ledger.together import Together
from tests.ledger.books import in_ledger, of_log, settled
from tests.projections.logs import logs
from tests.worker.site import Site, open_site

BEGIN = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
JOBS = 40


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path) as site:
        yield site


@settings(max_examples=300, deadline=None)
@given(logs(), st.data())
def test_the_last_event_of_each_name_gives_the_same_lines_where_it_is_taken_for_all(
    log: tuple[list[Message], dict[str, Job]], data: st.DataObject
) -> None:
    messages, jobs = log
    reached = data.draw(st.integers(0, len(messages)))
    for job_id, job in jobs.items():
        if job.damage is not None:  # of what strangers write, no order can be relied on
            continue
        history: list[Entry] = [
            (recorded(subject, headers, body, seq), BEGIN + timedelta(seconds=seq))
            for subject, headers, body, seq in messages[:reached]
            if subjects.job_of(subject) == job_id
        ]
        places = {subject: seq for subject, _, _, seq in messages[:reached]}
        last = [entry for entry in history if entry[0].seq in places.values()]
        if is_whole([entry.event for entry, _ in last]):
            assert last == history
            assert list(lines(JobId(job_id), last)) == list(lines(JobId(job_id), history))


def event(name: str, attempt: int = 1) -> Entry:
    """An event that has what is looked at."""
    made: AnyEvent
    match name:
        case "leased":
            made = Leased(at=BEGIN, worker=WorkerId("w"), attempt=attempt)
        case "queued":
            made = Queued(at=BEGIN, cause="released", lane=LaneId("l"), priority=50)
        case "submitted":
            made = Submitted(at=BEGIN, job=JobSpec(kind="k", tenant="t", lane=LaneId("l")))
        case "cancel_requested":
            made = CancelRequested(at=BEGIN, by="ann", force_at=BEGIN)
        case _:
            made = Succeeded(at=BEGIN, fence=Fence(2))
    return Recorded(Seq(1), JobId("j"), name, "t", "k", "a", "e", "", made), BEGIN


@pytest.mark.parametrize(
    "last",
    [
        [],
        [event("leased"), event("succeeded")],
        [event("submitted"), event("succeeded")],
        [event("submitted"), event("leased"), event("queued")],
        [event("submitted"), event("leased", 2), event("queued")],
        [event("submitted"), event("leased", 2), event("succeeded")],
        [event("submitted"), event("queued"), event("leased", 2), event("succeeded")],
        [event("submitted"), event("leased"), event("cancel_requested"), event("succeeded")],
    ],
)
def test_events_that_may_hide_others_of_their_name_are_not_taken_for_all(last: list[Entry]) -> None:
    assert not is_whole([entry.event for entry, _ in last])


async def test_many_jobs_are_read_with_few_questions_whatever_they_went_through(site: Site) -> None:
    jobs = [await site.complete(await site.lease(await site.submit(1))) for _ in range(JOBS)]
    histories = Histories(site.nc, site.settings)
    asked = site.nc.stats["out_msgs"]
    found = await asyncio.gather(*(histories.of(job.id) for job in jobs))
    assert site.nc.stats["out_msgs"] - asked < JOBS
    for job, history in zip(jobs, found, strict=True):
        assert [entry.name for entry, _ in history] == ["submitted", "leased", "succeeded"]
        assert {entry.job_id for entry, _ in history} == {job.id}


async def test_a_job_of_two_attempts_is_read_from_its_first_event(site: Site) -> None:
    job = await site.lease(await site.submit(1))
    assert job.lease is not None
    released = Release(now=datetime.now(UTC), fence=job.lease.fence)
    job, _ = await site.store.transition(job, released, actor="worker:w1")
    await site.complete(await site.lease(job))
    async with site.keeper():
        await settled(site, 2)
    assert sorted(line.id for line in await in_ledger(site)) == sorted(line.id for line in await of_log(site))
    history = await Histories(site.nc, site.settings).of(job.id)
    assert [entry.name for entry, _ in history].count("leased") == 2


async def test_nobody_hears_that_it_is_done_before_it_is() -> None:
    """What comes during a round is in the next; one that breaks off does for all of it."""
    rounds: list[list[int]] = []
    go = asyncio.Event()

    async def do(wanted: Sequence[int]) -> int:
        rounds.append(list(wanted))
        await go.wait()
        if 13 in wanted:
            raise UnavailableError("no")
        return len(rounds)

    together = Together(do)
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(together.ask([n])) for n in (1, 2)]
        while not rounds:
            await asyncio.sleep(0)
        later = [asyncio.create_task(together.ask([n])) for n in (12, 13)]
        while len(rounds[0]) < 2:
            await asyncio.sleep(0)
        assert not any(task.done() for task in first)
        go.set()
        answers = await asyncio.gather(*later, return_exceptions=True)
    assert [task.result() for task in first] == [1, 1]
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    assert rounds == [[1, 2], [12, 13]]
    assert await together.ask([14]) == 3


async def test_who_waits_for_one_that_is_cancelled_hears_of_it() -> None:
    async def do(_: Sequence[int]) -> None:
        await asyncio.Event().wait()

    together = Together(do)
    first = asyncio.create_task(together.ask([1]))
    second = asyncio.create_task(together.ask([2]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(UnavailableError):
        await second
    with pytest.raises(asyncio.CancelledError):
        await first
