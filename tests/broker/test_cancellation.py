"""A task that asks the broker ends when it is cancelled, at whatever moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from nats.aio.client import Client

from switchyard.services.broker.connection import connect, on_reconnect
from tests.broker.shared import SharedBroker

ASKS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "request": lambda nc: nc.request("$JS.API.INFO", b"", timeout=5),
    "flush": lambda nc: nc.flush(5),
}


@pytest.mark.parametrize("ask", ASKS)
async def test_cancellation_that_comes_with_the_answer_is_not_lost(
    shared_broker: SharedBroker, ask: str
) -> None:
    nc = await connect(shared_broker.url, name="test")
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await ASKS[ask](nc)
        await asyncio.Event().wait()

    for steps in range(400):
        task = asyncio.create_task(work())
        if steps % 2:
            # The answer is read in this very pass of the loop: both come together.
            await ASKS[ask](nc)
        for _ in range(steps % 7):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        lost = not done
        task.cancel()
        assert not lost, f"step {steps}"
    await nc.close()
    assert rounds > 200


async def test_a_flush_that_is_cancelled_while_it_waits_leaves_the_connection_hearing(
    shared_broker: SharedBroker,
) -> None:
    nc = await connect(shared_broker.url, name="test")
    for steps in range(60):
        task = asyncio.create_task(nc.flush(5))
        for _ in range(steps % 6):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        await nc.request("$JS.API.INFO", b"", timeout=5)
    assert nc.stats["reconnects"] == 0
    await nc.close()


async def test_a_connection_whose_reader_fails_is_taken_up_again(
    shared_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    nc = await connect(shared_broker.url, name="test")
    again = asyncio.Event()
    on_reconnect(nc, again.set)

    async def fail(*_: object) -> None:
        raise RuntimeError("an error that nats-py does not expect")

    subscription = await nc.subscribe("broken", cb=fail)
    monkeypatch.setattr(nc, "_process_msg", fail)
    await nc.publish("broken", b"")
    await nc._flush_pending()
    async with asyncio.timeout(60):
        await again.wait()
    monkeypatch.undo()
    await nc.request("$JS.API.INFO", b"", timeout=5)
    await subscription.unsubscribe()
    await nc.close()
