"""Jobs that wait for others, from their submission to their end, with real keepers and workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from switchyard.events.commands import AnyCommand, Archive, Discard, Redrive, Repair, RequestCancel
from switchyard.events.events import Blocked, Cancelled, Dead, Expired, Queued, Scheduled, Succeeded
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.causes import DependencyFailure
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, FatalError
from switchyard.services.ids import new_id
from switchyard.services.keeper.waits import WAITS, Waits
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

LATER_S = 3600


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


async def as_asked(attempt: Attempt) -> Any:
    """Fail for good, or give the payload's `n` back."""
    if attempt.payload["n"] == "die":
        raise FatalError("asked", "this job was asked to die")
    return attempt.payload["n"]


async def give(site: Site, job_id: str, command: AnyCommand) -> Job:
    return (await site.store.transition(JobId(job_id), command, actor="user:ann")).job


async def cancel(site: Site, job_id: str) -> None:
    await give(site, job_id, RequestCancel(now=datetime.now(UTC), by="user:ann", grace_s=30))


async def expire(site: Site) -> str:
    """A job past its deadline that nobody takes."""
    deadline = datetime.now(UTC) + timedelta(seconds=0.2)
    return await site.submit("late", kind="nobody", deadline_at=deadline)


async def waits(site: Site) -> int:
    info = await api(site.nc, f"STREAM.INFO.{WAITS.stream}", timeout_s=20)
    return int(info["state"]["messages"])


async def no_waits(site: Site) -> None:
    """Return when nothing stands in the bucket any more."""
    async with asyncio.timeout(DEADLINE_S):
        while await waits(site):
            await asyncio.sleep(0)


async def test_a_diamond_runs_in_order_and_leaves_nothing_behind(site: Site) -> None:
    connector = TestConnector(as_asked)
    top = await site.submit("top")
    left = await site.submit("left", depends_on=(top,))
    right = await site.submit("right", depends_on=(top,))
    bottom = await site.submit("bottom", depends_on=(left, right))
    async with site.keeper(), site.worker(connector, slots=2):
        await site.final(bottom)
        await no_waits(site)
    assert connector.started[0] == "top"
    assert set(connector.started[1:3]) == {"left", "right"}
    assert connector.started[3:] == ["bottom"]
    assert await site.names(bottom) == ["blocked", "queued", "leased", "succeeded"]
    first, second, *_ = [entry.event for entry in await site.store.history(JobId(bottom))]
    assert isinstance(first, Blocked)
    assert first.depends_on == (left, right)
    assert isinstance(second, Queued)
    assert second.cause == "unblocked"


async def test_a_job_whose_parents_ended_before_it_came_runs_at_once(site: Site) -> None:
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        parents = [await site.submit(n) for n in range(3)]
        for parent in parents:
            await site.final(parent)
        child = await site.submit("child", depends_on=tuple(parents))
        assert isinstance((await site.final(child)).event, Succeeded)


@pytest.mark.parametrize("how", ["dead", "cancelled", "expired"])
@pytest.mark.parametrize("policy", list(DependencyFailure))
async def test_a_failed_dependency_ends_a_job_as_its_policy_says(
    site: Site, policy: DependencyFailure, how: str
) -> None:
    waiting = await site.submit("waits", kind="nobody")
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        match how:
            case "dead":
                parent = await site.submit("die")
            case "cancelled":
                parent = await site.submit("parent", kind="nobody")
            case _:
                parent = await expire(site)
        child = await site.submit("child", depends_on=(waiting, parent), on_dependency_failure=policy)
        if how == "cancelled":
            await cancel(site, parent)
        assert (await site.final(parent)).name == how
        if policy is DependencyFailure.RUN:
            await cancel(site, waiting)
        if policy is DependencyFailure.WAIT:
            # The end of what it waits for has been looked at by the time that another's heir has died of it.
            heir = await site.submit("heir", depends_on=(parent,))
            await site.final(heir)
            await cancel(site, waiting)
            witness = await site.submit("witness", depends_on=(waiting,))
            await site.final(witness)
            assert await site.names(child) == ["blocked"]
            return
        event = (await site.final(child)).event
        grandchild = await site.submit("grandchild", depends_on=(child,))
        after = (await site.final(grandchild)).event
    why = f"job {parent}, which it waits for, is {how}"
    match policy:
        case DependencyFailure.DEAD:
            assert isinstance(event, Dead)
            assert (event.reason, event.error.message) == ("dependency_died", why)
        case DependencyFailure.CANCEL:
            assert isinstance(event, Cancelled)
            assert (event.cause, event.reason) == ("dependency_died", why)
        case DependencyFailure.RUN:
            assert isinstance(event, Succeeded)
            assert isinstance(after, Succeeded)
            return
    assert isinstance(after, Dead)
    assert child in after.error.message


