"""Schedules that fire: real keepers, one or two at once, that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Complete, TakeLease
from switchyard.events.encoding.codec import decode
from switchyard.events.errors import VersionConflictError
from switchyard.events.events import Submitted
from switchyard.events.schedules.schedule import Missed, Overlap, Schedule, paused, resumed
from switchyard.events.schedules.ticks import Timing
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.services.access.principal import Caller
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import follow, last_message, read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.intake.request import parse_request
from switchyard.services.intake.submitter import Submitter
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records.schedules import (
    LABEL_SCHEDULE,
    LABEL_TICK,
    SCHEDULES,
    ScheduleStore,
    iso,
    tick_body,
    tick_job_id,
    tick_key,
)
from tests.worker.site import DEADLINE_S, Site, open_site

NAME = "report"


def ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds)


def within(first_s: int, last_s: int) -> dict[str, Any]:
    """From so many seconds ago until fewer, of one reading of the clock: the next may be a second later."""
    now = ago(0)
    return {"start_at": now - timedelta(seconds=first_s), "end_at": now - timedelta(seconds=last_s)}


class Table:
    """Schedules of tenant acme on one broker."""

    def __init__(self, site: Site, publisher: Publisher, name: str = NAME) -> None:
        self.site = site
        self.publisher = publisher
        self.name = name
        self.store = ScheduleStore(site.nc, publisher, tries=8, timeout_s=20)

    async def make(
        self, *, start_at: datetime, every_s: float = 1.0, end_at: datetime | None = None, **fields: Any
    ) -> Schedule:
        """Save a schedule as the gateway does."""
        timing = Timing(anchor_at=start_at, every_s=every_s, start_at=start_at, end_at=end_at)
        now = datetime.now(UTC)
        values = {"job": msgspec.Raw(b'{"kind":"noop"}'), "missed": Missed.ALL} | fields
        made = Schedule(
            tenant="acme", name=self.name, generation=new_id(), timing=timing, created_at=now,
            created_by="user:ann", written_at=now,
            decided_to=min(now, start_at - timedelta(seconds=1)), **values,
        )  # fmt: skip
        await self.store.put(made, (await self.store.load("acme", self.name)).revision)
        return made

    async def change(self, step: Callable[[Schedule, datetime], Schedule | None]) -> Schedule:
        """Pause or resume it."""
        while True:
            schedule, revision = await self.store.load("acme", self.name)
            assert schedule is not None
            changed = step(schedule, datetime.now(UTC))
            assert changed is not None
            with contextlib.suppress(VersionConflictError):  # a keeper was faster
                await self.store.put(changed, revision)
                return changed

    async def until(self, wanted: Callable[[Schedule], bool]) -> Schedule:
        """The schedule as soon as it is as wanted."""
        record = SCHEDULES.subject(("acme", self.name))
        async with asyncio.timeout(DEADLINE_S):
            changes = follow(self.site.nc, subjects.SCHEDULES, [record], latest=True, timeout_s=20)
            async for message in changes:
                if message.data:
                    schedule = msgspec.json.decode(message.data, type=Schedule)
                    if not schedule.firing and wanted(schedule):
                        return schedule
        raise AssertionError("unreachable")

    async def other_ticks(self, count: int) -> None:
        """Returns when a schedule beside it, made now, has ticked so often, once a second."""
        other = Table(self.site, self.publisher, "other")
        await other.make(start_at=ago(0))
        await other.runs(count)
        await other.change(paused)

    async def runs(self, count: int) -> Schedule:
        return await self.until(lambda schedule: schedule.runs >= count)

    async def timer(self) -> str | None:
        """When the next wake-up is set for."""
        found = await last_message(
            self.site.nc, subjects.TIMERS, subjects.schedule_timer("acme", self.name), timeout_s=20
        )
        return None if found is None else found.headers[subjects.H_SCHEDULE].removeprefix("@at ")

    async def timer_is(self, at: datetime | None) -> None:
        """Wait until the wake-up is set for a time, or for none."""
        wanted = None if at is None else iso(at)
        async with asyncio.timeout(DEADLINE_S):
            while await self.timer() != wanted:
                await asyncio.sleep(0.02)


@pytest.fixture
async def table(broker: NatsServer, tmp_path: Any) -> AsyncIterator[Table]:
    async with open_site(broker.url, data_dir=tmp_path) as site, Publisher(site.nc) as publisher:
        yield Table(site, publisher)


async def ticks_of_jobs(nc: Client) -> dict[str, str]:
    """The tick of every job that a schedule made, by the job's id."""
    found = {}
    for message in await read_range(nc, subjects.JOBS, "job.*.submitted.>", limit=100_000, timeout_s=20):
        event = decode(message.subject, message.data)
        assert isinstance(event, Submitted)
        if event.job.labels.get(LABEL_SCHEDULE) == NAME:
            job_id = message.subject.split(".")[1]
            assert job_id not in found
            found[job_id] = event.job.labels[LABEL_TICK]
    return found


