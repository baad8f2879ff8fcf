"""A double of Cog servers, of both generations, with their faults; compared with the real ones by a test.

What a prediction does stands in its input: `text` is said again, a piece for each of three steps; `seconds`
is how long it takes; `fail` is `error` for a failure of the model, `die` for a crash of its worker.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web

STEPS: Final = 3
NEW, OLD = "0.23", "0.16"
RETRIES_S: Final = (0.2, 0.4, 0.8)
EVENTS: Final = "text/event-stream"


class CogServer:
    """One on loopback.

    Args:
        name: as it is registered.
        generation: which of the two.
        slots: predictions at once.
        streams: whether the model is marked for streaming.
        port: where it listens; 0 takes a free one.
    """

    def __init__(
        self, name: str, generation: str = NEW, *, slots: int = 1, streams: bool = True, port: int = 0
    ) -> None:
        self.name = name
        self.generation = generation
        self.slots = slots
        self.streams = streams
        self.port = port
        self.status = "READY"
        """What a health check says where no prediction makes it BUSY."""
        self.output: Any = None
        """In the place of what the text makes."""
        self.metrics: dict[str, Any] = {}
        self.logs = ""
        """What is printed beside the steps."""
        self.calls_back = True
        self.renamed = ""
        """The id that webhooks bring in the place of their own."""
        self.raw_events: bytes | None = None
        """What comes as a stream in the place of events."""
        self.began: Counter[str] = Counter()
        self.inputs: dict[str, dict[str, Any]] = {}
        self.fetched: list[Mapping[str, str]] = []
        """The headers with which files were asked for that it keeps itself."""
        self.cancelled: list[str] = []
        self.heard: list[int] = []
        self.running: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner
        self._http: ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def wish(self) -> dict[str, Any]:
        """The body of its registration."""
        return {"endpoints": {"predict": f"{self.url}/predictions"}, "kinds": ["upscale"], "profile": "cog"}

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes([
            web.put("/predictions/{id}", self._put), web.post("/predictions/{id}/cancel", self._cancel),
            web.get("/health-check", self._health), web.get("/files/{name}", self._file),
        ])  # fmt: skip
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=self.generation == NEW
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self._http = ClientSession(timeout=ClientTimeout(total=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.running.clear()
        await self._http.close()
        await self._runner.cleanup()

    # --- Routes

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.headers)
        return web.Response(body=b"its own", content_type="image/png")

    async def _health(self, _: web.Request) -> web.Response:
        busy = self.status == "READY" and len(self.running) >= self.slots
        return web.json_response({"status": "BUSY" if busy else self.status, "setup": {"logs": "set up\n"}})

    async def _cancel(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        task = self.running.get(name)
        self.cancelled.append(name)
        if task is None:
            return web.json_response({}, status=404)
        task.cancel()
        return web.json_response({})

    async def _put(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        try:
            asked = await request.json()
        except ValueError:
            if self.generation == NEW:
                return web.Response(status=400, text="Failed to parse the request body as JSON")
            return web.json_response({"detail": [{"loc": ["body"], "msg": "JSON decode error"}]}, status=422)
        if asked.get("id", name) != name:
            return web.json_response({"detail": [{"loc": ["body", "id"], "msg": "must match"}]}, status=422)
        if self.status in ("STARTING", "SETUP_FAILED"):
            return web.json_response({"status": "failed", "error": "not ready"}, status=503)
        if name in self.running:
            return web.json_response(self._objects[name], status=202)
        given = asked.get("input", {})
        if not isinstance(given.get("text"), str):
            fault = {"loc": ["body", "input", "text"], "msg": "Field required", "type": "missing"}
            return web.json_response({"detail": [fault]}, status=422)
        is_stream = request.headers.get("Accept") == EVENTS and self.generation == NEW
        if is_stream and not self.streams:
            return web.json_response({"error": "This model does not support streaming"}, status=406)
        if len(self.running) >= self.slots or self.status != "READY":
            if self.generation == NEW:
                full = {"error": "At capacity - all prediction slots busy", "status": "failed"}
                return web.json_response(full, status=409)
            return web.json_response({"detail": "Already running a prediction"}, status=409)
        return await self._begin(request, name, asked, is_stream=is_stream)

    async def _begin(
        self, request: web.Request, name: str, asked: dict[str, Any], *, is_stream: bool
    ) -> web.StreamResponse:
        self.began[name] += 1
        self.inputs[name] = asked["input"]
        events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        work = asyncio.create_task(self._work(name, asked, events))
        self._keep(work)
        self.running[name] = work
        work.add_done_callback(lambda _: self.running.pop(name, None))
        if request.headers.get("Prefer") == "respond-async":
            if self.generation == NEW:
                return web.json_response({"id": name, "status": "starting"}, status=202)
            await asyncio.sleep(0)
            return web.json_response(self._objects[name], status=202)
        if is_stream:
            return await self._stream(request, name, work, events)
        try:
            done = await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.cancelled():  # the client is gone
                work.cancel()
                raise
            done = self._objects[name]
        return web.Response(text=json.dumps(done), content_type="application/json")

    async def _stream(
        self, request: web.Request, name: str, work: asyncio.Task[Any], events: asyncio.Queue[tuple[str, Any]]
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": EVENTS})
        await answer.prepare(request)
        is_whole = False
        try:
            if self.raw_events is not None:
                await answer.write(self.raw_events)
                return answer
            while True:
                event, data = await events.get()
                await answer.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
                if event == "completed":
                    is_whole = True
                    return answer
        finally:
            if not is_whole:
                work.cancel()  # the last reader is gone
            self._objects.setdefault(name, {})

    # --- Work

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(
        self, name: str, asked: dict[str, Any], events: asyncio.Queue[tuple[str, Any]]
    ) -> dict[str, Any]:
        given = asked["input"]
        wanted = asked.get("webhook_events_filter") or ["start", "output", "logs", "completed"]
        said: dict[str, Any] = {"id": name, "status": "processing", "logs": "", "metrics": {}}
        if self.generation == OLD:
            said |= {"input": given, "output": None, "error": None, "version": None, "created_at": None}
        self._objects[name] = said

        async def hook(event: str) -> None:
            if event in wanted and asked.get("webhook"):
                await self._call_back(asked["webhook"], said, final=event == "completed")

        async def end(status: str, **more: Any) -> dict[str, Any]:
            said.update(status=status, metrics={"predict_time": 0.1, **self.metrics}, **more)
            events.put_nowait(("completed", dict(said)))
            self.running.pop(name, None)
            await hook("completed")
            return said

        events.put_nowait(("start", {"id": name, "status": "processing"}))
        try:
            await hook("start")
            pieces: list[str] = []
            for step in range(STEPS):
                await asyncio.sleep(given.get("seconds", 0) / STEPS)
                line = f"step {step}\n{self.logs}"
                said["logs"] += line
                events.put_nowait(("log", {"source": "stdout", "data": line}))
                await hook("logs")
                if step == 1 and given.get("fail") == "error":
                    return await end("failed", error="it went wrong")
                if step == 1 and given.get("fail") == "die":
                    self.status = "UNHEALTHY"
                    return await end("failed", error="Worker crashed")
                pieces.append(f"{given['text']}{step}")
                events.put_nowait(("output", {"chunk": pieces[-1], "index": step}))
            return await end("succeeded", output=pieces if self.output is None else self.output)
        except asyncio.CancelledError:
            self._keep(asyncio.create_task(end("canceled")))
            raise

    async def _call_back(self, url: str, said: dict[str, Any], *, final: bool) -> None:
        if not self.calls_back:
            return
        body = json.dumps({**said, "id": self.renamed or said["id"]})
        for pause_s in (*RETRIES_S, None) if final else (None,):
            try:
                async with self._http.post(
                    url, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    self.heard.append(answer.status)
                    if answer.status not in (429, 500, 502, 503, 504):
                        return
            except (ClientError, OSError, TimeoutError):
                pass
            if pause_s is not None:
                await asyncio.sleep(pause_s)
