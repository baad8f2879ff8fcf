"""Handlers as users write them, for all tests."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import pydantic

from switchyard.handlers import Context, Fatal, Handlers, Proposal, Release, Retry, SyncContext

handlers = Handlers()
DEAF_GO, DEAF_DONE = threading.Event(), threading.Event()


class Count(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    steps: int = pydantic.Field(default=3, ge=1)
    forever: bool = False


@dataclass
class Words:
    words: list[str]


@handlers.kind("count", slots=2, capabilities={"counts": True})
async def count(payload: Count, context: Context) -> dict[str, Any]:
    for step in range(1, payload.steps + 1):
        context.progress(step / payload.steps, "count", f"{step} of {payload.steps}")
        await asyncio.sleep(0)
    if payload.forever:
        await asyncio.Event().wait()
    return {"steps": payload.steps}


@handlers.kind("count-in-a-thread")
def count_in_a_thread(payload: Count, context: SyncContext) -> dict[str, Any]:
    for step in range(1, payload.steps + 1):
        context.progress(step / payload.steps, "count")
    while payload.forever and not context.cancelled:
        time.sleep(0.005)
    return {"steps": payload.steps}


@handlers.kind("count-in-a-process", process=True)
def count_in_a_process(payload: Count, context: SyncContext) -> dict[str, Any]:
    for step in range(1, payload.steps + 1):
        context.progress(step / payload.steps, "count")
    while payload.forever:
        time.sleep(1)
    context.log(f"counted to {payload.steps}")
    return {"steps": payload.steps}


def tolerated(payload: dict[str, Any], error: Fatal) -> str:
    """A handler may catch what its context raises."""
    if payload.get("tolerant"):
        return error.code
    raise error


@handlers.kind("deaf")
def deaf(payload: dict[str, Any], context: SyncContext) -> None:
    """Asks nothing of its context until the test lets it continue."""
    context.progress(0.1, "deaf")
    DEAF_GO.wait()
    try:
        context.progress(0.9, "deaf")
        context.log("nobody hears this")
    finally:
        DEAF_DONE.set()


@handlers.kind("join", process=True)
def join(payload: dict[str, Any], context: SyncContext) -> Any:
    try:
        file = context.fetch(payload["file"])
    except Fatal as error:
        return tolerated(payload, error)
    stored = context.save("upper.txt", file.path.read_text().upper())
    context.save("path.bin", file.path)
    context.usage["bytes"] = file.size_bytes
    return {"name": file.name, "type": stored.type, "pid": os.getpid()}


@handlers.kind("copy")
async def copy(payload: dict[str, Any], context: Context) -> str:
    try:
        file = await context.fetch(payload["file"])
    except Fatal as error:
        return tolerated(payload, error)
    await context.save("copy.txt", file.path)
    context.log(f"copied {file.name}")
    return file.name


@handlers.kind("copy-in-a-thread")
def copy_in_a_thread(payload: dict[str, Any], context: SyncContext) -> str:
    try:
        file = context.fetch(payload["file"])
    except Fatal as error:
        return tolerated(payload, error)
    context.save("copy.txt", file.path.read_bytes())
    context.log(f"copied {file.name}")
    return file.name


@handlers.kind("fail")
async def fail(payload: dict[str, Any]) -> Any:
    match payload["how"]:
        case "retry":
            raise Retry("try again", code="again")
        case "fatal":
            raise Fatal("never", code="never")
        case "release":
            raise Release("not here")
        case "bug":
            raise KeyError("surprise")
        case _:
            return object()


@handlers.kind("fail-in-a-process", process=True)
def fail_in_a_process(payload: dict[str, Any]) -> Any:
    if payload["how"] == "die":
        os._exit(3)
    raise Fatal("never", code="never")


@handlers.kind("words")
async def words(payload: Words, context: Context) -> Proposal:
    return Proposal({"said": " ".join(payload.words), "feedback": context.feedback}, checks={"lint": True})
