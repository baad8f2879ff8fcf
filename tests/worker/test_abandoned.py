"""A handler that does not stop is abandoned, and its worker restarts."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from switchyard.events.commands import LoseLease, RequestCancel
from switchyard.events.events import Cancelled, Dead, Queued, Succeeded
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.handlers import Context, Handlers, SyncContext
from switchyard.services.broker.reader import follow
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.records import workers
from switchyard.services.worker.worker import Worker
from tests.broker.notes import value_in
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

KINDS = ("on-the-loop", "in-a-thread")


class Deaf:
    """Handlers that continue whatever stops them, until the test lets them end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.open = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = 0
        self.heard: list[str] = []
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.handlers = Handlers()
        self.handlers.kind(KINDS[0])(self.on_the_loop)
        self.handlers.kind(KINDS[1])(self.in_a_thread)
        self.handlers.kind("patient")(self.patient)
        self.patience = asyncio.Event()

    async def on_the_loop(self, payload: dict[str, Any], context: Context) -> str:
        self.begun.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled == payload.get("stops_after"):
                    raise
        return await self._late(context)

    async def _late(self, context: Context) -> str:
        for call in (lambda: context.log("late"), lambda: context.progress(0.9)):
            self._try(call)
        try:
            await context.save("late", b"late")
        except BaseException as error:  # noqa: BLE001 - what it is, is the question
            self.heard.append(type(error).__name__)
        self.ended.set()
        return "late"

    def in_a_thread(self, _: dict[str, Any], context: SyncContext) -> str:
        self._loop.call_soon_threadsafe(self.begun.set)
        self.go.wait()
        for call in (
            lambda: context.log("late"), lambda: context.progress(0.9), lambda: context.save("late", b"late"),
        ):  # fmt: skip
            self._try(call)
        self._loop.call_soon_threadsafe(self.ended.set)
        return "late"

    async def patient(self, _: dict[str, Any]) -> str:
        await self.patience.wait()
        return "done"

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - what it is, is the question
            self.heard.append(type(error).__name__)

    def let_go(self) -> None:
        self.go.set()
        self.open.set()

    def connectors(self) -> list[CustomConnector]:
        return [CustomConnector(handler, source="-", slots=4) for handler in self.handlers]


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    deaf = Deaf()
    yield deaf
    deaf.let_go()


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, cancel_grace_s=0.6, lost_slots=100) as site:
        yield site


