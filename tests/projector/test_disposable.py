"""The read model is disposable: whatever becomes of its file, it is noticed and rebuilt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.events.commands import Archive, RequestCancel
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections import checkpoint, database
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.connection import connect
from switchyard.services.broker.jetstream import api as ask
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.cli.doctor import storage
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import Projector, rebuild
from switchyard.services.settings import Settings
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

JOBS = 300
PAGE = 4096


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as found:
        yield found


async def fill(api: Gateway, count: int = JOBS) -> set[str]:
    answers = await api.bulk(*({"kind": "noop"} for _ in range(count)))
    return {answer["id"] for answer in answers}


async def listed(api: Gateway, wanted: set[str]) -> None:
    """Return when the list of jobs is what it must be; until then it may only say that it is not there."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found, cursor, status = set(), "", 200
            while cursor is not None and status == 200:
                answer = await api.get(f"/v1/jobs?limit=500{cursor and '&cursor=' + cursor}")
                status = answer.status
                if status == 200:
                    found |= {job["id"] for job in answer.json["jobs"]}
                    cursor = answer.json["cursor"]
            if status == 200 and found == wanted:
                return
            assert status in (200, 503), answer
            await asyncio.sleep(0.05)


def path_of(api: Gateway) -> Path:
    return database.path_in(api.settings.data_dir)


def settle(path: Path) -> None:
    """Have all pages in the file itself, where what is not in it yet would stand for what is harmed."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def spoil(path: Path) -> None:
    """Overwrite all pages but the first, as a bad disk would."""
    settle(path)
    with path.open("r+b") as file:
        file.seek(PAGE)
        file.write(os.urandom(path.stat().st_size - PAGE))


def spoil_head(path: Path) -> None:
    settle(path)
    with path.open("r+b") as file:
        file.write(b"not a database" * 100)


def truncate(path: Path) -> None:
    settle(path)
    os.truncate(path, 2 * PAGE)


def spoil_row(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE jobs SET doc = x'00ff'")


def delete(path: Path) -> None:
    database.remove(path)


def delete_alone(path: Path) -> None:
    path.unlink()


def delete_directory(path: Path) -> None:
    """All but the secrets, without which the test's own tokens would count no more."""
    for file in path.parent.glob(path.name + "*"):
        file.unlink()


def put_another(path: Path) -> None:
    other = path.with_name("other")
    database.open_writer(other, "another log").close()
    other.replace(path)


HARM = (spoil, spoil_head, truncate, spoil_row, delete, delete_alone, delete_directory, put_another)


@pytest.mark.parametrize("harm", HARM)
async def test_a_file_that_is_harmed_under_a_running_projector_is_rebuilt_by_itself(
    api: Gateway, harm: Callable[[Path], None]
) -> None:
    jobs = await fill(api)
    await listed(api, jobs)
    harm(path_of(api))
    await listed(api, jobs)
    jobs |= await fill(api, 5)
    await listed(api, jobs)


