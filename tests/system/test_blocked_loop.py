"""A handler that blocks its worker's event loop costs its neighbours nothing, on NATS and over REST alike."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from switchyard.client import AsyncClient
from tests.sizes import in_drill
from tests.system.deployment import Deployment, Part

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DEADLINE_S = 90.0
LEASE_S = 5.0
BLOCKED_S = 2 * LEASE_S + 1
ONE_START = ["submitted", "leased", "succeeded"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path, lease_s=LEASE_S, started={"worker"}, cancel_grace_s=2) as opened:
        await opened.start("projector", "projector")
        await opened.start_gateway()
        await opened.start("keeper", "keeper")
        yield opened


@pytest.fixture
async def client(site: Deployment) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(site.url, site.token) as opened:
        yield opened


async def rest_worker(site: Deployment, *, slots: int = 3, stall_s: float = 60.0, where: str = "run") -> Part:
    arguments = str(slots), str(LEASE_S), str(stall_s), where
    return await site.start("rest", *arguments, module="tests.switchyard.blocking_worker")


async def until_logged(part: Part, word: str, *, count: int = 1) -> str:
    async with asyncio.timeout(DEADLINE_S):
        while (text := part.log.read_text()).count(word) < count:
            assert part.process.returncode is None, text
            await asyncio.sleep(0.05)
    return text


async def submit(client: AsyncClient, kind: str, directory: Path, *, count: int = 1) -> list[str]:
    """Jobs whose handlers have begun."""
    jobs = []
    for n in range(count):
        began = directory / f"began-{kind}-{n}"
        payload = {"gate": str(directory / "gate"), "began": str(began), "seconds": int(BLOCKED_S)}
        jobs.append((await client.submit(kind, payload)).id)
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(began.exists):
                await asyncio.sleep(0.02)
    return jobs


async def names(client: AsyncClient, job: str) -> list[str]:
    found = [event.type async for event in client.events(job) if event.type != "claim_renewed"]
    return ["leased" if name == "claimed" else name for name in found]


def vigil_of(part: Part) -> psutil.Process | None:
    children = psutil.Process(part.pid).children()
    return next((child for child in children if "_vigil" in " ".join(child.cmdline())), None)


async def until_gone(process: psutil.Process) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("rest", "kind"),
    [(False, "block"), (True, "hold"), in_drill(False, "hold"), in_drill(True, "block")],
)
async def test_a_blocked_loop_costs_no_job_its_lease(
    site: Deployment, client: AsyncClient, tmp_path: Path, kind: str, *, rest: bool
) -> None:
    if rest:
        worker = await rest_worker(site)
    else:
        source = ("--handlers", "tests.worker.blockers:handlers")
        worker = await site.start("worker", "worker", *source, "--slots", "3")
    await until_logged(worker, "vigil_up")
    waiting = await submit(client, "wait", tmp_path, count=2)
    blocker = await submit(client, kind, tmp_path)
    assert (await client.wait(blocker[0])).result == "own"
    (tmp_path / "gate").touch()
    for job in waiting:
        assert (await client.wait(job)).result == "own"
    assert [await names(client, job) for job in waiting + blocker] == [ONE_START] * 3
    said = await until_logged(worker, "loop_blocked")
    assert f"in {kind}" in said
    assert blocker[0] in said
    await until_logged(worker, "loop_unblocked")


@pytest.mark.drill
async def test_a_worker_in_a_thread_of_a_program_that_forks_keeps_its_leases(
    site: Deployment, client: AsyncClient, tmp_path: Path
) -> None:
    worker = await rest_worker(site, where="thread")
    await until_logged(worker, "vigil_up")
    waiting = await submit(client, "wait", tmp_path)
    blocker = await submit(client, "block", tmp_path)
    assert (await client.wait(blocker[0])).result == "own"
    (tmp_path / "gate").touch()
    assert (await client.wait(waiting[0])).result == "own"
    assert [await names(client, job) for job in waiting + blocker] == [ONE_START] * 2
    vigil = vigil_of(worker)
    assert vigil is not None
    await worker.kill()
    await until_gone(vigil)


async def test_a_job_given_to_a_blocked_worker_starts_again_and_the_stale_lease_runs_nothing(
    site: Deployment, client: AsyncClient, tmp_path: Path
) -> None:
    worker = await rest_worker(site, slots=2)
    await until_logged(worker, "vigil_up")
    blocker = await submit(client, "block", tmp_path)
    (tmp_path / "gate").touch()
    began = tmp_path / "began"
    late = await client.submit("wait", {"gate": str(tmp_path / "gate"), "began": str(began)})
    assert (await client.wait(blocker[0])).result == "own"
    assert (await client.wait(late.id)).result == "own"
    assert began.read_text().count("began") == 1
    assert await names(client, blocker[0]) == ONE_START


async def test_without_a_vigil_there_is_no_process(
    site: Deployment, client: AsyncClient, tmp_path: Path
) -> None:
    worker = await rest_worker(site, where="bare")
    waiting = await submit(client, "wait", tmp_path)
    assert vigil_of(worker) is None
    blocker = await submit(client, "block", tmp_path)
    await client.cancel(blocker[0])
    await until_logged(worker, f"attempt of job {waiting[0]} is stopped: the lease is gone")
    (tmp_path / "gate").touch()
    assert (await client.wait(waiting[0])).attempt == 2


async def test_a_worker_over_rest_that_stays_blocked_loses_its_leases(
    site: Deployment, client: AsyncClient, tmp_path: Path
) -> None:
    worker = await rest_worker(site, slots=2, stall_s=1.0)
    await until_logged(worker, "vigil_up")
    waiting = await submit(client, "wait", tmp_path)
    blocker = await submit(client, "block", tmp_path)
    await client.cancel(blocker[0])  # else it would come again, and block again
    said = await until_logged(worker, f"attempt of job {waiting[0]} is stopped: the lease is gone")
    assert "worker_stalled" in said
    (tmp_path / "gate").touch()
    assert (await client.wait(waiting[0])).attempt == 2


async def test_a_lease_that_goes_while_the_loop_is_blocked_stops_its_handler_and_no_other(
    site: Deployment, client: AsyncClient, tmp_path: Path
) -> None:
    worker = await rest_worker(site)
    await until_logged(worker, "vigil_up")
    cancelled, other = await submit(client, "wait", tmp_path, count=2)
    blocker = await submit(client, "block", tmp_path)
    await client.cancel(cancelled)
    assert (await client.wait(cancelled)).state == "cancelled"
    await until_logged(worker, f"attempt of job {cancelled} is stopped")
    assert (await client.wait(blocker[0])).result == "own"
    (tmp_path / "gate").touch()
    assert (await client.wait(other)).result == "own"
    assert await names(client, other) == ONE_START


@pytest.mark.parametrize("harm", [signal.SIGKILL, in_drill(signal.SIGSTOP)], ids=["killed", "stopped"])
async def test_a_vigil_that_dies_or_hangs_is_replaced_and_a_worker_killed_leaves_none(
    site: Deployment, client: AsyncClient, tmp_path: Path, harm: signal.Signals
) -> None:
    worker = await rest_worker(site)
    await until_logged(worker, "vigil_up")
    first = vigil_of(worker)
    assert first is not None
    assert site.token not in " ".join(first.cmdline())
    os.kill(first.pid, signal.SIGTERM)
    os.kill(first.pid, signal.SIGINT)
    waiting = await submit(client, "wait", tmp_path)
    assert first.is_running()
    os.kill(first.pid, harm)
    await until_logged(worker, "vigil_up", count=2)
    await until_gone(first)
    second = vigil_of(worker)
    assert second is not None
    assert second.pid != first.pid
    blocker = await submit(client, "block", tmp_path)
    assert (await client.wait(blocker[0])).result == "own"
    (tmp_path / "gate").touch()
    assert (await client.wait(waiting[0])).result == "own"
    assert await names(client, waiting[0]) == ONE_START
    await submit(client, "fork", tmp_path)
    forked = [child for child in psutil.Process(worker.pid).children() if child.pid != second.pid]
    assert len(forked) == 1  # it has all descriptors that its parent has
    await worker.kill()
    await until_gone(second)
    assert forked[0].is_running()
    forked[0].kill()


async def test_a_worker_that_ends_in_order_ends_its_vigil(site: Deployment) -> None:
    worker = await rest_worker(site)
    await until_logged(worker, "vigil_up")
    vigil = vigil_of(worker)
    assert vigil is not None
    assert await worker.stop() == 0
    await until_gone(vigil)
