"""Handlers that show what they have, in each way to run them, until the test lets them end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from switchyard.handlers import Context, Handlers, SyncContext
from tests.images import EACH, noise, padded, png

handlers = Handlers()
LATE: Final[list[Any]] = []


def show(what: str, context: Context | SyncContext) -> None:
    """Show what the payload says."""
    match what:
        case "small":
            context.preview(EACH["image/webp"], "image/webp")
        case "view":
            context.preview(memoryview(EACH["image/gif"]), "image/gif")
        case "large":
            context.preview(noise("PNG", 900), "image/png")
        case "flood":
            for mark in range(1000):
                context.preview(padded(200_000, mark), "image/png")
        case "hostile":
            for data in (
                b"",
                b"<svg/>",
                png()[:20],
                png(60_000, 60_000),
                bytes(10_000_000),
                padded(20_000_000),
            ):
                context.preview(data, "image/png")
            context.preview(noise("PNG", 900)[:300_000], "image/png")
            context.preview(EACH["image/jpeg"], "image/jpeg")
        case "page":
            context.preview(b"<script>", "text/html")
        case "text":
            context.preview("text", "image/png")  # type: ignore[arg-type]


async def on_the_loop(payload: dict[str, Any], context: Context) -> str:
    show(payload["what"], context)
    while not await asyncio.to_thread(Path(payload["go"]).exists):
        await asyncio.sleep(0.02)
    return "done"


def in_a_thread(payload: dict[str, Any], context: SyncContext) -> str:
    show(payload["what"], context)
    while not Path(payload["go"]).exists():
        time.sleep(0.02)
    return "done"


handlers.kind("show-on-the-loop")(on_the_loop)
handlers.kind("show-in-a-thread")(in_a_thread)
handlers.kind("show-in-a-process", process=True, shared=True)(in_a_thread)

KINDS: Final = ("show-on-the-loop", "show-in-a-thread", "show-in-a-process")
