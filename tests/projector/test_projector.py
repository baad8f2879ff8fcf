from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Complete, Fail, RequestCancel, Submit, TakeLease, Wake
from switchyard.events.errors import InvalidError, NewerVersionError
from switchyard.events.job import Job
from switchyard.events.values import JobError, JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, JobId, Revision, WorkerId
from switchyard.projections import checkpoint, database
from switchyard.projections.job_view import job_view
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker import quarantine, topology
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.ids import new_id
from switchyard.services.projector.projector import Projector, ProjectorBusyError, build, rebuild
from switchyard.services.settings import Settings
from tests.projections.rows import dump

TABLES = ("jobs", "labels", "attempts", "counts", "workers", "files")
ACTOR = "user:ann"


class Site:
    """A log, and a projector that writes a read model of it."""

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self.nc = nc
        self.settings = settings
        self.store = EventStore(nc, publisher, settings)
        self.path = database.path_in(settings.data_dir)
        self.model = ReadModel(self.path)

    async def submit(self, tenant: str = "acme", **fields: object) -> Job:
        spec = JobSpec(kind="simulate", tenant=tenant, lane="simulate-1", **fields)  # type: ignore[arg-type]
        command = Submit(now=datetime.now(UTC), job=spec)
        return (await self.store.transition(Job(id=new_id()), command, actor=ACTOR)).job

    async def run_some(self, count: int) -> list[Job]:
        """Jobs of every fate."""
        jobs = []
        for n in range(count):
            now = datetime.now(UTC)
            job = await self.submit(labels={"team": f"t{n % 3}"}, priority=n % 5)
            if n % 4:
                lease = TakeLease(now=now, worker=WorkerId(f"w{n % 2}"), revision=Revision(1))
                job, _ = await self.store.transition(job, lease, actor="worker:w")
            if n % 4 == 2:
                done = Complete(now=now, fence=Fence(job.seq), result={"n": n})
                job, _ = await self.store.transition(job, done, actor="worker:w")
            if n % 4 == 3:
                failed = Fail(now=now, fence=Fence(job.seq), error=JobError("flaky", "again"))
                job, _ = await self.store.transition(job, failed, actor="worker:w")
            if n % 8 == 0:
                cancel = RequestCancel(now=now, by=ACTOR, grace_s=1)
                job, _ = await self.store.transition(job, cancel, actor=ACTOR)
            jobs.append(job)
        return jobs

    @asynccontextmanager
    async def projector(self) -> AsyncIterator[Projector]:
        projector = Projector(self.nc, self.settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(projector.run())
            ready = group.create_task(projector.ready.wait())
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            try:
                yield projector
            finally:
                task.cancel()

    async def until(self, seq: int) -> None:
        """Wait until the read model has come this far."""
        async with asyncio.timeout(60), Inbox(self.nc, "projected.>") as published:
            while not self.path.exists() or self.model.checkpoint().seq < seq:
                await published.next(20)

    async def rebuilt(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows of a read model built from nothing."""
        path = self.settings.data_dir / "other.sqlite"
        await build(self.nc, self.settings, path)
        with closing(sqlite3.connect(path)) as connection:
            return dump(connection, TABLES)

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        with closing(database.open_reader(self.path)) as connection:
            return dump(connection, TABLES)


@pytest.fixture
async def site(nats_connection: Client, tmp_path: Path) -> AsyncIterator[Site]:
    await topology.apply(nats_connection)
    async with Publisher(nats_connection) as publisher:
        site = Site(nats_connection, publisher, Settings(data_dir=tmp_path))
        yield site
        site.model.close()


async def test_what_was_projected_bit_by_bit_equals_what_is_rebuilt(site: Site) -> None:
    async with site.projector():
        jobs = await site.run_some(40)
        await site.until(max(job.seq for job in jobs))
        for job in jobs:
            assert site.model.job(job.id) == job
    rows = site.rows()
    rebuilt = await site.rebuilt()
    for table in ("jobs", "labels", "attempts", "counts", "workers"):
        assert rows[table] == rebuilt[table]
    assert rows["workers"]


async def test_counts_are_those_of_the_jobs(site: Site) -> None:
    async with site.projector():
        jobs = await site.run_some(25)
        await site.until(max(job.seq for job in jobs))
    with closing(database.open_reader(site.path)) as connection:
        counted = connection.execute(
            "SELECT tenant, kind, lane, priority, state, count(*) FROM jobs GROUP BY 1, 2, 3, 4, 5"
        ).fetchall()
        kept = connection.execute("SELECT tenant, kind, lane, priority, state, jobs FROM counts").fetchall()
    assert sorted(counted) == sorted(kept)


async def test_a_projector_killed_in_the_middle_goes_on_where_it_was(site: Site, broker: NatsServer) -> None:
    async with site.projector():  # an empty read model: a missing one would be built in one go
        pass
    jobs = await site.run_some(60)
    environment = os.environ | {
        "SWITCHYARD_DATA_DIR": str(site.settings.data_dir),
        "SWITCHYARD_PROJECTOR_BATCH": "7",
    }
    program = (
        "import asyncio, sys\n"
        "from switchyard.services.broker import connection as broker\n"
        "from switchyard.services.projector.projector import Projector\n"
        "from switchyard.services.settings.loading import load_settings\n"
        "async def main():\n"
        "    nc = await broker.connect(sys.argv[1], name='projector')\n"
        "    await Projector(nc, load_settings().settings).run()\n"
        "asyncio.run(main())\n"
    )
    for kill_after in (1, 8, 30):
        async with Inbox(site.nc, "projected.>") as published:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, broker.url, env=environment
            )
            async with asyncio.timeout(60):
                while int((await published.next(30)).data) < min(kill_after, max(job.seq for job in jobs)):
                    pass
            process.send_signal(signal.SIGKILL)
            await process.wait()
        if site.model.checkpoint().seq >= max(job.seq for job in jobs):
            jobs += await site.run_some(10)
    async with site.projector():
        await site.until(max(job.seq for job in jobs))
    rows, rebuilt = site.rows(), await site.rebuilt()
    assert all(rows[table] == rebuilt[table] for table in TABLES)


@pytest.mark.parametrize(
    ("fact", "value"),
    [("log_stream_id", "another log"), ("schema", "0"), ("log_seq", "1000"), ("log_at_ns", "5")],
    ids=str,
)
async def test_a_read_model_that_is_not_of_this_log_is_rebuilt(site: Site, fact: str, value: str) -> None:
    job = await site.submit()
    async with site.projector():
        await site.until(job.seq)
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("INSERT INTO workers VALUES ('old', 0, 0, 0, 0, 0)")
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, fact))
    async with site.projector():
        await site.until(job.seq)
        assert site.model.checkpoint().seq == job.seq
    assert site.rows()["workers"] == []


async def test_an_unreadable_read_model_is_rebuilt(site: Site) -> None:
    job = await site.submit()
    site.path.write_bytes(b"not a database" * 1000)
    async with site.projector():
        await site.until(job.seq)
        assert site.model.job(job.id) == job


async def test_jobs_folded_but_not_yet_written_are_remembered_whatever_the_cache(site: Site) -> None:
    site.settings = Settings(data_dir=site.settings.data_dir, projector_cache=1, projector_batch=2)
    async with site.projector():
        pass
    jobs = []
    for _ in range(100):
        pair = [await site.submit(), await site.submit()]
        for job in pair:
            lease = TakeLease(now=datetime.now(UTC), worker=WorkerId("w"), revision=Revision(1))
            jobs.append((await site.store.transition(job, lease, actor="worker:w")).job)
    async with site.projector():
        await site.until(jobs[-1].seq)
    assert [site.model.job(job.id) for job in jobs] == jobs


async def test_a_result_may_hold_any_json_number(site: Site) -> None:
    job = await site.submit()
    job, _ = await site.store.transition(
        job, TakeLease(now=datetime.now(UTC), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
    )
    result = {"n": 2**64 - 1, "least": -(2**63), "x": 1e-300}
    done = Complete(now=datetime.now(UTC), fence=Fence(job.seq), result=result)
    job, _ = await site.store.transition(job, done, actor="worker:w")
    async with site.projector():
        await site.until(job.seq)
        found = site.model.job(job.id)
    assert found == job
    assert found is not None
    assert found.result == result


async def test_a_larger_number_that_a_version_before_stored_is_still_read(site: Site) -> None:
    job = await site.submit()
    body = b'{"v":1,"at":"2026-01-02T03:04:05Z","fence":2,"result":{"n":%d}}' % 10**30
    ack = await site.nc.jetstream().publish(subjects.job_event(job.id, "succeeded"), body)
    async with site.projector():
        await site.until(ack.seq)
        found = site.model.job(job.id)
    assert found is not None
    assert (found.result, found.damage) == ({"n": 10**30}, None)


async def test_a_running_projector_rebuilds_and_goes_on_and_readers_notice(site: Site) -> None:
    async with site.projector():
        first = await site.submit()
        await site.until(first.seq)
        before = site.model.checkpoint().database_id
        async with asyncio.TaskGroup() as group:  # two people ask at once
            group.create_task(rebuild(site.nc, site.settings))
            group.create_task(rebuild(site.nc, site.settings))
        assert site.model.checkpoint().database_id != before
        second = await site.submit()
        await site.until(second.seq)
        assert [job.id for job in (first, second)] == sorted(
            job.id for job in site.model.jobs(tenant="acme", limit=9)[0]
        )


async def test_a_second_projector_is_refused(site: Site) -> None:
    async with site.projector():
        with pytest.raises(ProjectorBusyError):
            await Projector(site.nc, site.settings).run()


OURS = {"Switchyard-Tenant": "acme", "Switchyard-Kind": "simulate", "Nats-Msg-Id": "w-1"}
STRANGE: tuple[tuple[str, dict[str, str], bytes], ...] = (
    ("job.hello", {}, b"hi"),
    ("job.not-an-id.submitted", {}, b"hi"),
    ("job.{id}", {}, b"hi"),
    ("job.{id}.hello", {}, b"hi"),
    ("job.{id}.succeeded", OURS, b"\xff"),
    ("job.{new}.submitted.simulate-1.50", OURS, b'{"v":1}'),
    ("job.{new}.a.b.c.d.e", {}, b"[" * 500_000),
)


@pytest.mark.parametrize(("subject", "headers", "body"), STRANGE, ids=lambda value: str(value)[:30])
async def test_what_cannot_be_read_is_set_aside_and_passed(
    site: Site, subject: str, headers: dict[str, str], body: bytes
) -> None:
    job = await site.submit()
    subject = subject.format(id=job.id, new=new_id())
    ack = await site.nc.jetstream().publish(subject, body, headers=headers)
    async with site.projector():
        after = await site.submit()
        await site.until(after.seq)
        assert site.model.job(after.id) == after
    kept = await last_message(
        site.nc, subjects.QUARANTINE, subjects.quarantined("JOBS", ack.seq), timeout_s=20
    )
    assert kept is not None
    reference = quarantine.DECODER.decode(kept.data)
    assert (reference.stream, reference.seq, reference.subject) == ("JOBS", ack.seq, subject)
    assert (reference.size_bytes, reference.tenant) == (len(body), headers.get("Switchyard-Tenant", ""))
    rows, rebuilt = site.rows(), await site.rebuilt()
    assert all(rows[table] == rebuilt[table] for table in TABLES)


async def test_an_event_of_a_newer_version_is_passed_and_marks_its_job(site: Site) -> None:
    job = await site.submit()
    body = b'{"v":1,"at":"2026-01-02T03:04:05Z"}'
    await site.nc.jetstream().publish(subjects.job_event(job.id, "teleported"), body, headers=OURS)
    async with site.projector():
        after = await site.submit()
        await site.until(after.seq)
        found = site.model.job(job.id)
        assert found == await site.store.load(job.id)
    assert found is not None
    assert found.damage is not None
    assert (found.damage.newer, found.damage.event, found.status) == (True, "teleported", Status.QUEUED)
    assert site.model.jobs(tenant="acme", states=["damaged"], limit=9)[0] == [found]
    with pytest.raises(NewerVersionError):
        await site.store.transition(job.id, Wake(now=datetime.now(UTC)), actor="keeper")


async def test_a_read_model_with_marks_of_a_newer_version_is_rebuilt_by_a_version_that_reads_more(
    site: Site,
) -> None:
    job = await site.submit()
    async with site.projector():
        await site.until(job.seq)
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("UPDATE meta SET value = 'fewer events' WHERE key = 'reads'")
        connection.execute("INSERT INTO workers VALUES ('old', 0, 0, 0, 0, 0)")
    async with site.projector():  # no job is marked: nothing would be read in another way
        await site.until(job.seq)
    assert len(site.rows()["workers"]) == 1
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("UPDATE meta SET value = 'fewer events' WHERE key = 'reads'")
        connection.execute("UPDATE counts SET state = 'damaged'")
    async with site.projector():
        await site.until(job.seq)
    assert site.rows()["workers"] == []
    assert site.model.job(job.id) == job


async def test_pages_hold_every_job_once_newest_first(site: Site) -> None:
    async with site.projector():
        jobs = [await site.submit() for _ in range(23)]
        await site.submit(tenant="other")
        await site.until(jobs[-1].seq + 1)
        found: list[str] = []
        cursor = None
        while True:
            page, cursor = site.model.jobs(tenant="acme", cursor=cursor, limit=5)
            found += [job.id for job in page]
            if cursor is None:
                break
    assert found == [job.id for job in reversed(jobs)]


async def test_lists_are_filtered(site: Site) -> None:
    async with site.projector():
        jobs = await site.run_some(24)
        await site.until(max(job.seq for job in jobs))
        model = site.model
        for state in ("queued", "running", "succeeded", "retrying", "cancelled"):
            wanted = {job.id for job in jobs if job.status.value == state}
            assert {job.id for job in model.jobs(tenant="acme", states=[state], limit=99)[0]} == wanted
        labelled = {job.id for job in jobs if job.labels["team"] == "t1"}
        assert {job.id for job in model.jobs(tenant="acme", labels=[("team", "t1")], limit=99)[0]} == labelled
        middle = jobs[12].created_at
        late = {job.id for job in jobs[12:]}
        assert {job.id for job in model.jobs(tenant=None, created_after=middle, limit=99)[0]} == late
        assert model.jobs(tenant="acme", kinds=["convert"], limit=9)[0] == []
        queued = [job for job in jobs if job.status.value == "queued"]
        waiting = {(queue["priority"]): queue["waiting"] for queue in model.queues(tenant="acme")}
        assert sum(waiting.values()) == len(queued)
        order = sorted(queued, key=lambda job: (-job.priority, job.claimable_seq))
        assert [model.place(job) for job in order] == list(range(len(order)))
        for worker in model.workers():
            running = [job for job in jobs if job.status.value == "running" and job.worker == worker["id"]]
            assert worker["running"] == len(running) == len(model.running_on(worker["id"]))


@pytest.mark.parametrize(
    "cursor",
    ["x", "//", *(base64.urlsafe_b64encode(raw).decode() for raw in (
        b"{}", b"[]", b"[1,2]", b'["x","y"]', b'[1e99,"x"]', b'[-1,"x"]', b'[99999999999999999999,"x"]',
        b"\xff",
    ))],
)  # fmt: skip
async def test_a_made_up_cursor_is_refused(site: Site, cursor: str) -> None:
    async with site.projector():
        await site.until((await site.submit()).seq)
        with pytest.raises(InvalidError) as refused:
            site.model.jobs(tenant="acme", cursor=cursor, limit=5)
    assert refused.value.field == "cursor"


async def test_jobs_that_are_due_are_found_by_time(site: Site) -> None:
    async with site.projector():
        soon = datetime.now(UTC) + timedelta(minutes=1)
        job = await site.submit(start_at=soon)
        await site.until(job.seq)
        assert site.model.due(soon, 9) == []
        assert site.model.due(soon + timedelta(seconds=1), 9) == [job.id]


async def test_files_are_listed_and_counted_until_they_are_deleted(site: Site) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000

    files = Files(site.nc, timeout_s=20)
    async with site.projector(), Inbox(site.nc, "projected.>") as published:
        for tenant in ("acme", "acme", "other"):
            await files.put(
                tenant=tenant, file_id=new_id(), name="a.txt", type="text/plain", body=body(),
                max_bytes=10_000, ttl_s=600,
            )  # fmt: skip
        while site.model.files_kept("acme", clock.now())[1] < 2000:
            await published.next(20)
        page, _ = site.model.files("acme", None, 10, now=clock.now())
        assert [file["size_bytes"] for file in page] == [1000, 1000]
        await files.delete("acme", page[0]["id"])
        while site.model.files_kept("acme", clock.now())[1] > 1000:
            await published.next(20)
    with closing(database.open_reader(site.path)) as connection:
        assert checkpoint.read(connection).files.seq > 0
    rebuilt = await site.rebuilt()
    assert rebuilt["files"] == site.rows()["files"] != []


def test_the_view_of_a_job_has_the_documented_fields() -> None:
    view = msgspec.to_builtins(job_view(Job(id=JobId("x")), {"fraction": 0.5, "stage": "pages", "fence": 3}))
    assert list(view) == [
        "id", "kind", "tenant", "state", "priority", "labels", "attempt", "failures", "max_attempts",
        "depends_on", "parent", "parts", "workflow", "inputs", "key",
        "worker", "progress", "result", "artifacts", "usage", "error", "reason",
        "releases", "next_attempt_at", "rejections", "feedback", "review", "damage", "archived_as",
        "created_at", "updated_at", "started_at", "ended_at",
        "seq",
    ]  # fmt: skip
    assert view["progress"] == {"fraction": 0.5, "stage": "pages", "message": None, "eta_s": None}
