"""Handlers that do in a process what handlers do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from switchyard.handlers import Context, Fatal, Handlers, SyncContext

handlers = Handlers()
MIB = 1024**2
made: dict[str, int] = {}


@handlers.kind("where", process=True)
def where(_: dict[str, Any]) -> int:
    return os.getpid()


@handlers.kind("where-shared", process=True, shared=True)
def where_shared(_: dict[str, Any]) -> int:
    return os.getpid()


@handlers.kind("in-parts", process=True)
def in_parts(payload: dict[str, Any], context: SyncContext) -> Any:
    if context.joins:
        return [part.outcome().result for part in context.parts]
    context.spawn("where", payload, name="one")
    return 1 if payload.get("forget") else context.join("collect")


@handlers.kind("print", process=True)
def say(payload: dict[str, Any]) -> None:
    print("printed")  # noqa: T201
    subprocess.run(["echo", "echoed"], check=True)
    if payload.get("fail"):
        raise Fatal("as asked", code="asked")


@handlers.kind("save-from-threads", process=True)
def save_from_threads(payload: dict[str, Any], context: SyncContext) -> dict[str, str]:
    def save(number: int) -> tuple[str, str]:
        stored = context.save(f"{number}.txt", f"text {number}")
        return stored.name, stored.type

    with ThreadPoolExecutor(8) as threads:
        return dict(threads.map(save, range(payload["count"])))


@handlers.kind("save-from-a-copy", process=True)
def save_from_a_copy(payload: dict[str, Any], context: SyncContext) -> str:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            context.save("copy.txt", "of a copy") if payload["what"] == "save" else context.log("of a copy")
        except Fatal as error:
            os.write(write, f"{error.code}: {error.message}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as said:
        return said.read()


@handlers.kind("go-on", process=True)
def go_on(payload: dict[str, Any], context: SyncContext) -> str:
    """Leave a thread behind that logs, reports and saves."""

    def later() -> None:
        while True:
            context.log(payload["job"])
            context.progress(0.5, payload["job"])
            context.save(f"{payload['job']}.txt", payload["job"])

    threading.Thread(target=later, daemon=True).start()
    return str(payload["job"])


def fail_to_set_up_once() -> None:
    made["tried"] = made.get("tried", 0) + 1
    if made["tried"] == 1:
        raise OSError("no model yet")
    made["model"] = os.getpid()


def tear_down() -> None:
    if "left" in made_in:
        Path(made_in["left"]).write_text(str(made["model"]))


made_in: dict[str, str] = {}


@handlers.kind("ready", process=True, setup=fail_to_set_up_once, teardown=tear_down)
@handlers.kind("ready-in-a-thread", setup=fail_to_set_up_once, teardown=tear_down)
def ready(payload: dict[str, Any]) -> int:
    made_in.update(payload)
    return made["model"]


async def set_up_on_the_loop() -> None:
    await asyncio.sleep(0)
    fail_to_set_up_once()


async def tear_down_on_the_loop() -> None:
    await asyncio.sleep(0)
    tear_down()


@handlers.kind("ready-on-the-loop", setup=set_up_on_the_loop, teardown=tear_down_on_the_loop)
async def ready_on_the_loop(payload: dict[str, Any]) -> int:
    return ready(payload)


@handlers.kind("grow", process=True, memory_bytes=200 * MIB)
def grow(_: dict[str, Any]) -> None:
    block = b"x" * (400 * MIB)
    threading.Event().wait(len(block))


def innermost(word: str) -> None:
    raise KeyError(len(word))


def between(depth: int, word: str) -> None:
    if depth:
        between(depth - 1, word)
    try:
        innermost(word)
    except KeyError as error:
        raise ValueError("what went wrong") from error


@handlers.kind("trip-in-a-process", process=True)
@handlers.kind("trip-in-a-thread")
def trip(payload: dict[str, Any]) -> None:
    if payload.get("fatal"):
        try:
            between(0, payload["word"])
        except ValueError as error:
            raise Fatal("never", code="never") from error
    between(payload.get("depth", 0), payload["word"])


@handlers.kind("trip-on-the-loop")
async def trip_on_the_loop(payload: dict[str, Any], context: Context) -> None:
    trip(payload)


@handlers.kind("chatter")
async def chatter(payload: dict[str, Any], context: Context) -> int:
    for number in range(payload["lines"]):
        context.log(f"line {number}")
    return int(payload["lines"])


@handlers.kind("chatter-in-a-process", process=True)
def chatter_in_a_process(payload: dict[str, Any], context: SyncContext) -> int:
    for number in range(payload["lines"]):
        print(f"line {number}")  # noqa: T201
    return int(payload["lines"])
