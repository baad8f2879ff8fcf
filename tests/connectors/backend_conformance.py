"""What holds of every connector whose back end carries attempts on by itself, whoever dies meanwhile.

A test class of each kind inherits `BackendConformance` and provides the fixture `stage`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from structlog.testing import capture_logs

from switchyard.connectors import BackendConnector
from switchyard.events.commands import RequestCancel
from switchyard.events.events import ClaimRenewed, Succeeded
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import connection
from switchyard.services.dispatch.backends.index import Index, Noted
from switchyard.services.worker.worker import Worker
from tests.site import DEADLINE_S, now
from tests.worker.site import Site


class BackEnd(Protocol):
    """How a test brings a back end into the situations that the suite needs."""

    def hold(self) -> None:
        """Work that begins from now on goes on until `go`."""

    def go(self) -> None:
        """Work that was held ends well."""

    def forget(self) -> None:
        """It dies, and is there again without any of its work."""

    def ids(self) -> set[str]:
        """The ids of the work that it has."""

    def runs(self) -> dict[str, int]:
        """How often each work was run to its end, by id."""

    def stopped(self) -> list[str]:
        """The ids of the work that it was asked to stop."""


@dataclass(frozen=True)
class Stage:
    """A site, a back end, what makes instances of its connector, and the payload of jobs that succeed."""

    site: Site
    back_end: BackEnd
    make: Callable[[], BackendConnector]
    payload: dict[str, Any]

    async def submit(self, **fields: Any) -> str:
        return await self.site.submit(kind=self.make().kind, payload=self.payload, **fields)

    @asynccontextmanager
    async def doomed(self, name: str) -> AsyncIterator[Worker]:
        """A worker that dies at the end of the block: it says nothing of what it watched."""
        nc = await connection.connect(self.site.nats_url, name=name)
        settings = self.site.settings.model_copy(update={"slots": 4})
        worker = Worker(nc, [self.make()], settings, worker_id=name)
        task = asyncio.create_task(worker.run())
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.wait([task])
            await nc.close()

    async def left(self, job: str) -> str:
        """What the back end calls the work of a job, once it has it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                state = await self.site.store.load(JobId(job))
                backend = None if state.lease is None else state.lease.backend
                if backend is not None and backend.remote_id in self.back_end.ids():
                    return backend.remote_id
                await asyncio.sleep(0.02)

    async def noted(self) -> list[Noted]:
        """What the index has for the back end."""
        index = Index(self.site.nc, self.site.publisher, timeout_s=10)
        return await index.of(self.make().backend)

    async def until_noted(self, number: int) -> list[Noted]:
        async with asyncio.timeout(DEADLINE_S):
            while len(found := await self.noted()) != number:
                await asyncio.sleep(0.02)
        return found

    async def cancel(self, job: str) -> None:
        command = RequestCancel(now=now(), by="ann", grace_s=self.site.settings.cancel_grace_s)
        await self.site.store.transition(JobId(job), command, actor="user:ann")
        await self.site.nc.publish(f"cancel.{job}", b"")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.02)


