"""Jobs that have ended are archived in time, and go for good later; a rebuild is the same throughout."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.commands import Archive, Complete, Fail, RequestCancel, Submit, TakeLease
from switchyard.events.errors import ConflictError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import JobError, JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, JobId, Revision, WorkerId
from switchyard.projections import database
from switchyard.projections.database import path_in
from switchyard.projections.jobs import microseconds
from switchyard.projections.kept import gone
from switchyard.projections.kept.ended import EndedJobs, Group, Mark
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.clock import BrokerClock
from switchyard.services.files import Files
from switchyard.services.ids import new_id
from switchyard.services.intake.erasing import Eraser
from switchyard.services.keeper.kept.retention import DAY_S, Retention
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import build
from switchyard.services.records.kinds import KindDefaults, Kinds
from switchyard.services.records.limits import Limit, Limits
from tests.projections.rows import dump
from tests.worker.site import DEADLINE_S, Site, open_site

TABLES = (
    "jobs", "labels", "attempts", "counts", "workers", "needs", "tenants", "dead_letters",
)  # fmt: skip
ACTOR = "user:ann"
KEEP_S, TTL_S = 1.0, 2.0
LONG_S = DEADLINE_S * 2


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path, keep_s=KEEP_S, archive_ttl_s=TTL_S) as site:
        yield site


@asynccontextmanager
async def kept(site: Site, **settings: object) -> AsyncIterator[Keeper]:
    """A keeper beside the read model of this host."""
    changed = site.settings.model_copy(update=settings)
    model = ReadModel(path_in(site.settings.data_dir))
    keeper = Keeper(site.nc, changed, model)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        yield keeper
        task.cancel()
    model.close()


def eraser(site: Site) -> Eraser:
    files = Files(site.nc, timeout_s=DEADLINE_S)
    return Eraser(site.nc, site.store, files, site.publisher, site.settings)


async def submit(site: Site, job_id: str | None = None, **fields: Any) -> Job:
    spec = JobSpec(**{"kind": "simulate", "tenant": "acme", "lane": "simulate-1", **fields})
    command = Submit(now=clock.now(), job=spec)
    return (await site.store.transition(Job(id=JobId(job_id or new_id())), command, actor=ACTOR)).job


async def end(site: Site, job: Job, how: str = "succeeded") -> Job:
    """The job at its end."""
    now = clock.now()
    if how == "cancelled":
        return (
            await site.store.transition(job, RequestCancel(now=now, by=ACTOR, grace_s=1), actor=ACTOR)
        ).job
    lease = TakeLease(now=now, worker=WorkerId("w1"), revision=Revision(1))
    job, _ = await site.store.transition(job, lease, actor="worker:w1")
    result = None if job.erasable else {"is": "kept"}
    command = Complete(now=now, fence=Fence(job.seq), result=result)
    if how == "dead":
        error = JobError("broken", "for good", retryable=False)
        return (
            await site.store.transition(job, Fail(now=now, fence=Fence(job.seq), error=error), actor=ACTOR)
        ).job
    return (await site.store.transition(job, command, actor="worker:w1")).job


async def some(site: Site, count: int, **fields: Any) -> list[Job]:
    """Jobs that ended in each way."""
    ways = ("succeeded", "cancelled", "dead")
    return [
        await end(site, await submit(site, labels={"n": str(n)}, **fields), ways[n % 3]) for n in range(count)
    ]


def rows(path: Path, now: int) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        gone.drop_all(connection, now)
        return dump(connection, TABLES)


async def same(site: Site) -> bool:
    """Whether the read model equals one that is built from nothing; True too while events come in."""
    live, copy = path_in(site.settings.data_dir), site.settings.data_dir / "copy.sqlite"
    other = site.settings.data_dir / "other.sqlite"
    copy.unlink(missing_ok=True)
    if not live.exists():  # it is built again
        return True
    with closing(database.open_reader(live)) as connection, closing(sqlite3.connect(copy)) as to:
        connection.backup(to)
    await build(site.nc, site.settings, other)
    seqs = {ReadModel(path).checkpoint().seq for path in (copy, other)}
    now = microseconds(clock.now()) or 0
    return len(seqs) > 1 or rows(copy, now) == rows(other, now)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            # A projector that was not current for as long as archived events are kept builds the file again.
            with suppress(UnavailableError):
                if await condition():
                    return
            await asyncio.sleep(0.05)


def shown(model: ReadModel, job: Job) -> bool:
    """Whether the read model has a job; so too while it is built again."""
    with suppress(UnavailableError):
        return model.job(job.id) is not None
    return True


async def in_log(site: Site, job_id: str) -> list[str]:
    return [entry.name for entry in await site.store.history(JobId(job_id))]


async def test_what_has_ended_is_archived_and_goes_and_a_rebuild_is_the_same_throughout(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector(), kept(site):
        ended = await some(site, 9)
        waits = await submit(site)
        compared = 0
        async with asyncio.timeout(LONG_S):
            while any(shown(model, job) for job in ended):
                assert await same(site)
                compared += 1
        assert compared

        async def is_left() -> bool:
            return model.job(waits.id) is not None and model.counts() == {("simulate", "queued"): 1}

        await until(is_left)
        for job in ended:
            assert (await site.store.load(job.id)).status is Status.ABSENT
        assert await same(site)
    with closing(database.open_reader(model.path)) as connection:
        found = dump(connection, TABLES)
    assert [len(found[table]) for table in ("jobs", "labels", "attempts", "workers", "dead_letters")] == [
        1, 0, 0, 0, 0,
    ]  # fmt: skip


async def test_nothing_is_archived_before_the_broker_has_said_its_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    limits, kinds = (
        Limits(site.nc, site.publisher, site.settings),
        Kinds(site.nc, site.publisher, site.settings),
    )
    retention = Retention(site.nc, site.store, kinds, limits, site.settings, model, eraser(site))
    async with site.projector():
        job = await submit(site)

        async def is_current() -> bool:
            return model.job(job.id) is not None and retention._is_current(EndedJobs(model.path))

        await until(is_current)
        monkeypatch.setattr(clock, "CLOCK", BrokerClock())
        assert not await is_current()


async def test_an_id_that_is_gone_may_be_used_again(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector():
        first = await end(site, await submit(site, labels={"turn": "first"}))
        await site.store.transition(first, Archive(now=clock.now()), actor=ACTOR)
        with pytest.raises(ConflictError):
            await submit(site, first.id)

        async def taken() -> bool:
            try:
                await submit(site, first.id, labels={"turn": "second"})
            except (ConflictError, UnavailableError):  # the latter where its summary goes at this very moment
                return False
            return True

        async with kept(site, keep_s=None):
            await until(taken)

            async def seen() -> bool:
                job = model.job(first.id)
                return job is not None and job.status is Status.QUEUED

            await until(seen)
            assert await in_log(site, first.id) == ["submitted"]
            await until(lambda: same(site))
    with closing(database.open_reader(model.path)) as connection:
        found = dump(connection, TABLES)
    assert [row[2] for row in found["labels"]] == ["second"]
    assert [(row[2], row[5]) for row in found["counts"]] == [("queued", 1)]


async def test_a_job_that_others_depend_on_stays_until_they_have_ended(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector(), kept(site, archive_ttl_s=3600) as keeper:
        parent = await end(site, await submit(site))
        child = await submit(site, depends_on=(parent.id,))
        other = await end(site, await submit(site))

        async def archived(job: Job) -> bool:
            return (await site.store.load(job.id)).status is Status.ARCHIVED

        await until(lambda: archived(other))
        assert EndedJobs(model.path).needed([parent.id, other.id]) == {parent.id}
        assert not await archived(parent)
        await end(site, await site.store.load(child.id), "cancelled")
        await until(lambda: archived(parent))
        assert keeper.retention.archived


async def test_a_projector_that_was_away_for_longer_than_summaries_are_kept_builds_again(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector():
        job = await end(site, await submit(site))

        async def seen() -> bool:
            found = model.job(job.id)
            return found is not None and found.seq == job.seq

        await until(seen)
    await site.store.transition(job, Archive(now=clock.now()), actor=ACTOR)
    async with kept(site, keep_s=None):

        async def is_gone() -> bool:
            return not await in_log(site, job.id)

        await until(is_gone)
    assert model.job(job.id) is not None
    async with site.projector():

        async def forgotten() -> bool:
            return model.exists() and model.job(job.id) is None

        await until(forgotten)
        assert await same(site)


async def test_a_history_that_outlived_what_archived_it_is_archived_once_more(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector():
        job = await end(site, await submit(site))
        await site.store.transition(job, Archive(now=clock.now()), actor=ACTOR)

        async def unarchived() -> bool:
            return await in_log(site, job.id) == ["submitted", "leased", "succeeded"] and (
                model.job(job.id) is None
            )

        await until(unarchived)  # no keeper has purged it
        async with kept(site):

            async def is_gone() -> bool:
                return not await in_log(site, job.id)

            await until(is_gone)
            await until(lambda: same(site))


async def test_kills_of_keeper_and_projector_leave_nothing_behind(site: Site, broker: NatsServer) -> None:
    environment = os.environ | {
        "SWITCHYARD_DATA_DIR": str(site.settings.data_dir),
        "SWITCHYARD_KEEP_S": str(KEEP_S),
        "SWITCHYARD_ARCHIVE_TTL_S": str(TTL_S),
        "SWITCHYARD_PROJECTOR_BATCH": "7",
    }
    program = (
        "import asyncio, sys\n"
        "from switchyard.projections.database import path_in\n"
        "from switchyard.projections.reader import ReadModel\n"
        "from switchyard.services.broker import connection as broker\n"
        "from switchyard.services.keeper.loop import Keeper\n"
        "from switchyard.services.projector.projector import Projector\n"
        "from switchyard.services.settings.loading import load_settings\n"
        "async def main():\n"
        "    nc = await broker.connect(sys.argv[1], name='parts')\n"
        "    settings = load_settings().settings\n"
        "    model = ReadModel(path_in(settings.data_dir))\n"
        "    await asyncio.gather(Projector(nc, settings).run(), Keeper(nc, settings, model).run())\n"
        "asyncio.run(main())\n"
    )
    ended: list[Job] = []
    for _ in range(3):
        ended += await some(site, 6)
        async with Inbox(site.nc, "job.*.archived") as archived:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, broker.url, env=environment
            )
            await archived.next(LONG_S)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector(), kept(site):

        async def empty() -> bool:
            return (
                model.exists()
                and not model.counts()
                and not await read_range(site.nc, subjects.JOBS, subjects.ALL_JOBS, timeout_s=DEADLINE_S)
            )

        await until(empty)
        assert await same(site)


@pytest.mark.parametrize(
    ("of_tenant", "of_kind", "of_all", "kept_s", "dead_s"),
    [
        ({}, {}, {}, None, None),
        ({}, {}, {"keep_s": 10.0}, 10, 30),
        ({}, {"keep_s": 5.0}, {"keep_s": 10.0}, 5, 15),
        ({"keep_s": 2.0}, {"keep_s": 5.0}, {"keep_s": 10.0}, 2, 6),
        ({"keep_dead_s": 7.0}, {"keep_s": 5.0}, {"keep_s": 10.0, "keep_dead_s": 99.0}, 5, 7),
        ({}, {}, {"keep_s": 10.0, "keep_dead_s": 4.0}, 10, 4),
        ({}, {}, {"keep_dead_s": 4.0}, None, 4),
    ],
)
async def test_a_tenant_says_before_a_kind_and_a_kind_before_the_settings(
    site: Site, of_tenant: dict[str, float], of_kind: dict[str, float], of_all: dict[str, float],
    kept_s: float | None, dead_s: float | None,
) -> None:  # fmt: skip
    settings = site.settings.model_copy(update={"keep_s": None, **of_all})
    limits, kinds = Limits(site.nc, site.publisher, settings), Kinds(site.nc, site.publisher, settings)
    await kinds.put("simulate", KindDefaults(**of_kind))  # type: ignore[arg-type]
    await limits.put("acme.all", Limit(None, None, clock.now(), **of_tenant))  # type: ignore[arg-type]
    retention = Retention(site.nc, site.store, kinds, limits, settings, None, eraser(site))
    assert retention.keep_s(Group("acme", "simulate", "succeeded")) == kept_s
    assert retention.keep_s(Group("acme", "simulate", "dead")) == dead_s
    assert retention.keep_s(Group("acme", "agent", "succeeded")) is None


async def test_a_log_of_an_older_version_keeps_all_and_a_new_one_thirty_days(site: Site) -> None:
    settings = site.settings.model_copy(update={"keep_s": None})
    limits, kinds = Limits(site.nc, site.publisher, settings), Kinds(site.nc, site.publisher, settings)
    group = Group("acme", "simulate", "expired")

    async def learned() -> float | None:
        retention = Retention(site.nc, site.store, kinds, limits, settings, None, eraser(site))
        await retention._learn()
        return retention.keep_s(group)

    assert await learned() == 30 * DAY_S
    config = (await api(site.nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=20))["config"]
    del config["metadata"]
    await api(site.nc, f"STREAM.UPDATE.{subjects.JOBS}", config, timeout_s=20)
    assert await learned() is None


async def test_of_many_due_jobs_no_more_than_the_pace_allows_go_at_once(site: Site) -> None:
    model = ReadModel(path_in(site.settings.data_dir))
    async with site.projector():
        last = (await some(site, 30))[-1]

        async def seen() -> bool:
            return model.checkpoint().seq >= last.seq and all(
                EndedJobs(model.path).ended(group, clock.now(), Mark(), 1) for group in groups
            )

        groups = [Group("acme", "simulate", state) for state in ("succeeded", "cancelled", "dead")]
        await until(seen)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with kept(site, keep_s=1e-6, keep_dead_s=1e-6, archives_per_s=10, archive_ttl_s=3600) as keeper:

            async def all_archived() -> bool:
                return keeper.retention.archived >= len(groups) * 10

            await until(all_archived)
        assert loop.time() - began > 1.5
