"""The double as a program: it prints its address, and shows at `/double` what it has done."""

from __future__ import annotations

import argparse
import asyncio
import signal

from aiohttp import web

from tests.connectors.comfyui.double.server import ComfyDouble


class Program(ComfyDouble):
    async def _double(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "runs": dict(self.execution.runs),
                "posts": self.posts,
                "stopped": self.stopped,
                "left": self.execution.left(),
            }
        )

    def _add_routes(self, router: web.UrlDispatcher, prefix: str) -> None:
        super()._add_routes(router, prefix)
        router.add_get(f"{prefix}/double", self._double)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--generation", choices=["2025", "2026"], default="2026")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Program(options.generation, options.port).running() as url:
        print(url, flush=True)  # noqa: T201 - whoever started it reads that
        await stopped.wait()


asyncio.run(main())
