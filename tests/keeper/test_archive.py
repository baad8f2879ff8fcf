"""An archived history is purged subject by subject, what a job is last, and nothing beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Archive, Complete, Fail, Submit, TakeLease, Wake
from switchyard.events.job import Job
from switchyard.events.values import JobError, JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Revision, WorkerId
from switchyard.services import clock
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.ids import new_id
from switchyard.services.keeper.kept.archive import FIRST, purge_archived, purge_lines
from tests.worker.site import Site, open_site

ACTOR = "user:ann"


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


async def archived(site: Site) -> Job:
    """A job that failed, ran again, succeeded and was archived."""
    spec = JobSpec(kind="simulate", tenant="acme", lane=LaneId("simulate-1"))
    job = Job(id=JobId(new_id()))
    job = (await site.store.transition(job, Submit(now=clock.now(), job=spec), actor=ACTOR)).job
    lease = TakeLease(now=clock.now(), worker=WorkerId("w1"), revision=Revision(1))
    job = (await site.store.transition(job, lease, actor=ACTOR)).job
    error = JobError("broken", "once", retryable=True)
    failed = Fail(now=clock.now(), fence=Fence(job.seq), error=error)
    job = (await site.store.transition(job, failed, actor=ACTOR)).job
    assert job.retry_at is not None
    job = (await site.store.transition(job, Wake(now=job.retry_at), actor=ACTOR)).job
    job = (await site.store.transition(job, lease, actor=ACTOR)).job
    ended = Complete(now=clock.now(), fence=Fence(job.seq), result=1)
    job = (await site.store.transition(job, ended, actor=ACTOR)).job
    return (await site.store.transition(job, Archive(now=clock.now()), actor=ACTOR)).job


async def test_no_purge_names_more_than_one_subject_and_what_a_job_is_goes_last(site: Site) -> None:
    other, job = await archived(site), await archived(site)
    async with Inbox(site.nc, f"$JS.API.STREAM.PURGE.{subjects.JOBS}") as asked:
        await purge_archived(site.nc, job.id, job.seq, timeout_s=20)
        await site.nc.flush()
        purged = []
        while len(asked):
            purged.append(orjson.loads((await asked.next(5)).data)["filter"].split(".")[2])
    assert sorted(purged) == ["failed", "leased", "queued", "submitted", "succeeded"]
    assert purged[-1] in FIRST
    assert [entry.name for entry in await site.store.history(job.id)] == ["archived"]
    assert (await site.store.load(job.id)).archived_as is Status.SUCCEEDED
    assert len(await site.store.history(other.id)) == 7


async def test_what_is_left_of_a_history_reads_as_its_summary_whenever_purging_breaks_off(
    site: Site,
) -> None:
    job = await archived(site)
    whole = await site.store.load(job.id)
    for event in ("succeeded", "leased", "failed", "queued", "submitted"):
        assert await purged(site, subjects.job_filter(job.id), event)
        assert await site.store.load(job.id) == whole
    await purge_archived(site.nc, job.id, job.seq, timeout_s=20)
    await purge_archived(site.nc, job.id, job.seq, timeout_s=20)
    assert await site.store.load(job.id) == whole


async def test_lines_go_with_their_job_alone(site: Site) -> None:
    job, other = JobId(new_id()), JobId(new_id())
    for one in (job, job, other):
        await site.publisher.publish(subjects.log(one), b'{"line":"x"}', {})
    await purge_lines(site.nc, job, timeout_s=20)
    left = await read_range(site.nc, subjects.LOGS, "log.>", timeout_s=20)
    assert [stored.subject for stored in left] == [subjects.log(other)]


async def purged(site: Site, filters: str, event: str) -> int:
    """Purge the subject of an event; how many there were."""
    info = await api(site.nc, f"STREAM.INFO.{subjects.JOBS}", {"subjects_filter": filters}, timeout_s=20)
    (subject,) = [one for one in info["state"]["subjects"] if one.split(".")[2] == event]
    answer = await api(site.nc, f"STREAM.PURGE.{subjects.JOBS}", {"filter": subject}, timeout_s=20)
    return int(answer["purged"])
