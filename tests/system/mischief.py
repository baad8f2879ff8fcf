"""Handlers for workers that are killed: one that does its work, and others that harm what is around them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import Any, Final

from switchyard.handlers import Context, Handlers, SyncContext

handlers: Final = Handlers()
STEADY: Final = "steady"
MISCHIEF: Final = (
    "blocks",
    "forks",
    "forks-in-a-thread",
    "forks-in-a-process",
    "chats",
    "chats-in-a-process",
)


@handlers.kind(STEADY)
async def steady(payload: dict[str, Any], context: Context) -> str:
    context.progress(0.5, "half")
    await asyncio.sleep(payload["seconds"])
    return context.job_id


@handlers.kind("blocks")
async def blocks(payload: dict[str, Any], context: Context) -> str:
    time.sleep(payload["seconds"])  # noqa: ASYNC251 - that is what it is for
    return context.job_id


def forked(job_id: str) -> str:
    """Children that come back, fail and end; none of them may answer for the job."""
    for ends in (False, False, True):
        pid = os.fork()
        if pid == 0 and ends:
            os._exit(3)
        if pid == 0:
            return "a child's"
        os.waitpid(pid, 0)
    return job_id


@handlers.kind("forks")
async def forks(_: dict[str, Any], context: Context) -> str:
    return forked(context.job_id)


@handlers.kind("forks-in-a-thread")
def forks_in_a_thread(_: dict[str, Any], context: SyncContext) -> str:
    return forked(context.job_id)


@handlers.kind("forks-in-a-process", process=True)
def forks_in_a_process(_: dict[str, Any], context: SyncContext) -> str:
    return forked(context.job_id)


def chatter(seconds: float, context: SyncContext) -> str:
    """Threads that log as fast as they can, to the job's log and to the program's."""
    until = time.monotonic() + seconds

    def chat() -> None:
        while time.monotonic() < until:
            context.log("and another thing")
            logging.getLogger("chatter").debug("and another")

    threads = [threading.Thread(target=chat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return context.job_id


@handlers.kind("chats")
def chats(payload: dict[str, Any], context: SyncContext) -> str:
    return chatter(payload["seconds"], context)


@handlers.kind("chats-in-a-process", process=True)
def chats_in_a_process(payload: dict[str, Any], context: SyncContext) -> str:
    return chatter(payload["seconds"], context)