async def until_lost(site: Site, slots: int) -> workers.WorkerRecord:
    async with asyncio.timeout(DEADLINE_S):
        async for message in follow(site.nc, workers.HEARTBEATS.stream, latest=True, timeout_s=20):
            record = value_in(workers.HEARTBEATS, message)
            if record is not None and record.lost_slots == slots:
                return record
    raise AssertionError("unreachable")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_timeout_ends_the_attempt_and_says_that_the_code_still_runs(
    kind: str, site: Site, deaf: Deaf
) -> None:
    async with site.worker(*deaf.connectors(), slots=2) as worker:
        job = await site.submit(kind=kind, attempt_timeout_s=0.2, max_attempts=1)
        dead = (await site.final(job)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert dead.error.code == "timeout"
        assert "still runs" in dead.error.message
        await until_lost(site, 1)
        deaf.patience.set()
        other = await site.submit(kind="patient")  # the slot beside it works on
        assert isinstance((await site.final(other)).event, Succeeded)
        deaf.let_go()
        async with asyncio.timeout(DEADLINE_S):
            await deaf.ended.wait()
        await until_lost(site, 0)
        assert not worker.is_worn
    assert deaf.heard == ["Cancelled"] * 3
    assert await site.names(job) == ["submitted", "leased", "dead"]


async def test_one_that_swallows_its_cancellation_is_asked_again(site: Site, deaf: Deaf) -> None:
    async with site.worker(*deaf.connectors()):
        job = await site.submit(
            kind=KINDS[0], payload={"stops_after": 3}, attempt_timeout_s=0.2, max_attempts=1
        )
        dead = (await site.final(job)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert dead.error.message.endswith("longer than 0.2 s")
    assert deaf.cancelled == 3


async def test_a_finally_that_hangs_does_not_hold_the_job(site: Site, deaf: Deaf) -> None:
    async def hangs(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await deaf.on_the_loop({}, None)  # type: ignore[arg-type]

    async with site.worker(TestConnector(hangs)):
        job = await site.submit(attempt_timeout_s=0.2, max_attempts=1)
        dead = (await site.final(job)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert "still runs" in dead.error.message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancel_that_is_not_obeyed_is_forced_and_never_confirmed(
    kind: str, site: Site, deaf: Deaf
) -> None:
    async with site.keeper(), site.worker(*deaf.connectors()):
        job = await site.submit(kind=kind)
        await deaf.begun.wait()
        command = RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=1.5)
        await site.store.transition(JobId(job), command, actor="user:ann")
        await until_lost(site, 1)
        entry = await site.final(job)
    assert isinstance(entry.event, Cancelled)
    assert (entry.event.cause, entry.actor) == ("forced", "keeper")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_is_stopped_releases_the_job_and_ends(kind: str, site: Site, deaf: Deaf) -> None:
    async with site.worker(*deaf.connectors()) as worker:
        job = await site.submit(kind=kind)
        await deaf.begun.wait()
    assert worker.gone
    assert not worker.is_worn
    queued = (await site.until(job, "queued")).event
    assert isinstance(queued, Queued)
    assert queued.cause == "released"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worn_worker_takes_no_more_jobs_lets_the_others_end_and_ends(
    kind: str, broker: NatsServer, deaf: Deaf
) -> None:
    async with open_site(broker.url, cancel_grace_s=0.6) as site:
        async with site.worker(*deaf.connectors(), slots=3) as worker:
            beside = await site.submit(kind="patient")
            await site.until(beside, "leased")
            job = await site.submit(kind=kind, attempt_timeout_s=0.2, max_attempts=1)
            await site.final(job)
            record = await until_lost(site, 1)
            assert record.id == worker.id
            late = await site.submit(kind="patient")
            deaf.patience.set()
            assert isinstance((await site.final(beside)).event, Succeeded)
            async with asyncio.timeout(DEADLINE_S):
                while not worker.gone:
                    await asyncio.sleep(0.01)
            assert worker.is_worn
            assert await site.names(late) == ["submitted"]
        async with site.worker(*deaf.connectors(), name="w2"):
            assert isinstance((await site.final(late)).event, Succeeded)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_whose_lease_is_lost_is_left_without_a_word(kind: str, site: Site, deaf: Deaf) -> None:
    async with site.worker(*deaf.connectors()) as worker:
        job = await site.submit(kind=kind)
        leased = await site.until(job, "leased")
        await deaf.begun.wait()
        lost = LoseLease(now=datetime.now(UTC), fence=Fence(leased.seq))
        await site.store.transition(JobId(job), lost, actor="test")
        await until_lost(site, 1)
        async with site.worker(TestConnector(lambda _: asyncio.sleep(0), kind), name="w2"):
            assert (await site.final(job)).actor == "worker:w2"
        deaf.let_go()
        await until_lost(site, 0)
        assert not worker.is_worn
    assert await site.names(job) == ["submitted", "leased", "queued", "leased", "succeeded"]


class Broken(TestConnector):
    """A connector that would end its worker with whatever is asked of it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(handler=self.work)
        self.error = error

    async def work(self, _: object) -> str:
        return "done"

    def capabilities(self) -> dict[str, Any]:
        raise self.error

    def watch(self, changed: Callable[[], None]) -> None:  # noqa: ARG002 - as a connector's
        raise self.error

    async def close(self) -> None:
        raise self.error


def errors() -> Iterator[BaseException]:
    yield ValueError("a bug")
    yield KeyboardInterrupt()
    yield SystemExit(3)
    yield asyncio.CancelledError()
    yield BaseExceptionGroup("g", [SystemExit(1)])


@pytest.mark.parametrize("error", list(errors()), ids=lambda error: type(error).__name__)
async def test_a_connector_that_fails_beside_its_jobs_ends_no_worker(
    site: Site, error: BaseException
) -> None:
    async with site.worker(Broken(error)) as worker:
        assert isinstance((await site.final(await site.submit())).event, Succeeded)
    assert isinstance(worker, Worker)
    assert worker.gone


async def test_a_connector_may_raise_what_ends_programs(site: Site) -> None:
    async def exits(_: object) -> None:
        sys.exit(3)

    async with site.worker(TestConnector(exits)):
        for _ in range(2):
            dead = (await site.final(await site.submit(max_attempts=1))).event
            assert isinstance(dead, Dead)
            assert dead.error is not None
            assert (dead.error.code, dead.error.message) == ("internal", "SystemExit: 3")
