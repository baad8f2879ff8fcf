"""Workers over REST that look after what others have left at a back end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient, JobFailedError
from switchyard.connectors import Attempt, Outcome
from switchyard.events.events import Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.worker import Worker
from tests.broker.shared import SharedBroker
from tests.connectors.backend_connector import DoubleConnector
from tests.gateway.backends.backend_double import BackendDouble
from tests.gateway.leases.test_leases import events_of
from tests.gateway.rest import Gateway, gateway
from tests.switchyard.test_worker import made
from tests.switchyard.test_worker_connectors import only

DEADLINE_S = 150.0
"""Takeovers take seconds each where the machine is idle."""


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(worker.serve())
        try:
            yield
        finally:
            worker.stop()


class Stage:
    """A gateway, a back end, and workers that see it."""

    def __init__(self, api: Gateway, client: AsyncClient, double: BackendDouble, url: str) -> None:
        self.api = api
        self.client = client
        self.double = double
        self._url = url

    def connector(self) -> DoubleConnector:
        return DoubleConnector(self._url, kind=self.api.tenant)

    def worker(self, name: str, **options: Any) -> Worker:
        values = {"connectors": [self.connector()], "slots": 4, "lease_s": 1.5, "vigil": False} | options
        return made(self.api, name=name, **values)

    @contextlib.asynccontextmanager
    async def doomed(self, name: str, **options: Any) -> AsyncIterator[Worker]:
        """A worker that dies at the end of the block: it says nothing of what it looked after."""
        worker = self.worker(name, **options)
        task = asyncio.create_task(worker.serve())
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def submit(self, number: int = 1, **options: Any) -> str:
        return (await self.client.submit(self.api.tenant, {"number": number}, **options)).id

    async def at_backend(self, count: int = 1) -> None:
        await until(lambda: len(self.double.work) >= count)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
async def stage(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Stage]:
    async with (
        gateway(shared_broker.url, tmp_path, lease_s=1.5, timed_lease_s=6.0) as api,
        AsyncClient(api.url, api.token()) as client,
    ):
        double = BackendDouble(list)
        async with double.running() as url:
            yield Stage(api, client, double, url)


async def test_an_attempt_outlives_its_worker_and_keeps_its_number_and_its_id(stage: Stage) -> None:
    stage.double.held.clear()
    async with stage.doomed("one"):
        job = await stage.submit()
        await stage.at_backend()
    assert stage.double.stopped == []
    async with working(stage.worker("two")):
        await until(lambda: len(stage.double.asked) > 0)
        stage.double.held.set()
        assert await stage.client.result(job) == {"number": 1}
    state = await stage.api.store.load(JobId(job))
    assert state.attempt == 1
    assert dict(stage.double.runs) == {f"{job}.1": 1}
    assert "queued" not in await events_of(stage.api, job)
    ends = [each for each in await stage.api.store.history(JobId(job)) if isinstance(each.event, Succeeded)]
    assert [end.actor for end in ends] == [f"worker:rest.{stage.api.tenant}.two"]


async def test_a_worker_that_drains_leaves_the_work_to_the_next_one(stage: Stage) -> None:
    stage.double.held.clear()
    async with working(stage.worker("one", drain_s=0.1)):
        job = await stage.submit()
        await stage.at_backend()
    assert stage.double.stopped == []
    async with working(stage.worker("two")):
        stage.double.held.set()
        assert await stage.client.result(job) == {"number": 1}
    assert dict(stage.double.runs) == {f"{job}.1": 1}
    assert "queued" not in await events_of(stage.api, job)


async def test_of_two_workers_the_other_takes_over_what_one_had(stage: Stage) -> None:
    stage.double.held.clear()
    async with working(stage.worker("two")):
        async with stage.doomed("one"):
            jobs = [await stage.submit(number) for number in range(4)]
            await stage.at_backend(4)
        stage.double.held.set()
        assert [await stage.client.result(job) for job in jobs] == [{"number": n} for n in range(4)]
    assert dict(stage.double.runs) == {f"{job}.1": 1 for job in jobs}


@pytest.mark.parametrize("is_there", [False, True], ids=["comes afterwards", "waits with a claim"])
async def test_what_is_found_takes_slots_though_none_may_be_free(stage: Stage, *, is_there: bool) -> None:
    stage.double.held.clear()
    jobs = [await stage.submit(number) for number in range(3)]
    connector = stage.connector()
    # Its own leases outlast what keeps a busy machine: with one of them a slot would come free.
    two = stage.worker("two", connectors=[connector], slots=1, lease_s=20.0, poll_s=8.0)
    async with contextlib.AsyncExitStack() as stack:
        async with stage.doomed("one"):
            await stage.at_backend(3)
            if is_there:
                await stack.enter_async_context(working(two))
        if not is_there:
            await stack.enter_async_context(working(two))
        await until(lambda: len(connector.attached) == 3)
        other = await stage.submit(9)
        while (await stage.client.get(other)).state != "queued":  # a claim that was under way gives it back
            await asyncio.sleep(0.02)
        assert len(stage.double.work) == 3
        stage.double.held.set()
        for job in [*jobs, other]:
            await stage.client.result(job)
    assert stage.double.runs.total() == 4
    assert (await stage.api.store.load(JobId(other))).failures == 0


async def test_what_is_cancelled_while_nobody_watches_is_stopped_by_the_next(stage: Stage) -> None:
    stage.double.held.clear()
    async with stage.doomed("one"):
        job = await stage.submit()
        await stage.at_backend()
    await stage.client.cancel(job)
    async with working(stage.worker("two")):
        with pytest.raises(JobFailedError):
            await stage.client.result(job)
    assert (await stage.client.get(job)).state == "cancelled"
    assert stage.double.stopped == [f"{job}.1"]


async def test_what_cannot_be_stopped_is_cancelled_by_force(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    class Stubborn(DoubleConnector):
        stops = 0

        async def stop(self, attempt: Attempt, remote_id: str) -> None:  # noqa: ARG002 - it says no in any case
            self.stops += 1
            raise OSError("it does not answer")

    double = BackendDouble(list)
    double.held.clear()
    settings: dict[str, Any] = {"lease_s": 1.5, "timed_lease_s": 6.0, "cancel_grace_s": 2.0}
    async with (
        gateway(shared_broker.url, tmp_path, **settings) as api,
        api.keeper(),
        AsyncClient(api.url, api.token()) as client,
        double.running() as url,
    ):
        connector = Stubborn(url, kind=api.tenant)
        async with working(made(api, connectors=[connector], lease_s=1.5, vigil=False)):
            job = await client.submit(api.tenant, {"number": 1})
            await until(lambda: bool(double.work))
            await client.cancel(job.id)
            with pytest.raises(JobFailedError):
                await client.result(job.id)
        assert connector.stops >= 1
        (end,) = [each for each in await api.store.history(JobId(job.id)) if each.name == "cancelled"]
        assert end.event.cause == "forced"  # type: ignore[union-attr]


async def test_what_takes_longer_than_it_may_is_stopped_by_whoever_watches(stage: Stage) -> None:
    stage.double.held.clear()
    async with stage.doomed("one"):
        job = await stage.submit(attempt_timeout_s=6.0, max_attempts=1)
        await stage.at_backend()
    async with working(stage.worker("two")):
        with pytest.raises(JobFailedError) as failed:
            await stage.client.result(job)
        await until(lambda: stage.double.stopped == [f"{job}.1"])
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "timeout"


async def test_work_that_was_lost_while_nobody_watched_is_done_again(stage: Stage) -> None:
    stage.double.held.clear()
    async with stage.doomed("one"):
        job = await stage.submit(max_attempts=1)
        await stage.at_backend()
    stage.double.forget()
    stage.double.held.set()
    async with working(stage.worker("two")):
        assert await stage.client.result(job) == {"number": 1}
    state = await stage.api.store.load(JobId(job))
    assert (state.attempt, state.failures) == (2, 0)


async def test_a_worker_that_lives_beyond_many_leases_keeps_its_own(stage: Stage) -> None:
    stage.double.held.clear()
    one, two = stage.connector(), stage.connector()
    async with working(stage.worker("one", connectors=[one])):
        job = await stage.submit()
        await stage.at_backend()
        async with working(stage.worker("two", connectors=[two])):
            async with asyncio.timeout(DEADLINE_S):
                while (await events_of(stage.api, job)).count("claim_renewed") < 3:
                    await asyncio.sleep(0.1)
            stage.double.held.set()
            assert await stage.client.result(job) == {"number": 1}
    assert (one.attached, two.attached) == ([], [])


async def test_a_large_result_of_what_was_found_is_stored(stage: Stage) -> None:
    class Wordy(DoubleConnector):
        async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
            await super().attach(attempt, remote_id)
            reference = await attempt.save("note.txt", b"note", media_type="text/plain")
            attempt.progress(1.0, stage="found")
            attempt.log("found")
            return Outcome("x" * 400_000, (reference,))

    stage.double.held.clear()
    async with stage.doomed("one"):
        job = await stage.submit()
        await stage.at_backend()
    stage.double.held.set()
    async with working(stage.worker("two", connectors=[Wordy(stage.double.url, kind=stage.api.tenant)])):
        await stage.client.result(job)
    names = [artifact["name"] for artifact in (await stage.client.get(job)).artifacts]
    assert names == ["note.txt", "result.json"]


async def test_a_change_that_a_connector_reports_is_a_reason_to_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its back end's return."""

    class Away(DoubleConnector):
        def watch(self, changed: Callable[[], None]) -> None:
            self.changed = changed

    monkeypatch.setattr("switchyard.worker.every_s", lambda _lease_s: 3600.0)
    connector = Away(stage.double.url, kind=stage.api.tenant)
    stage.double.held.clear()
    async with contextlib.AsyncExitStack() as stack:
        one = stage.worker("one", drain_s=0.1)
        first = asyncio.create_task(one.serve())
        job = await stage.submit()
        await stage.at_backend()
        two = stage.worker("two", connectors=[connector])
        await stack.enter_async_context(working(two))
        await until(lambda: bool(two._desks) and two._desks[0]._revision is not None)  # it has looked once
        one.stop()
        await first
        assert connector.attached == []
        connector.changed()
        await until(lambda: connector.attached == [f"{job}.1"])
        stage.double.held.set()
        assert await stage.client.result(job) == {"number": 1}


async def test_a_connector_that_names_no_back_end_takes_no_other_down(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Shy(DoubleConnector):
        @property
        def backend(self) -> Any:
            raise SystemExit(3)

    shy = Shy(stage.double.url, kind="shy")
    with caplog.at_level(logging.ERROR):
        async with working(stage.worker("one", connectors=[shy, stage.connector()])):
            assert await stage.client.result(await stage.submit()) == {"number": 1}
    assert "does not name its back end" in caplog.text


async def test_it_stands_beside_handlers_in_processes_of_their_own(stage: Stage) -> None:
    stage.double.held.clear()
    async with stage.doomed("one", handlers=only("join")):
        job = await stage.submit()
        await stage.at_backend()
    file = await stage.client.upload(b"hello", name="word.txt")
    async with working(stage.worker("two", handlers=only("join"))):
        beside = await stage.client.submit("join", {"file": file.id})
        await stage.client.result(beside.id)
        stage.double.held.set()
        assert await stage.client.result(job) == {"number": 1}
    assert dict(stage.double.runs) == {f"{job}.1": 1}
