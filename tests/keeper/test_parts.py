"""Jobs that end in parts, from their plan to their end, with one worker of one slot and a real keeper."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from switchyard.events.commands import AnyCommand, Redrive, RequestCancel
from switchyard.events.events import Dead, Parted, Succeeded
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome, RetryableError
from switchyard.services.keeper.waits import WAITS
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site


class Planner(TestConnector):
    """Plans, works and joins as the payload says, whichever of it the job is."""

    def __init__(self) -> None:
        super().__init__(self._unused, "plan")
        self.raised: list[str] = []
        self.dying = True
        self.joined: list[Any] = []

    async def _unused(self, _: Attempt) -> None:
        raise AssertionError

    async def run(self, attempt: Attempt) -> Outcome:
        asked = attempt.payload
        self.started.append(asked.get("n"))
        if attempt.joins:
            return await self._join(attempt)
        match asked.get("do"):
            case None:
                if asked["n"] == "die" and self.dying:
                    raise FatalError("asked", "this part was asked to die")
                result = "x" * 100_000 if asked["n"] == "large" else asked["n"]
                return Outcome(result, usage={"pages": 1})
            case "forget":
                await attempt.spawn("plan", {"n": 1})
                return Outcome(1)
            case "raise" if attempt.number == 1:
                await attempt.spawn("plan", {"n": 1})
                raise RetryableError("once", "only the first attempt fails")
            case "misuse":
                await self._misuse(attempt)
            case _:
                for part in asked.get("parts", ()):
                    await attempt.spawn(part.get("kind", "plan"), part["payload"], name=part.get("name"))
        return attempt.join(asked.get("policy", "all"), usage={"pages": 10})

    async def _misuse(self, attempt: Attempt) -> None:
        odd: list[tuple[Any, ...]] = [
            ("a b", {}, None), ("plan", {"n": math.nan}, None), ("plan", [1], None), ("plan", {}, "A name"),
            ("plan", {"n": "x" * 600_000}, None), ("plan", {}, 7), (7, {}, None),
        ]  # fmt: skip
        for kind, payload, name in odd:
            with pytest.raises(FatalError) as caught:
                await attempt.spawn(kind, payload, name=name)
            self.raised.append(caught.value.code)
        with pytest.raises(FatalError) as caught:
            attempt.join()
        self.raised.append(caught.value.code)
        for n in range(1000):
            await attempt.spawn("plan", {"n": n})
        with pytest.raises(FatalError) as caught:
            await attempt.spawn("plan", {})
        self.raised.append(caught.value.code)
        raise FatalError("misused", "on purpose")

    async def _join(self, attempt: Attempt) -> Outcome:
        if attempt.payload.get("again"):
            await attempt.spawn("plan", {})
        outcomes = [(part.name, await part.outcome()) for part in attempt.parts]
        self.joined.append({name: (one.status, one.error) for name, one in outcomes})
        return Outcome([one.result if one.result != "x" * 100_000 else "large" for _, one in outcomes])


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


def parts(*numbers: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": f"part-{n}", "payload": {"n": n}, **fields} for n in numbers]


async def give(site: Site, job_id: str, command: AnyCommand) -> Job:
    return (await site.store.transition(JobId(job_id), command, actor="user:ann")).job


async def cancel(site: Site, job_id: str) -> None:
    await give(site, job_id, RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=30))


async def parted(site: Site, job_id: str) -> Parted:
    event = (await site.until(job_id, "parted")).event
    assert isinstance(event, Parted)
    return event


async def no_waits(site: Site) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await api(site.nc, f"STREAM.INFO.{WAITS.stream}", timeout_s=20))["state"]["messages"]:
            await asyncio.sleep(0)


async def test_one_slot_runs_the_plan_the_parts_and_what_joins_them(site: Site) -> None:
    connector = Planner()
    deadline = datetime.now(UTC) + timedelta(hours=1)
    inner = {"payload": {"do": "part", "n": "inner", "parts": parts(3, 4)}, "name": "inner"}
    async with site.keeper(), site.worker(connector):
        payload = {"do": "part", "n": "outer", "parts": [*parts(1, "large"), inner]}
        outer = await site.submit(
            kind="plan", payload=payload, max_attempts=1, priority=70, deadline_at=deadline
        )
        done = (await site.final(outer)).event
        assert isinstance(done, Succeeded)
        assert done.result == [1, "large", [3, 4]]
        await no_waits(site)
    assert await site.names(outer) == ["submitted", "leased", "parted", "queued", "leased", "succeeded"]
    assert connector.started[0] == connector.started[-1] == "outer"
    known = (await parted(site, outer)).parts
    assert [part.name for part in known] == ["part-1", "part-large", "inner"]
    for part in known:
        spec = await site.store.spec(part.id)
        assert (spec.parent, spec.depth, spec.priority, spec.deadline_at) == (outer, 1, 70, deadline)
        assert (await site.store.load(part.id)).parent == outer
    deepest = (await site.store.load(known[2].id)).parts
    assert [(await site.store.spec(part.id)).depth for part in deepest] == [2, 2]
    whole = await site.store.load(JobId(outer))
    assert (whole.failures, whole.attempt, whole.usage) == (0, 2, {})


async def test_what_becomes_of_a_job_whose_part_does_not_succeed(site: Site) -> None:
    connector = Planner()
    async with site.keeper(), site.worker(connector):
        collected = await site.submit(
            kind="plan", payload={"do": "part", "policy": "collect", "parts": parts("die", 2)}
        )
        assert isinstance((await site.final(collected)).event, Succeeded)
        assert connector.joined[0]["part-die"][0] == "dead"
        assert connector.joined[0]["part-die"][1]["code"] == "asked"
        failed = await site.submit(
            kind="plan", payload={"do": "part", "parts": [*parts("die", 2), *parts(3, kind="nobody")]}
        )
        dead = (await site.final(failed)).event
        assert isinstance(dead, Dead)
        assert (dead.reason, "part part-die" in dead.error.message) == ("part_failed", True)
        first, second, third = (await parted(site, failed)).parts
        assert (await site.final(third.id)).name == "cancelled"
        # Redriven, it plans again: what has succeeded stands, and the rest runs again.
        assert (await site.final(second.id)).name in ("succeeded", "cancelled")
        connector.dying = False
        before = len(connector.started)
        await give(site, failed, Redrive(now=datetime.now(UTC)))
        async with asyncio.timeout(DEADLINE_S):
            while (job := await site.store.load(JobId(failed))).status is not Status.BLOCKED:
                await asyncio.sleep(0)
        again = {part.name: part.id for part in job.parts}
        assert again["part-die"] != first.id
        assert again["part-3"] != third.id
        done = (await site.store.load(second.id)).status is Status.SUCCEEDED
        assert (again["part-2"] == second.id) is done
        await site.until(again["part-die"], "succeeded")
        assert connector.started[before:].count(2) == (not done)
        await cancel(site, failed)
        assert (await site.final(again["part-3"])).name == "cancelled"
        refused = await site.submit(
            kind="plan", payload={"do": "part", "parts": [{"kind": "simulate", "payload": {"no": 1}}]}
        )
        dead = (await site.final(refused)).event
        assert isinstance(dead, Dead)
        assert dead.reason == "part_refused"
        await no_waits(site)


async def test_a_job_that_is_cancelled_or_expires_takes_its_parts_with_it(site: Site) -> None:
    async with site.keeper(), site.worker(Planner()):
        nested = {"payload": {"do": "part", "parts": parts(2, kind="nobody")}, "name": "nested"}
        payload = {"do": "part", "parts": [*parts(1, kind="nobody"), nested]}
        job = await site.submit(kind="plan", payload=payload)
        one, inner = (await parted(site, job)).parts
        (deep,) = (await parted(site, inner.id)).parts
        await cancel(site, job)
        assert [(await site.final(each.id)).name for each in (one, inner, deep)] == ["cancelled"] * 3
        late = await site.submit(
            kind="plan", payload=payload, deadline_at=datetime.now(UTC) + timedelta(seconds=1.5)
        )
        assert (await site.final(late)).name == "expired"
        for part in (await site.store.load(JobId(late))).parts:
            assert (await site.final(part.id)).name in ("expired", "cancelled")
        await no_waits(site)


async def test_what_a_planner_does_wrong_is_its_failure_and_leaves_no_part(site: Site) -> None:
    connector = Planner()
    async with site.keeper(), site.worker(connector):
        reasons = []
        for what in ("forget", "misuse"):
            job = await site.submit(kind="plan", payload={"do": what, "n": what})
            dead = (await site.final(job)).event
            assert isinstance(dead, Dead)
            reasons.append(dead.error.code)
            assert await site.names(job) == ["submitted", "leased", "dead"]
        assert reasons == ["not_joined", "misused"]
        assert connector.raised == [*["invalid_part"] * 7, "no_parts", "too_many_parts"]
        again = await site.submit(kind="plan", payload={"do": "part", "again": True, "parts": parts(1)})
        dead = (await site.final(again)).event
        assert isinstance(dead, Dead)
        assert dead.error.code == "parted_before"
