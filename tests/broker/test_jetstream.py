"""What a call of the JetStream API makes of a refusal by a responder or by the broker itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.services.broker import topology
from switchyard.services.broker.connection import listen
from switchyard.services.broker.jetstream import DELETE_FAILED, GONE, NOTHING, FaultError, api
from switchyard.services.broker.part_reader import follow_once
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import last_message
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.keeper.stale import delete
from switchyard.services.records.limits import Limits
from switchyard.services.settings import Settings

CALL = "TEST.CALL"
OK = {"ok": True}
NOT_READY = {"error": {"code": 503, "err_code": 10008, "description": "temporarily unavailable"}}
LEADERLESS = {"state": {"last_seq": 3}, "cluster": {"name": "c", "replicas": []}}


@asynccontextmanager
async def answering(nc: Client, *answers: Mapping[str, object]) -> AsyncIterator[Callable[[], int]]:
    """A part of the broker that gives these answers in turn, then the last one; how often it was asked."""
    asked: asyncio.Queue[Msg] = asyncio.Queue()
    times = 0

    async def answer() -> None:
        nonlocal times
        while True:
            message = await asked.get()
            body = answers[min(times, len(answers) - 1)]
            times += 1
            await nc.publish(message.reply, orjson.dumps(body))

    await listen(nc, f"$JS.API.{CALL}", asked.put_nowait)
    task = asyncio.create_task(answer())
    yield lambda: times
    task.cancel()


def refusal(code: int, status: int) -> Mapping[str, object]:
    return {"error": {"code": status, "err_code": code, "description": "no"}}


@pytest.mark.parametrize("first", [NOT_READY, LEADERLESS, refusal(10012, 500), refusal(10195, 500)])
async def test_call_that_the_broker_is_not_ready_for_is_made_again(
    nats_connection: Client, first: Mapping[str, object]
) -> None:
    async with answering(nats_connection, first, first, OK) as asked:
        assert await api(nats_connection, CALL, timeout_s=20) == OK
        assert asked() == 3


@pytest.mark.parametrize(
    ("code", "status", "kind", "shown"),
    [
        (10008, 503, UnavailableError, 503),
        (10004, 503, UnavailableError, 503),
        (10012, 500, UnavailableError, 503),
        (10110, 500, UnavailableError, 503),
        (10999, 429, UnavailableError, 503),
        (10005, 400, UnavailableError, 503),
        (10047, 500, UnavailableError, 503),
        (10104, 500, UnavailableError, 503),
        (10059, 404, UnavailableError, 503),
        (10025, 400, FaultError, 500),
        (10100, 400, FaultError, 500),
        (10117, 500, FaultError, 500),
        (DELETE_FAILED, 500, FaultError, 500),
    ],
)
async def test_refusal_means_what_the_broker_means_by_it(
    nats_connection: Client, code: int, status: int, kind: type[SwitchyardError], shown: int
) -> None:
    async with answering(nats_connection, refusal(code, status)):
        with pytest.raises(UnavailableError) as raised:
            await api(nats_connection, CALL, timeout_s=0.2, expected=NOTHING)
    assert type(raised.value) is kind
    assert problem_of(raised.value).status == shown


@pytest.mark.parametrize("code", [10005, 10025, 10059])
async def test_refusal_that_stays_is_raised_at_the_first_time(nats_connection: Client, code: int) -> None:
    async with answering(nats_connection, refusal(code, 400)) as asked:
        with pytest.raises(UnavailableError):
            await api(nats_connection, CALL, timeout_s=20, expected=NOTHING)
        assert asked() == 1


@pytest.mark.parametrize("code", sorted(GONE))
async def test_what_is_gone_is_reported_to_whoever_can_do_without(nats_connection: Client, code: int) -> None:
    async with answering(nats_connection, refusal(code, 404)):
        answer = await api(nats_connection, CALL, timeout_s=20)
    assert answer["error"]["err_code"] == code


async def test_read_that_the_broker_refuses_is_not_taken_for_an_empty_one(nats_connection: Client) -> None:
    await topology.apply(nats_connection)
    assert await last_message(nats_connection, "JOBS", "job.none.>", timeout_s=20) is None
    with pytest.raises(UnavailableError, match="Empty Request"):
        await last_message(nats_connection, "JOBS", "", timeout_s=20)


async def test_bucket_that_brings_nothing_is_unavailable_in_time(nats_connection: Client) -> None:
    stream = {"name": "KV_full", "subjects": ["$KV.full.>"], "max_consumers": 1}
    await api(nats_connection, "STREAM.CREATE.KV_full", stream, timeout_s=20)
    taken = {"stream_name": "KV_full", "config": {"durable_name": "taken", "ack_policy": "explicit"}}
    await api(nats_connection, "CONSUMER.DURABLE.CREATE.KV_full.taken", taken, timeout_s=20)
    async with Publisher(nats_connection) as publisher:
        await publisher.publish("$KV.full.x", b"", {})
    with pytest.raises(UnavailableError):
        await follow_once(nats_connection, "KV_full", timeout_s=0.5)


async def test_message_that_is_gone_is_unlike_one_that_may_not_be_deleted(
    nats_connection: Client,
) -> None:
    await topology.apply(nats_connection)
    assert not await delete(nats_connection, "TIMERS", 7, timeout_s=20)


async def test_limit_that_cannot_be_looked_at_is_not_taken_for_used_up(nats_connection: Client) -> None:
    await topology.apply(nats_connection)
    async with Publisher(nats_connection) as publisher:
        limits = Limits(nats_connection, publisher, Settings())
        with pytest.raises(UnavailableError, match="503"):
            await limits.may_start("acme.gpu")  # no consumer answers