@pytest.mark.parametrize("harm", HARM)
async def test_a_file_that_was_harmed_between_two_projectors_is_rebuilt(
    broker: NatsServer, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        jobs, tenant = await fill(api), api.tenant
        await listed(api, jobs)
    harm(database.path_in(tmp_path))
    async with gateway(broker.url, tmp_path) as api:
        api.tenant = tenant
        await listed(api, jobs)
        jobs |= await fill(api, 5)
        await listed(api, jobs)


async def test_damage_that_the_projector_itself_meets_ends_nothing(api: Gateway) -> None:
    jobs = await fill(api)
    await listed(api, jobs)
    spoil(path_of(api))
    jobs |= await fill(api, 50)  # nobody reads meanwhile
    await listed(api, jobs)


async def test_rebuild_builds_a_damaged_read_model(api: Gateway) -> None:
    jobs = await fill(api)
    await listed(api, jobs)
    spoil_head(path_of(api))
    await rebuild(api.nc, api.settings)
    await listed(api, jobs)


async def test_a_keeper_goes_on_while_the_read_model_is_damaged(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, projector=False, lease_s=1.0, sweep_s=0.1) as api:
        await fill(api, 5)
        spoil_head(path_of(api))
        model = ReadModel(path_of(api))
        keeper = Keeper(api.nc, api.settings, model)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            job = await api.submit(delay_s=1)
            async with asyncio.timeout(DEADLINE_S):
                while (await api.get(f"/v1/jobs/{job['id']}")).json["state"] != "queued":
                    await asyncio.sleep(0.05)
            with pytest.raises(UnavailableError):
                await keeper.sweep.once(group)
            assert not task.done()
            task.cancel()


async def test_readiness_names_a_read_model_that_cannot_be_read_and_still_looks_at_the_rest(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, projector=False) as api:
        spoil_head(path_of(api))
        answer = await api.get("/readyz")
        assert answer.status == 503
        checks = answer.json["checks"]
        assert not checks["read_model"]["ok"]
        assert "damaged" in checks["read_model"]["error"]
        assert checks["keeper"]["ok"]
        assert checks["live"]["ok"]


@pytest.mark.parametrize("harm", [spoil, spoil_head, truncate])
async def test_doctor_says_that_the_read_model_is_damaged_and_what_to_do(
    broker: NatsServer, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        await listed(api, await fill(api))
    settings = Settings(data_dir=tmp_path)
    assert storage.read_model(settings).status == "ok"
    harm(path_of(api))
    found = storage.read_model(settings)
    assert (found.status, "rebuild" in found.advice) == ("fail", True)


# --- Another log


@contextlib.asynccontextmanager
async def restored(server: NatsServer, tmp_path: Path) -> AsyncIterator[None]:
    """Put the broker's data back to what it was when the block began."""
    data, copy = server._files.directory, tmp_path / "copy"
    await server.stop()
    shutil.copytree(data / "jetstream", copy)
    await server.start()
    yield
    await server.stop()
    shutil.rmtree(data / "jetstream")
    shutil.copytree(copy, data / "jetstream")
    await server.start()


async def settled(api: Gateway) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not api.nc.is_connected or (await api.get("/readyz")).status != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("more", [0, 10, 30, 60])
async def test_lists_follow_older_data_of_the_broker_that_was_restored_under_a_running_projector(
    broker: NatsServer, tmp_path: Path, more: int
) -> None:
    async with gateway(broker.url, tmp_path / "data") as api:
        jobs = await fill(api, 30)
        async with restored(broker, tmp_path):
            await settled(api)
            await listed(api, jobs | await fill(api, 30))
        await settled(api)
        if more:
            jobs |= await fill(api, more)
        await listed(api, jobs)


@pytest.mark.parametrize("more", [0, 10, 30, 60])
async def test_lists_follow_older_data_that_was_restored_while_no_projector_ran(
    broker: NatsServer, tmp_path: Path, more: int
) -> None:
    async with gateway(broker.url, tmp_path / "data") as api:
        jobs, tenant = await fill(api, 30), api.tenant
    async with restored(broker, tmp_path), gateway(broker.url, tmp_path / "data") as api:
        await fill(api, 30)
    async with gateway(broker.url, tmp_path / "data", projector=False) as api:
        api.tenant = tenant
        if more:
            jobs |= await fill(api, more)
    async with gateway(broker.url, tmp_path / "data") as api:
        api.tenant = tenant
        await listed(api, jobs)


async def test_a_log_that_was_deleted_and_made_again_is_followed(api: Gateway) -> None:
    await listed(api, await fill(api, 30))
    jobs = (await ask(api.nc, "STREAM.INFO.JOBS", timeout_s=20))["config"]
    await ask(api.nc, "STREAM.DELETE.JOBS", timeout_s=20)
    await ask(api.nc, "STREAM.CREATE.JOBS", jobs, timeout_s=20)
    await listed(api, await fill(api, 40))


async def test_a_job_archived_while_no_projector_ran_is_no_reason_to_rebuild(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        await listed(api, await fill(api, 5))
        job = await api.submit()
        cancel = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=1)
        ended = (await api.store.transition(job["id"], cancel, actor="user:ann")).job
        model = ReadModel(path_of(api))
        async with asyncio.timeout(DEADLINE_S):
            while model.checkpoint().seq < ended.seq:
                await asyncio.sleep(0.02)
        before = model.checkpoint()
    nc = await connect(broker.url, name="test")
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(Keeper(nc, api.settings).run())
        async with gateway(broker.url, tmp_path, projector=False) as api:
            await api.store.transition(job["id"], Archive(now=datetime.now(UTC)), actor="user:ann")
            async with asyncio.timeout(DEADLINE_S):
                while "error" not in await ask(nc, "STREAM.MSG.GET.JOBS", {"seq": before.seq}, timeout_s=20):
                    await asyncio.sleep(0.02)
        keeper.cancel()
    async with gateway(broker.url, tmp_path) as api:
        await listed_state(api, model, job["id"])
        assert model.checkpoint().database_id == before.database_id
    model.close()
    await nc.close()


async def listed_state(api: Gateway, model: ReadModel, job_id: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (job := model.job(JobId(job_id))) is None or job.status.value != "archived":
            await asyncio.sleep(0.02)


# --- The keeper's own place


@pytest.mark.parametrize(
    ("stream", "consumer"),
    [
        (subjects.JOBS, subjects.KEEPER_EVENTS), (subjects.JOBS, subjects.KEEPER_FINALS),
        (subjects.JOBS, subjects.KEEPER_LEDGER),
        (subjects.JOBS, subjects.KEEPER_PARTS),
        (subjects.TIMERS, subjects.KEEPER_TIMERS), (subjects.SCHEDULES, subjects.KEEPER_SCHEDULES),
    ],
)  # fmt: skip
async def test_a_keeper_whose_consumer_was_deleted_makes_it_again(
    api: Gateway, stream: str, consumer: str
) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Keeper(api.nc, api.settings).run())
        await ask(api.nc, f"CONSUMER.DELETE.{stream}.{consumer}", timeout_s=20)
        job = await api.submit(delay_s=1)
        async with asyncio.timeout(DEADLINE_S):
            while "error" in await ask(api.nc, f"CONSUMER.INFO.{stream}.{consumer}", timeout_s=20):
                await asyncio.sleep(0.05)
            while (await api.get(f"/v1/jobs/{job['id']}")).json["state"] != "queued":
                await asyncio.sleep(0.05)
        task.cancel()


def test_the_checkpoint_names_the_log_and_the_message_that_it_stands_on(tmp_path: Path) -> None:
    place = checkpoint.Place("log", 7, 1234567890123456789, "job.x.submitted")
    with contextlib.closing(database.open_writer(tmp_path / "x", "log", "files")) as writer, writer:
        checkpoint.write(writer, "log", place)
        found = checkpoint.read(writer)
    assert (found.log, found.seq, found.files) == (place, 7, checkpoint.Place("files"))


async def test_a_second_projector_takes_no_lock_that_is_held(api: Gateway) -> None:
    with pytest.raises(Exception, match="another projector writes"):
        await Projector(api.nc, api.settings).run()
    await rebuild(api.nc, api.settings)  # its holder's name still stands in it
