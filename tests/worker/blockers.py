"""Handlers that take their worker's event loop, or the interpreter lock, away from all others."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from pathlib import Path
from typing import Any

from switchyard.handlers import Handlers, SyncContext

handlers = Handlers()


def _begin(payload: dict[str, Any]) -> None:
    if "began" in payload:
        with Path(payload["began"]).open("a") as began:
            began.write("began\n")


@handlers.kind("wait")
async def wait(payload: dict[str, Any]) -> str:
    _begin(payload)
    while not await asyncio.to_thread(Path(payload["gate"]).exists):
        await asyncio.sleep(0.05)
    return "own"


@handlers.kind("block")
async def block(payload: dict[str, Any]) -> str:
    _begin(payload)
    time.sleep(payload["seconds"])  # noqa: ASYNC251 - that is what it is for
    return "own"


@handlers.kind("hold")
async def hold(payload: dict[str, Any]) -> str:
    _begin(payload)
    ctypes.PyDLL(None).sleep(payload["seconds"])  # a PyDLL's functions do not give up the lock
    return "own"


@handlers.kind("fork")
async def fork(payload: dict[str, Any]) -> str:
    if not os.fork():
        time.sleep(600)  # noqa: ASYNC251 - it is no loop any more
        os._exit(0)
    _begin(payload)
    return "own"


@handlers.kind("chat")
def chat(payload: dict[str, Any], context: SyncContext) -> str:
    end = time.monotonic() + payload["seconds"]
    while time.monotonic() < end:
        context.log("and another thing")
    return "own"
