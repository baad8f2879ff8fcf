"""Several connectors of one kind in a worker: who runs what, and what the worker promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from switchyard.events.lane import LaneKey
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.records import workers
from switchyard.services.worker.worker import Worker
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


class Finding(TestConnector):
    """Finds what the test says, and holds its attempts until the test lets them go."""

    __test__ = False

    def __init__(
        self, name: str, found: dict[str, Any], *, kind: str = "paint", slots: int | None = 1
    ) -> None:
        super().__init__(self._held, kind, name=name, slots=slots)
        self.found = found
        self.go = asyncio.Event()
        self.begun: asyncio.Queue[Any] = asyncio.Queue()

    def capabilities(self) -> dict[str, Any]:
        return self.found

    async def _held(self, attempt: Attempt) -> str:
        self.begun.put_nowait(attempt.payload.get("n"))
        await self.go.wait()
        return self.id

    def find(self, found: dict[str, Any]) -> None:
        self.found = found
        self.changed()


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=6.0, lost_slots=100) as site:
        yield site


async def ran_on(site: Site, job: str) -> Any:
    return (await site.final(job)).event.result  # type: ignore[union-attr]


def record_of(worker: Worker) -> workers.WorkerRecord:
    return worker._registration.record


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_each_job_goes_to_the_instance_that_has_what_it_requires(site: Site) -> None:
    one, two = (
        Finding("one", {"models": ["cat"], "paint": 1}),
        Finding("two", {"models": ["dog"], "paint": 1}),
    )
    one.go.set()
    two.go.set()
    async with site.worker(one, two, slots=4):
        wanted = {"cat": "one", "dog": "two"}
        jobs = [
            (await site.submit(n, kind="paint", requires={"models": {"$has": model}}), wanted[model])
            for n, model in enumerate(["cat", "dog", "dog", "cat", "dog", "cat"])
        ]
        for job, expected in jobs:
            assert await ran_on(site, job) == expected


async def test_slots_add_up_and_jobs_go_to_the_least_loaded(site: Site) -> None:
    one, two = Finding("one", {}, slots=2), Finding("two", {}, slots=2)
    async with site.worker(one, two, slots=8):
        for n in range(5):
            await site.submit(n, kind="paint")
        async with asyncio.timeout(DEADLINE_S):
            begun = [await each.begun.get() for each in (one, two, one, two)]
        assert sorted(begun) == [0, 1, 2, 3]
        assert one.begun.empty()
        assert two.begun.empty()
        one.go.set()
        async with asyncio.timeout(DEADLINE_S):
            assert await one.begun.get() == 4
        two.go.set()


async def test_a_job_waits_for_its_instance_while_another_of_the_kind_is_free(site: Site) -> None:
    one, two = Finding("one", {"models": ["cat"]}), Finding("two", {"models": ["dog"]})
    two.go.set()
    async with site.worker(one, two, slots=4):
        first = await site.submit(1, kind="paint", requires={"models": {"$has": "cat"}})
        async with asyncio.timeout(DEADLINE_S):
            assert await one.begun.get() == 1
        second = await site.submit(2, kind="paint", requires={"models": {"$has": "cat"}})
        other = await site.submit(3, kind="paint", requires={"models": {"$has": "dog"}})
        assert await ran_on(site, other) == "two"
        assert await site.names(second) == ["submitted"]
        one.go.set()
        assert await ran_on(site, first) == "one"
        assert await ran_on(site, second) == "one"
        assert two.started == [3]


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ({"gpu": {"$exists": False}}, "without"),
        ({"$not": {"gpu": {"$gte": 1}}}, "without"),
        ({"gpu": {"$gte": 1}}, "with"),
        ({"gpu": {"$gte": 1}, "net": {"$eq": True}}, None),
    ],
)
async def test_what_must_not_be_there_is_seen_of_each_instance_alone(
    site: Site, requires: dict[str, Any], expected: str | None
) -> None:
    """Neither what instances have in common nor what they have together would show it."""
    has, lacks = Finding("with", {"gpu": 24}), Finding("without", {"net": True})
    has.go.set()
    lacks.go.set()
    async with site.worker(has, lacks, slots=4) as worker:
        job = await site.submit(kind="paint", requires=requires)
        if expected is not None:
            assert await ran_on(site, job) == expected
        else:
            assert not record_of(worker).fits(LaneKey("paint", requires))
            after = await site.submit(kind="paint", requires={"gpu": {"$gte": 1}})
            assert await ran_on(site, after) == "with"
            assert await site.names(job) == ["submitted"]


async def test_a_preference_chooses_between_instances(site: Site) -> None:
    plain, fine = Finding("plain", {"fine": False}, slots=4), Finding("fine", {"fine": True}, slots=4)
    async with site.worker(plain, fine, slots=8):
        for n in range(3):
            await site.submit(n, kind="paint", prefers={"fine": {"$eq": True}})
        async with asyncio.timeout(DEADLINE_S):
            assert sorted([await fine.begun.get() for _ in range(3)]) == [0, 1, 2]
        assert plain.started == []
        fine.go.set()


async def test_a_change_of_one_instance_holds_from_the_next_lease_on(site: Site) -> None:
    one, two = Finding("one", {"models": ["cat"]}), Finding("two", {"models": ["dog"]})
    one.go.set()
    two.go.set()
    async with site.worker(one, two, slots=4) as worker:
        revision = record_of(worker).revision
        two.find({"models": ["dog", "eel"]})
        job = await site.submit(kind="paint", requires={"models": {"$has": "eel"}})
        assert await ran_on(site, job) == "two"
        assert record_of(worker).revision == revision + 1
        two.find({"models": ["dog"]})
        one.find({"models": ["cat", "eel"]})
        await until(lambda: record_of(worker).revision >= revision + 2 and _eels(worker) == ["one"])
        job = await site.submit(kind="paint", requires={"models": {"$has": "eel"}})
        assert await ran_on(site, job) == "one"


def _eels(worker: Worker) -> list[str]:
    return [each.id for each in record_of(worker).instances if "eel" in each.capabilities.get("models", [])]


async def test_a_worker_declares_what_all_instances_have_and_of_each_what_it_has_beside(site: Site) -> None:
    one = Finding("one", {"version": 2, "models": ["cat"], "fast": True})
    two = Finding("two", {"version": 2, "models": ["dog"], "fast": 1})
    other = Finding("other", {"models": ["print"], "ink": "black"}, kind="press")
    async with site.worker(one, two, other, slots=4) as worker:
        record = record_of(worker)
        assert record.capabilities == {"version": 2, "models": ["print"], "ink": "black"}
        assert {each.id: each.capabilities for each in record.instances} == {
            "one": {"models": ["cat"], "fast": True}, "two": {"models": ["dog"], "fast": 1},
        }  # fmt: skip
        assert record.abilities("press") == [record.capabilities]  # its own, whatever painters have
        assert record.kinds == ("paint", "press")
        declaration = await site_declaration(site, worker.id)
        assert declaration.instances == record.instances


async def site_declaration(site: Site, worker: str) -> workers.Declaration:
    from switchyard.services.broker.bucket import Bucket  # noqa: PLC0415

    for entry in await Bucket(site.nc, workers.DECLARATIONS, timeout_s=10).load():
        if entry.value is not None and entry.value.id == worker:
            return entry.value
    raise AssertionError("it is not declared")


async def test_a_connector_is_not_credited_with_what_another_kind_says_otherwise(site: Site) -> None:
    paint, press = Finding("paint", {"gpu": 8, "a": 1}), Finding("press", {"gpu": 24}, kind="press")
    async with site.worker(paint, press, slots=4) as worker:
        record = record_of(worker)
        assert record.abilities("paint") == [{"gpu": 8, "a": 1}]
        assert record.abilities("press") == [{"gpu": 24, "a": 1}]
        assert not record.fits(LaneKey("paint", {"gpu": {"$gte": 16}}))
        worker.declare({"gpu": 1})
        await until(lambda: record_of(worker).revision > record.revision)
        assert record_of(worker).abilities("paint") == [{"gpu": 1, "a": 1}]
        assert record_of(worker).instances == ()


async def test_a_lone_connector_declares_as_before(site: Site) -> None:
    one = Finding("one", {"models": ["cat"]})
    async with site.worker(one) as worker:
        assert record_of(worker).instances == ()
        assert record_of(worker).capabilities == {"models": ["cat"]}


async def test_an_instance_that_fails_or_does_not_stop_costs_no_other_one(site: Site) -> None:
    """What ends a program ends its attempt; code that does not stop holds its own instance's slot alone."""
    free = asyncio.Event()

    async def fails(attempt: Attempt) -> str:
        if attempt.payload["n"] == "exit":
            raise SystemExit(3)
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()
        return "late"

    bad, good = TestConnector(fails, "paint", name="bad", slots=1), Finding("good", {"good": True})
    good.go.set()
    async with site.worker(bad, good, slots=3) as worker:
        no_good = {"good": {"$exists": False}}
        job = await site.submit("exit", kind="paint", requires=no_good, max_attempts=1)
        assert (await site.final(job)).name == "dead"
        stuck = await site.submit(
            "stuck", kind="paint", requires=no_good, max_attempts=1, attempt_timeout_s=0.2
        )
        assert (await site.final(stuck)).name == "dead"
        await until(lambda: record_of(worker).lost_slots == 1)
        for n in range(3):
            assert await ran_on(site, await site.submit(n, kind="paint")) == "good"
        waits = await site.submit("exit", kind="paint", requires=no_good, max_attempts=1)
        after = await site.submit(4, kind="paint")
        assert await ran_on(site, after) == "good"
        assert await site.names(waits) == ["submitted"]
        free.set()
        assert (await site.final(waits)).name == "dead"


async def test_two_connectors_of_one_id_are_refused(site: Site) -> None:
    with pytest.raises(ValueError, match="'one'"):
        async with site.worker(Finding("one", {}), Finding("one", {}, kind="press")):
            pass