def every_second(start: datetime, count: int) -> list[str]:
    return [iso(start + timedelta(seconds=number)) for number in range(count)]


async def assert_one_job_per_tick(table: Table, made: Schedule, runs: int) -> None:
    jobs = await ticks_of_jobs(table.site.nc)
    assert made.timing.start_at is not None
    assert sorted(jobs.values()) == every_second(made.timing.start_at, len(jobs))
    assert len(jobs) >= runs
    for job_id, tick in jobs.items():
        assert job_id == tick_job_id(made, datetime.fromisoformat(tick))


# --- One job per tick


async def test_a_tick_makes_a_job_that_names_its_schedule(table: Table) -> None:
    start = ago(1)
    async with table.site.keeper():
        made = await table.make(
            start_at=start, end_at=start,
            job=msgspec.Raw(b'{"kind":"noop","payload":{"n":1},"labels":{"project":"p1"}}'),
        )  # fmt: skip
        done = await table.runs(1)
    assert done.last_tick == start
    spec = await table.site.store.spec(tick_job_id(made, start))
    assert (spec.kind, spec.tenant, spec.payload) == ("noop", "acme", {"n": 1})
    assert spec.labels == {"project": "p1", LABEL_SCHEDULE: NAME, LABEL_TICK: iso(start)}
    history = await table.site.store.history(tick_job_id(made, start))
    assert [(entry.name, entry.actor) for entry in history] == [("submitted", f"schedule:{NAME}")]


async def test_two_keepers_make_one_job_per_tick_in_past_and_present(table: Table) -> None:
    async with table.site.keeper(), table.site.keeper():
        made = await table.make(start_at=ago(50))
        done = await table.runs(55)
        await table.change(paused)
    await assert_one_job_per_tick(table, made, done.runs)


async def test_keepers_that_come_and_go_make_one_job_per_tick(table: Table) -> None:
    made = await table.make(start_at=ago(5))
    for number in range(4):
        async with AsyncExitStack() as stack:
            for _ in range(1 + number % 2):
                await stack.enter_async_context(table.site.keeper())
            done = await table.runs(6 + number)
    await table.change(paused)
    await assert_one_job_per_tick(table, made, done.runs)


async def test_a_schedule_saved_while_no_keeper_runs_is_found_by_the_next(table: Table) -> None:
    made = await table.make(**within(3, 1))
    async with table.site.keeper():
        await table.runs(3)
    await assert_one_job_per_tick(table, made, 3)


async def test_ticks_that_a_dead_keeper_had_decided_are_carried_out_by_another(table: Table) -> None:
    start = ago(4)
    ticks = tuple(start + timedelta(seconds=number) for number in range(3))
    made = await table.make(start_at=start, end_at=ticks[-1], firing=ticks)
    await table.change(lambda schedule, _: msgspec.structs.replace(schedule, decided_to=ticks[-1]))
    keeper = Keeper(table.site.nc, table.site.settings)
    async with keeper._publisher:  # it got as far as the first job, and died
        body = tick_body(NAME, bytes(made.job), ticks[0])
        caller = Caller("acme", f"schedule:{NAME}")
        submitter: Submitter = keeper._schedules._submitter
        await submitter.submit(parse_request(body), body, caller, tick_key(made, ticks[0]))
    async with table.site.keeper(), table.site.keeper():
        done = await table.runs(3)
    assert (done.runs, done.last_tick) == (3, ticks[-1])
    await assert_one_job_per_tick(table, made, 3)


async def test_keepers_that_wake_at_the_same_moment_decide_once(table: Table) -> None:
    made = await table.make(**within(20, 1))
    keepers = [Keeper(table.site.nc, table.site.settings) for _ in range(6)]
    async with AsyncExitStack() as stack:
        for keeper in keepers:
            await stack.enter_async_context(keeper._publisher)
        await asyncio.gather(*(keeper._schedules.wake("acme", NAME) for keeper in keepers))
    found = (await table.store.load("acme", NAME)).schedule
    assert found is not None
    assert (found.runs, found.firing) == (20, ())
    await assert_one_job_per_tick(table, made, 20)


async def test_the_sweep_wakes_a_schedule_whose_timer_is_gone(table: Table) -> None:
    long_ago = table.site.settings.lease_s + 1
    made = await table.make(start_at=ago(long_ago + 1), end_at=ago(long_ago))
    await table.change(
        lambda schedule, _: msgspec.structs.replace(schedule, written_at=ago(long_ago), runs=0)
    )
    keeper = Keeper(table.site.nc, table.site.settings)
    async with keeper._publisher, asyncio.TaskGroup() as group:
        await keeper.sweep.once(group)
        assert keeper.sweep.repaired == {"schedule_without_timer": 1}
        await keeper.sweep.once(group)
    assert keeper.sweep.repaired == {"schedule_without_timer": 1}
    await assert_one_job_per_tick(table, made, 2)


