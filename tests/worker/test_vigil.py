"""Leases that no handler can block, and what happens to them when the worker or its vigil dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from switchyard.events.events import Dead, Failed, Queued, Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from tests.worker.own_process import OwnProcess, own_process, until_dead
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

ONE_ATTEMPT = ["submitted", "leased", "succeeded"]
TWO_ATTEMPTS = ["submitted", "leased", "queued", "leased", "succeeded"]
ONE_TIMED_OUT = ["submitted", "leased", "failed", "queued", "leased", "succeeded"]


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as opened:
        yield opened


async def leased(site: Site, kind: str, count: int = 1, **fields: object) -> list[str]:
    """Jobs that run."""
    jobs = [await site.submit(kind=kind, **fields) for _ in range(count)]
    for job in jobs:
        await site.until(job, "leased")
    return jobs


async def waiting(site: Site, gate: Path, count: int) -> list[str]:
    """Jobs whose handlers have begun, and run until the gate is there."""
    jobs = []
    for n in range(count):
        began = gate.with_name(f"began-{n}")
        jobs += await leased(site, "wait", payload={"gate": str(gate), "began": str(began)})
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(began.exists):
                await asyncio.sleep(0.02)
    return jobs


async def other(_: Attempt) -> str:
    return "another"


async def results(site: Site, jobs: list[str]) -> list[object]:
    found = []
    for job in jobs:
        event = (await site.final(job)).event
        assert isinstance(event, Succeeded), event
        found.append(event.result)
    return found


async def test_a_blocked_loop_costs_no_job_its_lease(site: Site, tmp_path: Path) -> None:
    await _blocked(site, tmp_path, "block")


async def test_code_that_holds_the_interpreter_lock_costs_no_job_its_lease(
    site: Site, tmp_path: Path
) -> None:
    await _blocked(site, tmp_path, "hold")


async def test_a_thread_that_logs_without_end_costs_no_job_its_lease(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        await worker.vigil()
        jobs = await waiting(site, gate, 3)
        chatty = await leased(site, "chat", payload={"seconds": 3 * site.settings.lease_s})
        await results(site, chatty)
        gate.touch()
        await results(site, jobs)
    assert [await site.names(job) for job in jobs + chatty] == [ONE_ATTEMPT] * 4


async def _blocked(site: Site, tmp_path: Path, kind: str) -> None:
    gate = tmp_path / "gate"
    seconds = int(3 * site.settings.lease_s) + 1
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        await worker.vigil()
        jobs = await waiting(site, gate, 3)
        blocker = await leased(site, kind, payload={"seconds": seconds})
        async with site.worker(*(TestConnector(other, name) for name in ("wait", kind)), name="w2"):
            assert await results(site, blocker) == ["own"]
            gate.touch()
            assert await results(site, jobs) == ["own"] * 3
        said = await worker.until_logged("loop_blocked")
        assert (await worker.until_logged("loop_unblocked"))["seconds"] >= said["seconds"]
    assert [await site.names(job) for job in jobs + blocker] == [ONE_ATTEMPT] * 4
    assert said["seconds"] >= 2
    assert f"in {kind}" in said["stack"].splitlines()[0]
    assert set(said["jobs"]) == {*jobs, *blocker}


async def test_a_worker_that_stays_blocked_loses_its_leases_and_its_late_outcomes(
    site: Site, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with site.keeper(), own_process(site, tmp_path / "log", worker_stall_s=1) as worker:
        await worker.vigil()
        blockers = await leased(site, "block", payload={"seconds": 12})
        async with site.worker(TestConnector(other, "block"), name="w2"):
            assert await results(site, blockers) == ["another"]
            await worker.until_logged("worker_answers_again")
            await worker.until_logged("outcome_rejected")
        again = await site.submit(kind="wait", payload={"gate": str(gate), "began": str(tmp_path / "began")})
        assert await results(site, [again]) == ["own"]
    assert await site.names(blockers[0]) == TWO_ATTEMPTS
    stalled = worker.logged("worker_stalled")
    assert [entry["jobs"] for entry in stalled] == [blockers]


async def kill(worker: OwnProcess, count: int) -> None:
    os.kill(await worker.vigil(count=count), signal.SIGKILL)


async def freeze(worker: OwnProcess, count: int) -> None:
    os.kill(await worker.vigil(count=count), signal.SIGSTOP)


@pytest.mark.parametrize("harm", [kill, freeze])
async def test_leases_survive_their_vigil(site: Site, tmp_path: Path, harm: object) -> None:
    gate = tmp_path / "gate"
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        first = await worker.vigil()
        jobs = await waiting(site, gate, 2)
        await (kill if harm is kill else freeze)(worker, 1)
        await until_dead(first)
        await worker.vigil(count=2)
        blocker = await leased(site, "block", payload={"seconds": int(3 * site.settings.lease_s)})
        async with site.worker(TestConnector(other, "wait"), name="w2"):
            assert await results(site, blocker) == ["own"]
            gate.touch()
            assert await results(site, jobs) == ["own"] * 2
    assert [await site.names(job) for job in jobs + blocker] == [ONE_ATTEMPT] * 3


@pytest.mark.parametrize(("count", "blameless"), [(1, False), (2, True)])
async def test_a_killed_worker_takes_its_vigil_along_which_says_what_it_held(
    site: Site, tmp_path: Path, count: int, *, blameless: bool
) -> None:
    gate = tmp_path / "gate"
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        vigil = await worker.vigil()
        jobs = await waiting(site, gate, count)
        worker.process.kill()
        await until_dead(vigil)
        for job in jobs:
            lost = (await site.until(job, "queued")).event
            assert isinstance(lost, Queued)
            assert (lost.cause, lost.blameless) == ("lease_lost", blameless)


async def test_an_attempt_is_renewed_no_longer_than_it_may_take(site: Site, tmp_path: Path) -> None:
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        await worker.vigil()
        blockers = await leased(site, "block", payload={"seconds": 15}, attempt_timeout_s=0.5)
        async with site.worker(TestConnector(other, "block"), name="w2"):
            assert await results(site, blockers) == ["another"]
        assert [entry["job"] for entry in worker.logged("lease_outstayed")] == blockers
    assert await site.names(blockers[0]) == ONE_TIMED_OUT
    failed = (await site.store.history(JobId(blockers[0])))[2].event
    assert isinstance(failed, Failed)
    assert failed.error.code == "timeout"
    job = await site.store.load(JobId(blockers[0]))
    assert (job.failures, job.innocent) == (1, 0)


async def test_an_attempt_that_outstays_its_time_is_the_last_one_of_those_that_there_may_be(
    site: Site, tmp_path: Path
) -> None:
    async with site.keeper(), own_process(site, tmp_path / "log") as worker:
        await worker.vigil()
        (job,) = await leased(site, "block", payload={"seconds": 15}, attempt_timeout_s=0.5, max_attempts=1)
        async with site.worker(TestConnector(other, "block"), name="w2"):
            dead = (await site.final(job)).event
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.error.code) == ("failures_spent", "timeout")


async def test_a_stopped_worker_ends_its_vigil_and_takes_its_record_away(site: Site, tmp_path: Path) -> None:
    async with own_process(site, tmp_path / "log") as worker:
        vigil = await worker.vigil()
        worker.process.terminate()
        await until_dead(vigil)
        assert await worker.process.wait() == 0


async def test_a_worker_without_a_vigil_says_so_and_renews_on_its_own_loop(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_gate = asyncio.Event()

    async def wait(_: Attempt) -> str:
        await open_gate.wait()
        return "own"

    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    async with open_site(broker.url, vigil=True) as site, site.keeper():
        with structlog.testing.capture_logs() as logs:
            async with site.worker(TestConnector(wait, "wait")):
                jobs = await leased(site, "wait")
                await asyncio.sleep(3 * site.settings.lease_s)
                open_gate.set()
                assert await results(site, jobs) == ["own"]
        assert await site.names(jobs[0]) == ONE_ATTEMPT
    assert "cannot be started" in next(entry["error"] for entry in logs if entry["event"] == "vigil_missing")