class BackendConformance:
    """The suite.

    Args:
        short_s: an attempt's time in which its work begins and does not end.
    """

    short_s = 1.0

    async def test_what_is_left_to_it_comes_to_one_outcome_and_is_forgotten(self, stage: Stage) -> None:
        async with stage.site.worker(stage.make(), slots=4):
            jobs = [await stage.submit() for _ in range(6)]
            for job in jobs:
                assert (await stage.site.final(job)).name == "succeeded"
            await stage.until_noted(0)
        for job in jobs:
            assert (await stage.site.names(job))[:3] == ["submitted", "leased", "claim_renewed"]
        assert len(stage.back_end.runs()) == len(jobs)
        assert set(stage.back_end.runs().values()) == {1}

    async def test_an_attempt_outlives_its_worker_and_keeps_its_number_and_its_id(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.doomed("w1"):
            job = await stage.submit()
            remote_id = await stage.left(job)
        before = await stage.site.store.load(JobId(job))
        async with stage.site.worker(stage.make(), name="w2", slots=4) as worker:
            await until(lambda: worker._slots.running == 1)
            stage.back_end.go()
            end = await stage.site.final(job)
        after = await stage.site.store.load(JobId(job))
        assert isinstance(end.event, Succeeded)
        assert before.lease is not None
        assert (end.event.fence, after.attempt) == (before.lease.fence, 1)
        assert stage.back_end.runs() == {remote_id: 1}
        assert await stage.noted() == []

    async def test_a_worker_that_drains_leaves_the_work_to_the_next_one(self, stage: Stage) -> None:
        stage.back_end.hold()
        with capture_logs() as logs:
            async with stage.site.worker(stage.make(), name="w1", slots=4):
                job = await stage.submit()
                remote_id = await stage.left(job)
        assert [each["outcome"] for each in logs if each["event"] == "job_ended"] == ["left"]
        assert [noted.watcher for noted in await stage.noted()] == [""]
        assert stage.back_end.stopped() == []
        async with stage.site.worker(stage.make(), name="w2", slots=4) as worker:
            await until(lambda: worker._slots.running == 1)
            stage.back_end.go()
            assert (await stage.site.final(job)).name == "succeeded"
        assert stage.back_end.runs() == {remote_id: 1}
        assert "queued" not in await stage.site.names(job)

    async def test_of_two_workers_one_watches_and_the_other_takes_over(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.site.worker(stage.make(), name="w2", slots=4) as other:
            async with contextlib.AsyncExitStack() as first:
                worker = await first.enter_async_context(stage.doomed("w1"))
                jobs = [await stage.submit() for _ in range(4)]
                for job in jobs:
                    await stage.left(job)
                assert worker._slots.running + other._slots.running == len(jobs)
            await until(lambda: other._slots.running == len(jobs))
            stage.back_end.go()
            for job in jobs:
                assert (await stage.site.final(job)).name == "succeeded"
        assert set(stage.back_end.runs().values()) == {1}
        assert len(stage.back_end.runs()) == len(jobs)

    async def test_work_that_it_does_not_know_any_more_is_lost_at_once_and_done_again(
        self, stage: Stage
    ) -> None:
        stage.back_end.hold()
        async with stage.site.worker(stage.make(), slots=4):
            job = await stage.submit()
            await stage.left(job)
            stage.back_end.forget()
            await stage.site.until(job, "queued")
            stage.back_end.go()
            assert (await stage.site.final(job)).name == "succeeded"
        state = await stage.site.store.load(JobId(job))
        assert (state.attempt, state.failures) == (2, 0)

    async def test_work_that_was_lost_while_nobody_watched_is_done_again(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.doomed("w1"):
            job = await stage.submit()
            await stage.left(job)
        stage.back_end.forget()
        stage.back_end.go()
        async with stage.site.worker(stage.make(), name="w2", slots=4):
            assert (await stage.site.final(job)).name == "succeeded"
        assert (await stage.site.store.load(JobId(job))).attempt == 2

    async def test_it_stops_what_is_cancelled_whoever_watches(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.doomed("w1"):
            first, second = await stage.submit(), await stage.submit()
            ids = [await stage.left(first), await stage.left(second)]
            await stage.cancel(first)
            assert (await stage.site.final(first)).name == "cancelled"
            assert stage.back_end.stopped() == ids[:1]
        await stage.cancel(second)  # nobody hears it
        async with stage.site.worker(stage.make(), name="w2", slots=4):
            assert (await stage.site.final(second)).name == "cancelled"
        assert stage.back_end.stopped() == ids

    async def test_it_stops_what_takes_longer_than_it_may(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.site.worker(stage.make(), slots=4):
            job = await stage.submit(attempt_timeout_s=self.short_s, max_attempts=1)
            remote_id = await stage.left(job)
            assert (await stage.site.final(job)).name == "dead"
            await until(lambda: remote_id in stage.back_end.stopped())

    async def test_an_outcome_that_others_report_first_stands(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.site.worker(stage.make(), slots=4) as worker:
            job = await stage.submit()
            await stage.left(job)
            await stage.site.complete(await stage.site.store.load(JobId(job)), {"by": "callback"})
            await until(lambda: worker._slots.running == 0)
            stage.back_end.go()
        end = await stage.site.final(job)
        assert isinstance(end.event, Succeeded)
        assert end.event.result == {"by": "callback"}
        assert (await stage.site.names(job)).count("succeeded") == 1

    async def test_a_lease_is_renewed_while_it_is_seen(self, stage: Stage) -> None:
        stage.back_end.hold()
        async with stage.site.worker(stage.make(), slots=4):
            job = await stage.submit()
            remote_id = await stage.left(job)
            renewals = 0
            async with asyncio.timeout(10 * DEADLINE_S):
                while renewals < 3:
                    await asyncio.sleep(0.1)
                    history = await stage.site.store.history(JobId(job))
                    renewals = sum(isinstance(entry.event, ClaimRenewed) for entry in history)
            stage.back_end.go()
            assert (await stage.site.final(job)).name == "succeeded"
        assert stage.back_end.runs() == {remote_id: 1}

    async def test_a_back_end_is_named_alike_by_all_its_instances(self, stage: Stage) -> None:
        one, two = stage.make(), stage.make()
        assert one.backend == two.backend
        assert isinstance(one.backend, Backend)
        assert one.backend.remote_id == ""