async def test_death_goes_down_a_chain(site: Site) -> None:
    chain = [await site.submit("parent", kind="nobody")]
    for n in range(5):
        chain.append(await site.submit(n, depends_on=(chain[-1],)))
    async with site.keeper():
        await site.until(chain[-1], "blocked")
        await cancel(site, chain[0])
        event = (await site.final(chain[-1])).event
        assert isinstance(event, Dead)
        assert chain[-2] in event.error.message
        await no_waits(site)
    for job_id in chain[1:]:
        assert await site.names(job_id) == ["blocked", "dead"]


async def test_a_job_that_runs_anyway_waits_for_all_of_them(site: Site) -> None:
    died, slow = await site.submit("die"), await site.submit("slow", kind="nobody")
    run = DependencyFailure.RUN
    child = await site.submit("child", depends_on=(died, slow), on_dependency_failure=run)
    witness = await site.submit("witness", depends_on=(died,), on_dependency_failure=run)
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        await site.final(witness)
        assert await site.names(child) == ["blocked"]
        await cancel(site, slow)
        assert isinstance((await site.final(child)).event, Succeeded)


async def test_a_redriven_parent_counts_again(site: Site) -> None:
    flaky = True

    async def fails_first(attempt: Attempt) -> Any:
        if attempt.payload["n"] == "flaky" and flaky:
            raise FatalError("asked", "not yet")
        return attempt.payload["n"]

    slow = await site.submit("slow", kind="nobody")
    parent = await site.submit("flaky")
    run = DependencyFailure.RUN
    child = await site.submit("child", depends_on=(parent, slow), on_dependency_failure=run)
    async with site.keeper(), site.worker(TestConnector(fails_first, "simulate")):
        assert (await site.final(parent)).name == "dead"
        doomed = await site.submit("doomed", depends_on=(parent,))
        assert (await site.final(doomed)).name == "dead"
    flaky = False
    await give(site, parent, Redrive(now=datetime.now(UTC)))
    patient = await site.submit("patient", depends_on=(parent,))
    async with site.keeper():
        await cancel(site, slow)
        witness = await site.submit("witness", kind="nobody", depends_on=(slow,))
        await site.final(witness)  # the end of `slow` was looked at
        assert await site.names(child) == ["blocked"]
        assert await site.names(patient) == ["blocked"]
        async with site.worker(TestConnector(fails_first)):
            assert (await site.final(child)).name == "succeeded"
            assert (await site.final(patient)).name == "succeeded"


async def test_a_job_that_goes_on_waiting_is_released_by_the_success_of_a_redriven_parent(site: Site) -> None:
    flaky = True

    async def fails_first(attempt: Attempt) -> Any:
        if attempt.payload["n"] == "flaky" and flaky:
            raise FatalError("asked", "not yet")
        return attempt.payload["n"]

    good, parent = await site.submit("good"), await site.submit("flaky")
    wait = DependencyFailure.WAIT
    child = await site.submit("child", depends_on=(parent, good), on_dependency_failure=wait)
    async with site.keeper(), site.worker(TestConnector(fails_first, "simulate")):
        for again in (True, True, False):
            heir = await site.submit("heir", depends_on=(parent,))
            assert (await site.final(heir)).name == "dead"  # so the parent is, once more
            late = await site.submit("late", depends_on=(parent, good), on_dependency_failure=wait)
            assert (await site.names(child), await site.names(late)) == (["blocked"], ["blocked"])
            flaky = again
            await give(site, parent, Redrive(now=datetime.now(UTC)))
        assert (await site.final(child)).name == "succeeded"
        assert (await site.final(late)).name == "succeeded"


async def test_an_archived_parent_counts_as_what_it_was(site: Site) -> None:
    async with site.worker(TestConnector(as_asked)):
        good, bad = await site.submit("good"), await site.submit("die")
        for parent in (good, bad):
            await site.final(parent)
            await give(site, parent, Archive(now=datetime.now(UTC)))
        async with site.keeper():
            released = await site.submit("child", depends_on=(good,))
            died = await site.submit("child", depends_on=(good, bad))
            assert (await site.final(released)).name == "succeeded"
            assert (await site.final(died)).name == "dead"


async def test_a_released_job_still_waits_for_its_start(site: Site) -> None:
    parent = await site.submit("parent")
    start_at = datetime.now(UTC) + timedelta(seconds=LATER_S)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    later = await site.submit("later", depends_on=(parent,), start_at=start_at)
    child = await site.submit("child", depends_on=(parent,), start_at=soon)
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        scheduled = (await site.until(later, "scheduled")).event
        await site.final(child)
    assert isinstance(scheduled, Scheduled)
    assert scheduled.start_at == start_at
    assert await site.names(later) == ["blocked", "scheduled"]
    assert (await site.names(child))[-3:] == ["queued", "leased", "succeeded"]
    leased = (await site.until(child, "leased")).at
    assert leased >= soon


