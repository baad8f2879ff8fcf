"""How a process is asked to end, and ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import structlog

from switchyard._worker.deadline import set_all
from switchyard.services.ending import Deadline

log = structlog.get_logger()

Stop = asyncio.Event


def stop_on_signals() -> Stop:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    received: list[int] = []

    def on_signal(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stop.set()

    def at_once(number: int, _: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        set_all()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
        # The loop still hears of it, and hears nothing while a handler blocks it.
        signal.signal(number, at_once)
    return stop


async def until_stopped(
    stop: Stop,
    work: Coroutine[Any, Any, None],
    *,
    grace_s: float,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Run `work` until it ends, or until `stop` is set: then it is cancelled, or asked by `on_stop` to end.

    What then takes much longer than its grace period is ended with the process.
    """
    deadline = Deadline(grace_s)

    async def watch() -> None:
        await stop.wait()
        deadline.set()
        if on_stop is None:
            running.cancel()
        else:
            on_stop()

    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(work)
            watching = group.create_task(watch())
            running.add_done_callback(lambda _: watching.cancel())
    finally:
        deadline.lift()