# --- Stopped and gone


async def test_a_paused_schedule_fires_nothing_and_a_resumed_one_goes_on_from_then(table: Table) -> None:
    async with table.site.keeper():
        await table.make(start_at=ago(5))
        await table.runs(5)
        await table.change(paused)
        await table.timer_is(None)
        before = await ticks_of_jobs(table.site.nc)
        await table.other_ticks(3)
        assert await ticks_of_jobs(table.site.nc) == before
        going = await table.change(resumed)
        await table.runs(len(before) + 2)
        await table.change(paused)
    later = set((await ticks_of_jobs(table.site.nc)).values()) - set(before.values())
    assert min(later) > iso(going.decided_to)


async def test_a_deleted_schedule_fires_nothing_and_its_name_can_be_used_again(table: Table) -> None:
    start, end = ago(4), ago(2)
    async with table.site.keeper():
        first = await table.make(start_at=start)
        await table.runs(3)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                schedule, revision = await table.store.load("acme", NAME)
                assert schedule is not None
                try:
                    await table.store.delete(schedule, revision)
                    break
                except VersionConflictError:  # a tick came in between
                    continue
        await table.timer_is(None)
        before = await ticks_of_jobs(table.site.nc)
        await table.other_ticks(3)
        assert await ticks_of_jobs(table.site.nc) == before
        second = await table.make(start_at=start, end_at=end)
        await table.until(lambda schedule: schedule.generation == second.generation and schedule.runs == 3)
    again = set(await ticks_of_jobs(table.site.nc)) - set(before)
    assert again == {tick_job_id(second, start + timedelta(seconds=number)) for number in range(3)}
    assert tick_job_id(first, start) in before


async def test_a_changed_time_moves_the_wake_up(table: Table) -> None:
    later, sooner = ago(-7200), ago(-3600)
    async with table.site.keeper():
        await table.make(start_at=later)
        await table.timer_is(later)
        timing = Timing(anchor_at=sooner, every_s=1.0, start_at=sooner)
        await table.change(lambda schedule, _: msgspec.structs.replace(schedule, timing=timing))
        await table.timer_is(sooner)


# --- Missed ticks and overlaps


@pytest.mark.parametrize(
    ("policy", "minutes"), [(Missed.SKIP, []), (Missed.LAST, [3]), (Missed.ALL, [0, 1, 2, 3])]
)
async def test_ticks_missed_while_nothing_ran_follow_the_policy(
    table: Table, policy: Missed, minutes: list[int]
) -> None:
    start = ago(600)
    end = start + timedelta(minutes=3)
    await table.make(start_at=start, every_s=60.0, end_at=end, missed=policy)
    async with table.site.keeper():
        done = await table.until(lambda schedule: schedule.decided_to == end)
    found = sorted((await ticks_of_jobs(table.site.nc)).values())
    assert found == [iso(start + timedelta(minutes=minute)) for minute in minutes]
    assert (done.skipped is not None) == (policy is Missed.SKIP)


async def test_catching_up_stops_at_the_limit(table: Table) -> None:
    start, end = ago(3600), ago(10)
    settings = table.site.settings.model_copy(update={"schedule_catch_up": 7})
    table.site.settings = settings
    await table.make(start_at=start, end_at=end)
    async with table.site.keeper():
        await table.runs(7)
    found = sorted((await ticks_of_jobs(table.site.nc)).values())
    assert found == [iso(end - timedelta(seconds=number)) for number in reversed(range(7))]


async def finish(store: EventStore, job_id: str) -> None:
    take = TakeLease(now=datetime.now(UTC), worker=WorkerId("w1"), revision=Revision(1))
    job, _ = await store.transition(JobId(job_id), take, actor="worker:w1")
    assert job.lease is not None
    await store.transition(job, Complete(now=datetime.now(UTC), fence=job.lease.fence), actor="worker:w1")


async def test_a_tick_is_left_out_while_the_job_before_has_not_ended(table: Table) -> None:
    store = table.site.store
    async with table.site.keeper():
        made = await table.make(start_at=ago(0), overlap=Overlap.SKIP)
        first = await table.until(lambda schedule: schedule.skipped is not None and schedule.runs == 1)
        assert first.skipped is not None
        assert first.last_tick is not None
        assert first.skipped.reason == "overlap"
        assert first.skipped.at > first.last_tick
        await finish(store, tick_job_id(made, first.last_tick))
        second = await table.runs(2)
        await table.change(paused)
    assert second.last_tick is not None
    assert second.last_tick > first.skipped.at
    assert len(await ticks_of_jobs(table.site.nc)) == 2