async def test_a_blocked_job_past_its_deadline_expires(site: Site) -> None:
    parent = await site.submit("parent", kind="nobody")
    deadline = datetime.now(UTC) + timedelta(seconds=0.3)
    child = await site.submit("child", depends_on=(parent,), deadline_at=deadline)
    async with site.keeper():
        event = (await site.final(child)).event
    assert isinstance(event, Expired)
    assert event.cause == "waiting"


async def test_a_blocked_job_that_was_cancelled_stays_so_and_is_forgotten(site: Site) -> None:
    parent, other = await site.submit("parent"), await site.submit("other", kind="nobody")
    child = await site.submit("child", depends_on=(parent, other))
    async with site.keeper():
        async with asyncio.timeout(DEADLINE_S):
            while await waits(site) < 2:
                await asyncio.sleep(0)
        await cancel(site, child)
        async with site.worker(TestConnector(as_asked)):
            await site.final(parent)
            await no_waits(site)
    assert await site.names(child) == ["blocked", "cancelled"]


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_a_blocked_job_that_ends_is_forgotten_while_its_parents_go_on(site: Site, how: str) -> None:
    parents = tuple([await site.submit(kind="nobody") for _ in range(2)])
    late = datetime.now(UTC) + timedelta(seconds=0.5)
    async with site.keeper():
        child = await site.submit(depends_on=parents, deadline_at=late if how == "expired" else None)
        async with asyncio.timeout(DEADLINE_S):
            while how == "cancelled" and await waits(site) < 2:
                await asyncio.sleep(0)
        if how == "cancelled":
            await cancel(site, child)
        await site.final(child)
        await no_waits(site)
    assert await site.names(child) == ["blocked", how]


async def test_a_parent_may_have_more_waiting_jobs_than_one_answer_holds(site: Site) -> None:
    async with Publisher(site.nc) as publisher:
        found = Waits(site.nc, publisher, site.settings)
        parent, other, third, nobody = (new_id() for _ in range(4))
        assert await found.of([parent, nobody]) == []
        first, *rest = children = [new_id() for _ in range(1100)]
        for child in children:
            await found.add(child, [parent])
        await found.add(first, [other, third])
        wanted = {(parent, child) for child in children} | {(other, first)}
        assert set(await found.of([parent, other, nobody])) == wanted
        assert await found.of([nobody]) == []
        await found.remove(first, [parent, other])
        wanted = {(parent, child) for child in rest} | {(third, first)}
        assert set(await found.of([parent, other, third])) == wanted


async def test_state_is_decided_by_the_last_event_alone(site: Site) -> None:
    parent = await site.submit("parent", kind="nobody")
    job_id = await site.submit("child", depends_on=(parent,))
    direct, leader = await site.store.last(JobId(job_id)), await site.store.last_of_leader(JobId(job_id))
    assert direct == leader
    assert (await site.store.load(JobId(job_id))).status is Status.BLOCKED
    assert await site.store.last_of_leader(JobId("nobody")) is None


@pytest.mark.parametrize("how", ["discarded", "dead", "queued"])
async def test_a_damaged_parent_holds_its_children_until_it_is_put_right(site: Site, how: str) -> None:
    async with site.keeper():
        parent = await site.submit("parent", kind="later")
        child = await site.submit("child", depends_on=(parent,))
        await site.nc.jetstream().publish(f"job.{parent}.hello", b"hi")
        now = datetime.now(UTC)
        if how == "discarded":
            await give(site, parent, Discard(now=now, by="user:root"))
        else:
            await give(site, parent, Repair(now=now, by="user:root", to=Status(how)))
        if how != "queued":
            event = (await site.final(child)).event
            assert isinstance(event, Dead)
            assert event.reason == "dependency_died"
            await no_waits(site)
            return
        async with site.worker(TestConnector(as_asked, kind="later"), TestConnector(as_asked)):
            assert isinstance((await site.final(parent)).event, Succeeded)
            assert isinstance((await site.final(child)).event, Succeeded)
        await no_waits(site)


async def test_a_damaged_child_is_released_when_it_is_repaired(site: Site) -> None:
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        parent = await site.submit("parent", kind="nobody")
        child = await site.submit("child", depends_on=(parent,), on_dependency_failure=DependencyFailure.RUN)
        await site.nc.jetstream().publish(f"job.{child}.hello", b"hi")
        await cancel(site, parent)
        other = await site.submit("other")
        await site.final(other)
        assert (await site.store.load(JobId(child))).status is Status.BLOCKED
        await give(site, child, Repair(now=datetime.now(UTC), by="user:root"))
        assert isinstance((await site.final(child)).event, Succeeded)
        await no_waits(site)
