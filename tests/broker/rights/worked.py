"""What the worker of a guarded deployment runs: everything that an attempt may do."""

from __future__ import annotations

import asyncio
from typing import Any

from switchyard.handlers import Context, Handlers, Retry
from tests.images import png

handlers = Handlers()


@handlers.kind("everything")
async def everything(payload: dict[str, Any], context: Context) -> dict[str, Any]:
    """Read a file, say and show something, store a file; wait or fail as asked."""
    context.progress(0.5, "half")
    context.log("a line")
    context.preview(png(8, 8), "image/png")
    said = ""
    if "file" in payload:
        said = (await context.fetch(payload["file"])).path.read_text()
    if payload.get("fail") and context.attempt == 1:
        raise Retry("once", code="once")
    if payload.get("wait"):
        await asyncio.Event().wait()
    saved = await context.save("out.txt", f"said {said}")
    return {"said": said, "file": saved.file}
