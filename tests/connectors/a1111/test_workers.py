"""The connector under workers on a broker: beside others, and what a server that fails does to jobs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from switchyard.events.commands import RequestCancel
from switchyard.events.events import Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from tests.connectors.a1111.bench import until
from tests.connectors.a1111.double.server import A1111Double
from tests.connectors.a1111.payloads import connector, drawn, slow
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import connector as comfyui
from tests.connectors.comfyui.graphs import scaled
from tests.site import now
from tests.worker.site import Site, open_site


class Two:
    """A site and two servers."""

    def __init__(self, site: Site, doubles: list[A1111Double], urls: list[str]) -> None:
        self.site = site
        self.doubles = doubles
        self.urls = urls

    async def submit(self, payload: dict[str, Any], **fields: Any) -> str:
        return await self.site.submit(kind="a1111", payload=payload, **fields)

    async def ended(self, job: str, name: str = "succeeded") -> Any:
        end = await self.site.final(job)
        assert end.name == name
        return end.event

    async def counted(self, job: str) -> tuple[int, int]:
        state = await self.site.store.load(JobId(job))
        return state.attempt, state.failures

    def runs(self) -> list[int]:
        return [double.execution.runs.total() for double in self.doubles]


@pytest.fixture
async def two(broker: NatsServer) -> AsyncIterator[Two]:
    async with contextlib.AsyncExitStack() as stack:
        doubles = [A1111Double(), A1111Double("forge")]
        urls = [await stack.enter_async_context(each.running()) for each in doubles]
        site = await stack.enter_async_context(open_site(broker.url))
        await stack.enter_async_context(site.keeper())
        yield Two(site, doubles, urls)


async def test_two_servers_of_one_worker_do_a_job_each(two: Two) -> None:
    for double in two.doubles:
        double.execution.held.clear()
    one, other = (connector(url, id=f"a{number}") for number, url in enumerate(two.urls))
    async with two.site.worker(one, other, name="w1", slots=4):
        jobs = [await two.submit(drawn(seed)) for seed in range(4)]
        await until(lambda: all(double.execution.current for double in two.doubles))
        for double in two.doubles:
            double.execution.held.set()
        for job in jobs:
            await two.ended(job)
            assert await two.counted(job) == (1, 0)
    assert sum(two.runs()) == len(jobs)
    assert all(two.runs())


async def test_a_job_goes_to_the_server_that_has_its_checkpoint(two: Two) -> None:
    two.doubles[0].rewrite = lambda path, body: body[:1] if path.endswith("/sd-models") else body
    one, other = (connector(url, id=f"a{number}") for number, url in enumerate(two.urls))
    payload = drawn(override_settings={"sd_model_checkpoint": "xl_dream"})
    async with two.site.worker(one, other, name="w1", slots=4):
        await until(lambda: all("checkpoints" in each.capabilities()["a1111"] for each in (one, other)))
        for _ in range(3):
            needs = {"a1111.checkpoints": {"$has": "xl_dream"}}
            await two.ended(await two.submit(payload, requires=needs))
    assert two.runs() == [0, 3]


async def test_comfyui_and_a1111_are_run_by_one_worker(two: Two) -> None:
    double = ComfyDouble()
    async with (
        double.running() as url,
        two.site.worker(connector(two.urls[0]), comfyui(url), name="w1", slots=4),
    ):
        one = await two.submit(drawn())
        other = await two.site.submit(kind="comfyui", payload={"prompt": scaled()})
        assert (await two.site.final(other)).name == "succeeded"
        event = await two.ended(one)
    assert isinstance(event, Succeeded)
    assert [artifact["type"] for artifact in event.artifacts] == ["image/png"]
    assert event.usage["images"] == 1


async def test_a_lack_of_memory_is_made_up_for_by_the_other_server(two: Two) -> None:
    two.doubles[0].execution.oom_left = 1
    one = connector(two.urls[0], elsewhere_s=3_000)
    async with two.site.worker(one, name="w1", slots=4):
        job = await two.submit(drawn(), max_attempts=5)
        await two.site.until(job, "failed")
        async with two.site.worker(connector(two.urls[1]), name="w2", slots=4):
            await two.ended(job)
    assert two.runs() == [0, 1]
    assert (await two.counted(job))[1] == 1


async def test_parameters_that_are_wrong_end_a_job_at_once(two: Two) -> None:
    async with two.site.worker(connector(two.urls[0]), name="w1", slots=4):
        for payload in (drawn(sampler_name="none"), drawn(script_name="none"), drawn(steps="x")):
            job = await two.submit(payload)
            await two.ended(job, "dead")
            assert await two.counted(job) == (1, 1)


async def test_a_server_that_dies_costs_an_attempt_and_the_job_goes_elsewhere(two: Two) -> None:
    two.doubles[0].execution.held.clear()
    one = connector(two.urls[0], silent_s=0.5)
    async with two.site.worker(one, name="w1", slots=4):
        job = await two.submit(slow())
        await until(lambda: two.doubles[0].execution.current)
        await two.doubles[0].close()
        await two.site.until(job, "failed")
        async with two.site.worker(connector(two.urls[1]), name="w2", slots=4):
            await two.ended(job)
    assert two.runs() == [0, 1]


async def test_jobs_wait_for_a_server_that_does_not_take_the_password(two: Two) -> None:
    two.doubles[0].auth = "me:right"
    one = connector(two.urls[0], username="me", password="wrong")
    async with two.site.worker(one, name="w1", slots=4):
        await until(lambda: one.slots == 0)
        job = await two.submit(drawn())
        two.doubles[0].auth = "me:wrong"
        await two.ended(job)
        assert "failed" not in await two.site.names(job)


async def test_a_cancel_stops_the_work_and_nobody_elses(two: Two) -> None:
    execution = two.doubles[0].execution
    execution.held.clear()
    async with two.site.worker(connector(two.urls[0]), name="w1", slots=4):
        job = await two.submit(slow())
        await until(lambda: execution.current)
        name = execution.current
        command = RequestCancel(now=now(), by="ann", grace_s=two.site.settings.cancel_grace_s)
        await two.site.store.transition(JobId(job), command, actor="user:ann")
        await two.site.nc.publish(f"cancel.{job}", b"")
        await two.ended(job, "cancelled")
        assert execution.interrupted_tasks == [name]
        execution.held.set()
        await two.ended(await two.submit(drawn()))
    assert execution.interrupted_tasks == [name]


async def test_a_worker_that_drains_stops_the_work_and_gives_the_job_back(two: Two) -> None:
    two.doubles[0].execution.held.clear()
    async with two.site.worker(connector(two.urls[0]), name="w1", slots=4):
        job = await two.submit(slow())
        await until(lambda: two.doubles[0].execution.current)
    assert len(two.doubles[0].execution.interrupted_tasks) == 1
    async with two.site.worker(connector(two.urls[1]), name="w2", slots=4):
        await two.ended(job)
    assert two.runs() == [0, 1]
