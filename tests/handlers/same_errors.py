"""Handlers that raise the same exception again and again, as a constant of a module is raised."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from switchyard.handlers import Fatal, Handlers, Retry
from tests.handlers.hostile import GO, NotedError
from tests.handlers.odd import fails

handlers: Final = Handlers()
ASYNC: Final = "same-on-the-loop"
THREAD: Final = "same-in-a-thread"
PROCESS: Final = "same-in-a-process"
ON_CANCEL: Final = "same-when-asked-to-stop"
OUTLIVES: Final = "same-beyond-the-attempt"
OUTLIVES_IN_A_THREAD: Final = "same-beyond-the-attempt-in-a-thread"
PROCESS_LIVES: Final = "lives"

FATAL: Final = Fatal("it is known")
RETRY: Final = Retry("it is known")
CAUSE: Final = ValueError("a cause")
LOST: Final = KeyError("what came before")
TIMEOUT: Final = TimeoutError("late")

contexts: Final[list[weakref.ref[Any]]] = []
"""The contexts of all attempts here."""


class Payload(dict[str, Any]):
    """What a handler has in a variable."""


def from_cause() -> None:
    raise RuntimeError("afresh") from CAUSE


def after_another() -> None:
    try:
        raise LOST
    except KeyError:
        raise RuntimeError("afresh") from None


def in_group(error: BaseException) -> None:
    raise BaseExceptionGroup("afresh", [BaseExceptionGroup("inner", [error])])


EXIT: Final = SystemExit(3)
MEMBER: Final = ValueError("of a group")
NOTED: Final = NotedError("noted")
CANCELLED: Final = asyncio.CancelledError("by itself")

ERRORS: Final[dict[str, Callable[[], Any]]] = {
    "fatal": lambda: fails(FATAL),
    "retry": lambda: fails(RETRY),
    "cause": from_cause,
    "context": after_another,
    "any": lambda: fails(TIMEOUT),
    "exit": lambda: fails(EXIT),
    "cancelled": lambda: fails(CANCELLED),
    "looks odd": lambda: fails(NOTED),
    "member": lambda: in_group(_raised(MEMBER)),
}


def _raised(error: BaseException) -> BaseException:
    try:
        fails(error)
    except BaseException as caught:  # noqa: BLE001 - as a task group does
        return caught
    raise AssertionError("it was not raised")


def work(payload: dict[str, Any], context: Any) -> Any:
    held = Payload(payload)  # as a variable of a frame holds it
    contexts.extend([weakref.ref(context), weakref.ref(held)])
    if payload["case"] == PROCESS_LIVES:
        del held
        gc.collect()
        return {"pid": os.getpid(), "alive": alive() - 1}
    return ERRORS[payload["case"]]()


def alive() -> int:
    """How many attempts' contexts and variables are still held by somebody."""
    return sum(each() is not None for each in contexts)


@handlers.kind(ASYNC)
async def on_the_loop(payload: dict[str, Any], context: Any) -> Any:
    return work(payload, context)


@handlers.kind(ON_CANCEL)
async def when_asked_to_stop(_: dict[str, Any], context: Any) -> None:
    contexts.append(weakref.ref(context))
    try:
        await asyncio.Event().wait()
    finally:
        raise CANCELLED


@handlers.kind(OUTLIVES)
async def outlives(_: dict[str, Any], context: Any) -> None:
    """Go on until the test lets it end."""
    contexts.append(weakref.ref(context))
    while not GO.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
    raise CANCELLED


@handlers.kind(OUTLIVES_IN_A_THREAD)
def outlives_in_a_thread(_: dict[str, Any], context: Any) -> None:
    contexts.append(weakref.ref(context))
    GO.wait()
    raise TIMEOUT


handlers.kind(THREAD)(work)
handlers.kind(PROCESS, process=True)(work)
