"""A prediction server that Switchyard pushes tasks to: it answers at once, or calls back when it is done.

    python prediction_server.py 9000
    switchyard servers add here --kind upscale --slots 2 \
      --predict http://127.0.0.1:9000/predict --health http://127.0.0.1:9000/health \
      --cancel http://127.0.0.1:9000/cancel
    switchyard submit --kind upscale --payload '{"width": 100, "height": 50}' --wait

A task with `"seconds": 5` in its payload takes that long: the server answers 202, and calls back.
"""

import asyncio
import sys
from typing import Any

from aiohttp import ClientSession, web

SLOTS = 2
running: dict[str, asyncio.Task[None]] = {}


def double(request: dict[str, Any]) -> dict[str, Any]:
    """The work itself."""
    return {"width": 2 * request["width"], "height": 2 * request["height"]}


def answer(task: str, status: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What is said of a task; all of it becomes the job's result when it has finished."""
    return {"backend_task_id": task, "data": data, "metadata": {"status": status, **more}}


async def work(task: str, asked: dict[str, Any]) -> None:
    """Say how far it is, then what came of it, at the address that came with the task."""
    request, seconds = asked["request"], float(asked["request"]["seconds"])
    async with ClientSession() as http:
        for step in range(4):
            await http.put(asked["callback_url"], json=answer(task, "PROCESSING", {}, progress=step / 4))
            await asyncio.sleep(seconds / 4)
        await http.put(asked["callback_url"], json=answer(task, "FINISHED", double(request)))


async def predict(request: web.Request) -> web.Response:
    """Take a task; one too many is answered 409, and comes again later."""
    asked = await request.json()
    task = asked["task_id"]
    if "width" not in asked["request"]:
        return web.json_response({"error": "width is missing"}, status=422)
    if not asked["request"].get("seconds"):
        return web.json_response(answer(task, "FINISHED", double(asked["request"])))
    if len(running) >= SLOTS:
        return web.json_response({"error": "all slots are taken"}, status=409)
    running[task] = asyncio.create_task(work(task, asked))
    running[task].add_done_callback(lambda _: running.pop(task, None))
    return web.json_response({"task_id": task, "backend_task_id": task, "status": "accepted"}, status=202)


async def health(_: web.Request) -> web.Response:
    """Say that it lives."""
    return web.json_response({"status": "ok", "running": len(running)})


async def cancel(request: web.Request) -> web.Response:
    """Stop a task."""
    task = running.get((await request.json())["task_id"])
    return web.json_response({"stopped": task is not None and task.cancel()})


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.post("/predict", predict), web.get("/health", health), web.post("/cancel", cancel)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
