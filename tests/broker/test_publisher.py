"""What a publisher makes of the broker's refusals, sent by a responder in the place of a stream."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.errors import SwitchyardError, UnavailableError, VersionConflictError
from switchyard.services.broker.connection import listen
from switchyard.services.broker.publisher import InProcessError, NoRoomError, Publisher, PublishRefusedError
from switchyard.services.gateway.http.problems import problem_of


async def refusal(nc: Client, error: dict[str, object]) -> SwitchyardError:
    async def refuse(message: Msg) -> None:
        await nc.publish(message.reply, orjson.dumps({"error": {"description": "no", **error}}))

    asked: asyncio.Queue[Msg] = asyncio.Queue()
    await listen(nc, "log.x", asked.put_nowait)
    async with Publisher(nc, timeout_s=20.0) as publisher:
        waiting = await publisher.send("log.x", b"", {})
        await refuse(await asked.get())
        with pytest.raises(SwitchyardError) as raised:
            await waiting
    return raised.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "answer"),
    [
        (10158, 400, InProcessError, 503),
        (10071, 400, VersionConflictError, 503),
        (10164, 400, VersionConflictError, 503),
        (10163, 503, UnavailableError, 503),
        (10167, 429, UnavailableError, 503),
        (10008, 503, UnavailableError, 503),
        (10118, 500, UnavailableError, 503),
        (10041, 500, UnavailableError, 503),
        (10226, 400, UnavailableError, 503),
        (10002, 400, NoRoomError, 503),
        (10028, 400, NoRoomError, 503),
        (10077, 503, NoRoomError, 503),
        (10999, 503, UnavailableError, 503),
        (10054, 400, PublishRefusedError, 500),
        (10097, 400, PublishRefusedError, 500),
    ],
)
async def test_a_refusal_means_what_the_broker_means_by_it(
    nats_connection: Client, code: int, status: int, kind: type[SwitchyardError], answer: int
) -> None:
    error = await refusal(nats_connection, {"code": status, "err_code": code})
    assert type(error) is kind
    assert problem_of(error).status == answer
