"""Not ready when a part behind the gateway does not move; ready again when it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api as ask
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import Projector
from switchyard.services.telemetry.stalls import Stalls
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

STALL_S = 0.3


@contextlib.asynccontextmanager
async def running(api: Gateway, part: type[Keeper | Projector]) -> AsyncIterator[None]:
    """A keeper or projector until the block ends."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(part(api.nc, api.settings).run())
        yield
        task.cancel()


async def until(api: Gateway, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The checks once they are as wanted; the status always fits them."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.get("/readyz")
            checks: dict[str, Any] = answer.json["checks"]
            assert (answer.status == 200) is all(check["ok"] for check in checks.values())
            if wanted(checks):
                return checks


async def submit_and_cancel(api: Gateway) -> None:
    """Something for every consumer of events."""
    job = await api.submit(deadline_s=3600)
    await api.call("POST", f"/v1/jobs/{job['id']}/cancel")


def ready(checks: dict[str, Any]) -> bool:
    return all(check["ok"] for check in checks.values())


async def test_a_projector_that_stands_still_is_not_ready_until_it_moves(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with (
        gateway(broker.url, tmp_path, projector=False, ready_stall_s=STALL_S) as api,
        running(api, Keeper),
    ):
        assert ready(await until(api, ready))
        await api.submit()
        checks = await until(api, lambda checks: not checks["read_model"]["ok"])
        assert checks["read_model"]["stalled_s"] >= STALL_S
        assert checks["read_model"]["lag_events"] == 1
        assert checks["keeper"]["ok"]
        async with running(api, Projector):
            checks = await until(api, ready)
            assert checks["read_model"]["stalled_s"] == 0


async def test_a_keeper_that_stands_still_is_not_ready_until_it_moves(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, ready_stall_s=STALL_S) as api:
        assert ready(await until(api, ready))
        await submit_and_cancel(api)
        both = {subjects.KEEPER_EVENTS, subjects.KEEPER_FINALS, subjects.KEEPER_LEDGER}
        checks = await until(api, lambda checks: set(checks["keeper"]["stalled_s"]) == both)
        assert not checks["keeper"]["ok"]
        assert checks["read_model"]["ok"]
        async with running(api, Keeper):
            await until(api, ready)
        await submit_and_cancel(api)
        await until(api, lambda checks: set(checks["keeper"]["stalled_s"]) == both)


@pytest.mark.parametrize(
    ("stream", "consumer"),
    [
        (subjects.JOBS, subjects.KEEPER_EVENTS), (subjects.JOBS, subjects.KEEPER_FINALS),
        (subjects.JOBS, subjects.KEEPER_LEDGER),
        (subjects.JOBS, subjects.KEEPER_PARTS),
        (subjects.TIMERS, subjects.KEEPER_TIMERS), (subjects.SCHEDULES, subjects.KEEPER_SCHEDULES),
    ],
)  # fmt: skip
async def test_a_consumer_of_the_keeper_that_is_gone_is_named(
    broker: NatsServer, tmp_path: Path, stream: str, consumer: str
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        await ask(api.nc, f"CONSUMER.DELETE.{stream}.{consumer}", timeout_s=20)
        answer = await api.get("/readyz")
        assert (answer.status, answer.json["checks"]["keeper"]["missing"]) == (503, [consumer])


async def test_what_a_newer_version_wrote_is_put_off_and_does_not_count_as_standing_still(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, ready_stall_s=1e-6) as api, running(api, Keeper):
        job = await api.submit()
        headers = {subjects.H_TENANT: api.tenant, subjects.H_KIND: "noop"}
        body = orjson.dumps({"v": 99, "at": "2026-01-01T00:00:00Z"})
        await api.publisher.publish(f"job.{job['id']}.blocked", body, headers)
        async with asyncio.timeout(DEADLINE_S):
            while (await consumer_info(api))["num_ack_pending"] != 1:
                pass
        for _ in range(3):  # by the second look anything that is stuck would be seen
            assert (await api.get("/readyz")).json["checks"]["keeper"]["ok"]
        info = await consumer_info(api)
        assert (info["num_pending"], info["num_ack_pending"]) == (0, 1)


async def consumer_info(api: Gateway) -> dict[str, Any]:
    return await ask(api.nc, f"CONSUMER.INFO.{subjects.JOBS}.{subjects.KEEPER_EVENTS}", timeout_s=20)


async def test_a_live_feed_that_stands_still_counts_while_somebody_needs_it(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = asyncio.Event()

    async def never(*_: object) -> None:
        await blocked.wait()

    monkeypatch.setattr("switchyard.services.gateway.live.feed.LiveFeed._events", never)
    async with gateway(broker.url, tmp_path, ready_stall_s=STALL_S) as api, running(api, Keeper):
        job = await api.submit()
        assert ready(await until(api, ready))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(api.get(f"/v1/jobs/{job['id']}?wait=5"))
            checks = await until(api, lambda checks: not checks["live"]["ok"])
            assert checks["live"]["stalled_s"] >= STALL_S
            await waiting  # now nobody needs it any more
        await until(api, ready)


async def test_a_log_whose_end_was_purged_is_not_waited_for(broker: NatsServer, tmp_path: Path) -> None:
    async with (
        gateway(broker.url, tmp_path, projector=False, ready_stall_s=STALL_S) as api,
        running(api, Keeper),
    ):
        await submit_and_cancel(api)
        await until(api, lambda checks: not checks["read_model"]["ok"])
        await ask(api.nc, f"STREAM.PURGE.{subjects.JOBS}", timeout_s=20)
        checks = await until(api, ready)
        assert checks["read_model"]["lag_events"] == 2


async def test_requests_at_the_same_time_get_the_same_answer(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, projector=False) as api:
        await api.submit()
        answers = await asyncio.gather(*(api.get("/readyz") for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert {answer.json["checks"]["read_model"]["lag_events"] for answer in answers} == {1}


# --- The measure itself


def test_a_part_is_measured_from_when_it_was_first_seen_behind() -> None:
    stalls = Stalls()
    assert stalls.seconds("a", 1, ahead=0, now=0) == 0
    assert stalls.seconds("a", 1, ahead=5, now=3600) == 0
    assert stalls.seconds("a", 1, ahead=5, now=3604) == 4
    assert stalls.seconds("b", 1, ahead=5, now=3604) == 0
    assert stalls.seconds("a", 2, ahead=9, now=3700) == 0
    assert stalls.seconds("a", 2, ahead=9, now=3701) == 1


def test_a_part_that_has_less_ahead_of_it_has_moved() -> None:
    stalls = Stalls()
    stalls.seconds("a", 1, ahead=5, now=0)
    assert stalls.seconds("a", 1, ahead=6, now=1) == 1
    assert stalls.seconds("a", 1, ahead=5, now=2) == 0
    assert stalls.seconds("a", 1, ahead=0, now=3) == 0
    assert stalls.seconds("a", 1, ahead=1, now=4) == 0


def test_what_was_seen_before_an_outage_does_not_count() -> None:
    stalls = Stalls()
    stalls.seconds("a", 1, ahead=5, now=0)
    stalls.seconds("b", 1, ahead=5, now=0)
    stalls.forget("b")
    stalls.clear()
    assert stalls.seconds("a", 1, ahead=5, now=60) == 0
