"""Handlers of a drill: each phase of a job that ends in parts waits until its gate, a file, is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from switchyard.handlers import Context, Handlers

handlers = Handlers()
PARTS = 12


async def passed(payload: dict[str, Any], gate: str) -> None:
    while not Path(payload["gates"], gate).exists():  # noqa: ASYNC240 - a look takes no time
        await asyncio.sleep(0.05)


@handlers.kind("drill-plan")
async def plan(payload: dict[str, Any], context: Context) -> Any:
    if context.joins:
        await passed(payload, "join")
        return [(await part.outcome()).result for part in context.parts]
    for n in range(PARTS):
        await context.spawn("drill-part", {"n": n, "gates": payload["gates"]})
    await passed(payload, "plan")
    context.usage["plans"] = 1
    return context.join()


@handlers.kind("drill-part")
async def part(payload: dict[str, Any], context: Context) -> int:
    await passed(payload, "part")
    context.usage["parts"] = 1
    return int(payload["n"])