async def test_a_tick_cancels_the_job_before_if_it_has_not_ended(table: Table) -> None:
    store = table.site.store
    async with table.site.keeper():
        made = await table.make(start_at=ago(0), overlap=Overlap.CANCEL_PREVIOUS)
        await table.runs(3)
        last = await table.change(paused)
    jobs = await ticks_of_jobs(table.site.nc)
    states = {tick: (await store.load(JobId(job_id))).status for job_id, tick in jobs.items()}
    assert last.last_tick is not None
    assert states.pop(iso(last.last_tick)) is Status.QUEUED
    assert set(states.values()) == {Status.CANCELLED}
    entry = (await store.history(tick_job_id(made, datetime.fromisoformat(min(states)))))[-1]
    assert (entry.name, entry.actor) == ("cancelled", f"schedule:{NAME}")


async def test_a_tick_lets_a_job_that_has_ended_be(table: Table) -> None:
    store = table.site.store
    made = await table.make(**within(60, 60), overlap=Overlap.CANCEL_PREVIOUS)
    async with table.site.keeper():
        first = await table.runs(1)
        assert first.last_tick is not None
        await finish(store, tick_job_id(made, first.last_tick))
        now = ago(0)
        timing = Timing(anchor_at=now, every_s=1.0, start_at=now, end_at=now)
        await table.change(lambda schedule, _: msgspec.structs.replace(schedule, timing=timing))
        await table.runs(2)
    assert (await store.load(tick_job_id(made, first.last_tick))).status is Status.SUCCEEDED


# --- What goes wrong


async def test_a_refused_job_is_reported_and_the_schedule_goes_on(table: Table) -> None:
    start = ago(3)
    bad = msgspec.Raw(b'{"kind":"convert","payload":{"file":"gone"}}')
    async with table.site.keeper():
        await table.make(start_at=start, end_at=start + timedelta(seconds=1), job=bad)
        done = await table.until(lambda schedule: schedule.refused is not None)
        assert done.refused is not None
        assert (done.refused.code, done.refused.field) == ("unknown_file", "payload.file")
        assert (done.runs, done.last_tick, done.refused.at) == (0, None, start + timedelta(seconds=1))
    assert await ticks_of_jobs(table.site.nc) == {}


async def test_the_jobs_of_a_schedule_go_on_across_a_restart_of_the_broker(
    broker: NatsServer, table: Table
) -> None:
    async with table.site.keeper():
        made = await table.make(start_at=ago(3))
        before = await table.runs(3)
        await broker.kill()
        await broker.start()
        done = await table.runs(before.runs + 3)
        await table.change(paused)
    await assert_one_job_per_tick(table, made, done.runs)


async def test_wake_ups_of_jobs_and_schedules_are_distinguished(table: Table) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    async with table.site.keeper():
        job_id = await table.site.submit(start_at=soon, kind="noop")
        await table.make(**within(1, 1))
        await table.runs(1)
        await table.site.until(job_id, "queued")
    info = await api(table.site.nc, "CONSUMER.INFO.TIMERS.keeper-timers", timeout_s=20)
    assert info["num_redelivered"] == 0


async def test_a_tick_over_its_tenants_limit_is_recorded_and_the_next_ones_go_on(
    broker: NatsServer, tmp_path: Any
) -> None:
    async with (
        open_site(broker.url, data_dir=tmp_path, tenant_jobs=1) as site,
        Publisher(site.nc) as publisher,
        site.keeper(),
    ):
        table = Table(site, publisher)
        await table.make(**within(3, 1))
        done = await table.until(lambda schedule: schedule.refused is not None)
        assert done.refused is not None
        assert done.refused.code == "too_many_jobs"
        assert "acme has 1 jobs" in done.refused.message
        assert len(await ticks_of_jobs(site.nc)) == 1
        assert (await table.store.load("acme", NAME)).schedule is not None


async def test_a_tick_at_its_tenants_lane_limit_is_recorded(broker: NatsServer, tmp_path: Any) -> None:
    async with (
        open_site(broker.url, data_dir=tmp_path, tenant_lanes=1) as site,
        Publisher(site.nc) as publisher,
        site.keeper(),
    ):
        table = Table(site, publisher)
        await table.make(**within(2, 2), job=msgspec.Raw(b'{"kind":"a"}'))
        await table.runs(1)
        await table.make(**within(2, 2), job=msgspec.Raw(b'{"kind":"b"}'))
        done = await table.until(lambda schedule: schedule.refused is not None)
        assert done.refused is not None
        assert done.refused.code == "too_many_lanes"
