"""The double as a program: it prints its address, and shows at `/double` what it has done."""

from __future__ import annotations

import argparse
import asyncio
import signal

from aiohttp import web

from tests.connectors.a1111.double.server import A1111Double


class Program(A1111Double):
    async def _double(self, _request: web.Request) -> web.Response:
        execution = self.execution
        return web.json_response(
            {
                "runs": dict(execution.runs), "begun": execution.begun,
                "interrupted": execution.interrupted_tasks, "loads": execution.loads,
            }
        )  # fmt: skip

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        super()._add_routes(router)
        router.add_get("/double", self._double)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", choices=["a1111", "forge", "sdnext"], default="a1111")
    parser.add_argument("--auth", default="")
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    double = Program(options.build, auth=options.auth, port=options.port)
    double.execution.step_s = options.step_s
    async with double.running() as url:
        print(url, flush=True)  # noqa: T201 - whoever started it reads that
        await stopped.wait()


asyncio.run(main())
