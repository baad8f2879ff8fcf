"""A handler that says what it used, and fails now and then before it has."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from switchyard.handlers import Context, Handlers

handlers: Final = Handlers()
over_rest: Final = Handlers()


@over_rest.kind("rested")
@handlers.kind("billed")
async def billed(payload: dict[str, Any], context: Context) -> int:
    await asyncio.sleep(payload["seconds"])
    if random.random() < payload["fails"]:
        raise RuntimeError("another attempt is needed")
    context.usage.update(pages=payload["n"], tokens=payload["n"] / 3)
    return int(payload["n"])
