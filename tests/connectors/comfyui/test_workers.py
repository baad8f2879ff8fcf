"""The connector under workers on a broker: what a server that fails does to jobs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from switchyard.events.events import Succeeded
from switchyard.events.lane import LaneKey
from switchyard.events.retry import RetryPolicy
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.comfyui.health import REFUSALS
from switchyard.services.connectors.comfyui.section import ComfySection
from switchyard.services.dispatch.reasons.verdicts import Situation, Verdict, verdict_on
from switchyard.services.records.workers import WorkerRecord
from tests.connectors.backend_conformance import until
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import connector, scaled, slow, through
from tests.worker.site import Site, open_site


class Two:
    """Two servers, each with a worker."""

    def __init__(self, site: Site, doubles: list[ComfyDouble], urls: list[str]) -> None:
        self.site = site
        self.doubles = doubles
        self.urls = urls


@pytest.fixture
async def two(broker: NatsServer) -> AsyncIterator[Two]:
    async with contextlib.AsyncExitStack() as stack:
        doubles = [ComfyDouble("2025"), ComfyDouble("2026")]
        urls = [await stack.enter_async_context(each.running()) for each in doubles]
        site = await stack.enter_async_context(open_site(broker.url, timed_lease_s=6.0))
        await stack.enter_async_context(site.keeper())
        yield Two(site, doubles, urls)


async def test_jobs_go_to_the_other_server_while_one_is_down(two: Two) -> None:
    site = two.site
    one = connector(two.urls[0], backend="one", silent_s=0.5)
    other = connector(two.urls[1], backend="other", silent_s=0.5)
    async with site.worker(one, name="w1", slots=4), site.worker(other, name="w2", slots=4):
        await two.doubles[0].close()
        await until(lambda: one.slots == 0)
        jobs = [await site.submit(kind="comfyui", payload={"prompt": scaled()}) for _ in range(4)]
        for job in jobs:
            assert (await site.final(job)).name == "succeeded"
            assert "released" not in await site.names(job)
        assert two.doubles[1].execution.runs.total() == len(jobs)
        await two.doubles[0].listen()
        await until(lambda: one.slots == 1)
        two.doubles[1].silent.set()
        await until(lambda: other.slots == 0)
        job = await site.submit(kind="comfyui", payload={"prompt": scaled()})
        assert (await site.final(job)).name == "succeeded"
        assert two.doubles[0].execution.runs.total() == 1
        two.doubles[1].silent.clear()


async def test_the_job_of_a_server_that_dies_goes_elsewhere_uncounted(two: Two) -> None:
    site = two.site
    one = connector(two.urls[0], backend="one", silent_s=0.5)
    other = connector(two.urls[1], backend="other", silent_s=0.5)
    async with site.worker(one, name="w1", slots=4):
        job = await site.submit(kind="comfyui", payload={"prompt": slow(30)})
        await until(lambda: two.doubles[0].execution.running is not None)
        async with site.worker(other, name="w2", slots=4):
            await two.doubles[0].close()
            assert (await site.final(job)).name == "succeeded"
    state = await site.store.load(JobId(job))
    assert (state.attempt, state.failures) == (2, 0)
    assert two.doubles[1].execution.runs.total() == 1


async def test_a_graph_that_is_not_valid_is_dead_at_once_and_one_without_memory_is_tried_again(
    two: Two,
) -> None:
    site = two.site
    async with site.worker(connector(two.urls[0]), name="w1", slots=4):
        graph = scaled()
        graph["1"]["inputs"]["width"] = 0
        bad = await site.submit(kind="comfyui", payload={"prompt": graph})
        assert (await site.final(bad)).name == "dead"
        assert (await site.store.load(JobId(bad))).attempt == 1
        two.doubles[0].execution.oom_left = 1
        short = await site.submit(kind="comfyui", payload={"prompt": scaled()}, max_attempts=2)
        end = await site.final(short)
        assert isinstance(end.event, Succeeded)
        state = await site.store.load(JobId(short))
        assert (state.attempt, state.failures) == (2, 1)
        assert two.doubles[0].freed


async def test_artifacts_and_the_result_are_in_the_log(two: Two) -> None:
    site = two.site
    async with site.worker(connector(two.urls[0]), name="w1", slots=4):
        job = await site.submit(kind="comfyui", payload={"prompt": scaled()})
        end = await site.final(job)
        assert isinstance(end.event, Succeeded)
        assert [artifact["type"] for artifact in end.event.artifacts] == ["image/png"]
        failing = await site.submit(
            kind="comfyui", payload={"prompt": through("SwitchyardError", message="no")}, max_attempts=1
        )
        assert (await site.final(failing)).name == "dead"


async def test_a_worker_declares_that_its_back_end_is_down_and_explain_says_so(two: Two) -> None:
    site, key = two.site, LaneKey("comfyui")
    one = connector(two.urls[0], backend="one", silent_s=0.5)

    def seen() -> WorkerRecord:
        return worker._registration.record

    async with site.worker(one, name="w1", slots=4) as worker:
        await until(lambda: seen().serves(key))
        await two.doubles[0].close()
        await until(lambda: not seen().serves(key))
        verdict = verdict_on(seen(), Situation(key, 0, [seen()]), "acme")
        assert verdict.verdict == Verdict.BACK_END_DOWN
        assert verdict.message.startswith("it fits, but its back end one has been down since 20")
        await two.doubles[0].listen()
        await until(lambda: seen().serves(key))


async def test_a_server_that_dies_is_noticed_within_ten_seconds_by_the_times_it_has_by_default() -> None:
    settings = ComfySection(kind="comfyui", id="c", url="http://127.0.0.1:1")
    refused_s = settings.health_s * (REFUSALS + 1)
    silent_s = settings.silent_s + settings.health_s
    assert max(refused_s, silent_s) <= 10


def sent_twice(double: ComfyDouble) -> None:
    assert double.execution.running is not None
    double.execution.put(double.execution.running)


def silent_for_a_moment(double: ComfyDouble) -> None:
    double.silent.set()
    asyncio.get_running_loop().call_later(0.4, double.silent.clear)


BEFORE: dict[str, tuple[Callable[[ComfyDouble], object], int, int]] = {
    "no event comes": (lambda double: setattr(double, "mute", True), 1, 0),
    "an answer is lost": (lambda double: setattr(double, "loses_answers", 1), 1, 0),
    "a file comes slowly": (lambda double: setattr(double, "view_s", 1.0), 1, 0),
    "memory is short": (lambda double: setattr(double.execution, "oom_left", 1), 2, 1),
}
WHILE: dict[str, tuple[Callable[[ComfyDouble], object], int, int]] = {
    "sockets are gone": (ComfyDouble.drop_sockets, 1, 0),
    "it starts again": (ComfyDouble.restart, 2, 0),
    "it is sent twice": (sent_twice, 1, 0),
    "it is silent": (silent_for_a_moment, 1, 0),
    "somebody interrupts": (lambda double: double.execution.interrupt.set(), 2, 1),
}


@pytest.mark.parametrize(("fault", "generation"), [*zip([*BEFORE, *WHILE], itertools.cycle((0, 1)))])
async def test_every_fault_ends_well_and_nothing_runs_twice(two: Two, fault: str, generation: int) -> None:
    site, double = two.site, two.doubles[generation]
    act, attempts, failures = (BEFORE | WHILE)[fault]
    one = connector(two.urls[generation], silent_s=5, answer_s=1)
    async with site.worker(one, name="w1", slots=1):
        if fault in BEFORE:
            act(double)
        retry = RetryPolicy(base_s=0.1)
        job = await site.submit(kind="comfyui", payload={"prompt": slow(25)}, max_attempts=3, retry=retry)
        if fault in WHILE:
            await until(lambda: double.execution.running is not None)
            act(double)
        assert (await site.final(job)).name == "succeeded"
    state = await site.store.load(JobId(job))
    assert (state.attempt, state.failures) == (attempts, failures)
    assert double.execution.runs.total() == 1
    assert double.execution.left() == 0
