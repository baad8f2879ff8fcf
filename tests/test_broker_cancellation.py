"""A task that asks the broker ends when it is cancelled, at whatever moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from nats.aio.client import Client

from services.broker import connect
from tests.broker import SharedBroker

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
