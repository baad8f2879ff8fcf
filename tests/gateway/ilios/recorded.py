"""Plays back what the real server has answered to the walk, in its order.

It was recorded at the seed generation, with its database by libSQL, S3 by moto, and a double for Mistral. Of
answers in a row that are alike one is kept. Its `batches` are of a later generation (067be4a).
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

RECORDED: Final[dict[str, Any]] = orjson.loads(Path(__file__).with_name("recorded.json").read_bytes())
DATA: Final = base64.b64decode(RECORDED["data"])
STORE: Final = "S3"


@contextlib.asynccontextmanager
async def playback(walk: str = "exchanges") -> AsyncIterator[str]:
    """Answer until the block ends; the URL. A request that was not recorded next is a 599."""
    left: list[dict[str, Any]] = list(reversed(RECORDED[walk]))
    url = ""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        path = request.path_qs.replace("/S3/", "S3/")
        wanted: dict[str, Any] = left.pop() if left else {"method": "nothing", "path": ""}
        if (request.method, path) != (wanted["method"], wanted["path"]):
            return web.Response(status=599, text=f"{wanted['method']} {wanted['path']} was recorded next")
        body = DATA if isinstance(wanted["body"], dict) else wanted["body"].replace(
            f"{STORE}/", f"{url}/{STORE}/"
        ).encode()  # fmt: skip
        headers = {
            name: value.replace(f"{STORE}/", f"{url}/{STORE}/", 1) if name == "Location" else value
            for name, value in wanted["headers"].items()
        }
        return web.Response(status=wanted["status"], headers=headers, body=body)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield url
        assert left == [], f"{len(left)} exchanges were not asked for"
    finally:
        await runner.cleanup()
