"""Handlers that do not end when they are asked to; each ends by itself some seconds later."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from switchyard.handlers import Handlers
from tests.handlers.odd import Case, register

handlers: Final = Handlers()
ASYNC: Final = "outlasting-on-the-loop"
THREAD: Final = "outlasting-in-a-thread"
PROCESS: Final = "outlasting-in-a-process"
TIMEOUT_S: Final = 0.3
LASTS_S: Final = 5.0


def late(act: Callable[[Any], Any]) -> Case:
    return Case(act, "timeout", "longer than", retryable=True)


def end() -> float:
    return time.monotonic() + LASTS_S


async def swallows(error: type[BaseException]) -> None:
    until = end()
    while time.monotonic() < until:
        with contextlib.suppress(error):
            await asyncio.sleep(0.2)


async def slow_finally() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await swallows(asyncio.CancelledError)


async def shields() -> None:
    task = asyncio.create_task(asyncio.sleep(LASTS_S))
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(swallows(asyncio.CancelledError))


async def gathers() -> None:
    await asyncio.gather(*(swallows(BaseException) for _ in range(3)), return_exceptions=True)


async def generates() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.1)
        finally:
            await swallows(asyncio.CancelledError)

    async for _ in numbers():
        pass


async def waits_for_a_thread() -> None:
    work = asyncio.ensure_future(asyncio.to_thread(time.sleep, LASTS_S))
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(work)


async def uncancels() -> None:
    until = end()
    task: Any = asyncio.current_task()
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            task.uncancel()


async def blocks_and_waits() -> None:
    time.sleep(1.0)  # noqa: ASYNC251 - that is what it is for
    await asyncio.sleep(60)


async def ends_when_asked() -> None:
    await asyncio.sleep(60)


def sleeps() -> None:
    time.sleep(LASTS_S)


def spins() -> None:
    until = end()
    while time.monotonic() < until:
        pass


def locks() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=LASTS_S)


def logs_on(context: Any) -> None:
    until = end()
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            context.log("still here")
            context.progress(0.5)
        time.sleep(0.001)


def asks(context: Any) -> None:
    while not context.cancelled:
        time.sleep(0.05)


def ignores() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(LASTS_S)


ON_THE_LOOP: Final = {
    "swallows": late(lambda _: swallows(asyncio.CancelledError)),
    "swallows all": late(lambda _: swallows(BaseException)),
    "slow finally": late(lambda _: slow_finally()),
    "shields": late(lambda _: shields()),
    "grouped": late(lambda _: grouped()),
    "gathers": late(lambda _: gathers()),
    "generates": late(lambda _: generates()),
    "waits for a thread": late(lambda _: waits_for_a_thread()),
    "uncancels": late(lambda _: uncancels()),
    "blocks and waits": late(lambda _: blocks_and_waits()),
    "ends when asked": late(lambda _: ends_when_asked()),
}
PLAIN: Final = {
    "sleeps": late(lambda _: sleeps()),
    "spins": late(lambda _: spins()),
    "locks": late(lambda _: locks()),
    "logs on": late(logs_on),
    "asks": late(asks),
    "ignores": late(lambda _: ignores()),
}

register(handlers, ON_THE_LOOP | PLAIN, (ASYNC, THREAD, PROCESS))
