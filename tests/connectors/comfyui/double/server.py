"""The routes and the WebSocket of the double, and its faults."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web

from tests.connectors.comfyui.double import nodes
from tests.connectors.comfyui.double.execution import Execution, Item, outputs_of
from tests.connectors.comfyui.double.jobs import Jobs
from tests.connectors.comfyui.double.nodes import INFO

VERSIONS = {"2025": "0.3.64", "2026": "0.33.0"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ComfyDouble:
    """One ComfyUI.

    Args:
        generation: whose routes it has: those of 0.3.64 or of 0.33.0.
        port: 0 for any that is free.
    """

    def __init__(self, generation: Literal["2025", "2026"] = "2026", port: int = 0) -> None:
        self.generation = generation
        self.port = port
        self.stopped: list[str] = []
        """What was deleted from the queue or interrupted, in order."""
        self.freed: list[dict[str, Any]] = []
        self.posts: list[str] = []
        self.asked: list[str] = []
        """Methods and paths, in order."""
        self.silent = asyncio.Event()
        """While it is set, no request is answered, and no frame is sent."""
        self.mute = False
        """No frame is sent."""
        self.loses_answers = 0
        """How many of the next prompts are taken in without an answer."""
        self.view_s = 0.0
        self.view_bytes: int | None = None
        """How long each file is, where it is not the one that was made."""
        self.rewrite: Callable[[str, Any], Any] = lambda _path, body: body
        """What an answer reads like, by path."""
        self.old_interrupt = False
        """As old builds: whatever runs is interrupted."""
        self.models: dict[str, list[str]] = {"checkpoints": nodes.CHECKPOINTS, "loras": nodes.LORAS}
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._flags: set[str] = set()
        self._numbers = itertools.count()
        self._answers = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve until the block ends; its URL."""
        with tempfile.TemporaryDirectory(prefix="comfy-double-") as directory:
            for name in ("input", "output", "temp"):
                (Path(directory) / name).mkdir()
            self.execution = Execution(Path(directory), self._send, lambda client: client in self._flags)
            self.execution.start()
            try:
                await self.listen()
                yield f"http://127.0.0.1:{self.port}"
            finally:
                await self.execution.stop()
                await self.close()

    async def listen(self) -> None:
        app = web.Application(middlewares=[self._faults], client_max_size=100 * 1024**2)
        for prefix in ("", "/api"):
            self._add_routes(app.router, prefix)
        runner = self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]

    def _add_routes(self, router: web.UrlDispatcher, prefix: str) -> None:
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/ws", self._ws), ("GET", "/prompt", self._exec_info), ("POST", "/prompt", self._post),
            ("GET", "/queue", self._queue), ("POST", "/queue", self._change_queue),
            ("POST", "/interrupt", self._interrupt), ("GET", "/history", self._history),
            ("GET", "/history/{id}", self._history), ("POST", "/history", self._change_history),
            ("GET", "/view", self._view), ("POST", "/upload/image", self._upload),
            ("GET", "/object_info", self._object_info), ("GET", "/object_info/{name}", self._object_info),
            ("GET", "/system_stats", self._stats), ("POST", "/free", self._free),
            ("GET", "/features", self._features),
            ("GET", "/models", self._models), ("GET", "/models/{folder}", self._models),
        )  # fmt: skip
        for method, path, handler in table:
            router.add_route(method, prefix + path, handler)
        if self.generation == "2026" and prefix:
            Jobs(self.execution, self.stopped).add_routes(router)

    # --- Faults

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.silent.is_set():
            await asyncio.Event().wait()
        return await handler(request)

    def drop_sockets(self) -> None:
        """The connections of all WebSockets are gone, without a close frame."""
        for socket in self._sockets.values():
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()
        self._sockets.clear()
        self._flags.clear()

    def restart(self) -> None:
        """It dies, and is there again without queue and history."""
        self.drop_sockets()
        self.execution.forget()

    async def close(self) -> None:
        """Nobody listens any more; connections end."""
        self.drop_sockets()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _send(self, client: str | None, frame: dict[str, Any] | bytes) -> None:
        if self.mute or self.silent.is_set():
            return
        for socket in list(self._sockets.values()) if client is None else [self._sockets.get(client)]:
            if socket is None or socket.closed:
                continue
            with contextlib.suppress(ConnectionError, RuntimeError):
                await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_json(frame))

    # --- WebSocket

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets[client] = socket  # one that was there stays open, and is silent
        self._flags.discard(client)
        status = {"exec_info": {"queue_remaining": self.execution.left()}}
        if not self.mute:
            await socket.send_json({"type": "status", "data": {"status": status, "sid": client}})
            running = self.execution.running
            if running is not None and running.extra.get("client_id") == client:
                await socket.send_json({"type": "executing", "data": {"node": self.execution._node}})
        try:
            async for message in socket:
                if (
                    message.type == aiohttp.WSMsgType.TEXT
                    and json.loads(message.data)["type"] == "feature_flags"
                ):
                    self._flags.add(client)
                    await socket.send_json({"type": "feature_flags", "data": self._feature_flags()})
        finally:
            if self._sockets.get(client) is socket:
                del self._sockets[client]
        return socket

    # --- Prompts

    async def _exec_info(self, request: web.Request) -> web.Response:
        return self._json(request, {"exec_info": {"queue_remaining": self.execution.left()}})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.text())
        except ValueError:
            return web.Response(status=500, text="500 Internal Server Error")
        prompt_id = body.get("prompt_id") or str(uuid.uuid4())
        if self.generation == "2026" and not _is_canonical(prompt_id):
            said = "prompt_id must be a valid UUID"
            return self._refused("invalid_prompt_id", said, 400, "expected canonical lowercase form")
        if "prompt" not in body:
            return self._refused("no_prompt", "No prompt provided", 400, "No prompt provided")
        prompt = body["prompt"]
        for node_id, node in prompt.items():
            if node.get("class_type") not in INFO:
                return self._unknown(node_id, node.get("class_type"))
        if not (targets := outputs_of(prompt)):
            return self._refused("prompt_no_outputs", "Prompt has no outputs", 400)
        inputs = self.execution.root / "input"
        faults = {node: found for node in prompt if (found := nodes.faults_of(prompt, node, inputs))}
        good = [node for node in targets if not _needs(prompt, node) & set(faults)]
        errors = {
            node: {
                "errors": found, "class_type": prompt[node]["class_type"],
                "dependent_outputs": [target for target in targets if node in _needs(prompt, target)],
            }
            for node, found in faults.items()
        }  # fmt: skip
        if not good:
            said = "Prompt outputs failed validation"
            details = [_details_of(each) for found in faults.values() for each in found]
            error = {
                "type": "prompt_outputs_failed_validation", "message": said,
                "details": "\n".join(filter(None, details)), "extra_info": {},
            }  # fmt: skip
            return web.json_response({"error": error, "node_errors": errors}, status=400)
        number = next(self._numbers)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        self.posts.append(prompt_id)
        self.execution.put(
            Item(body.get("number", -number if body.get("front") else number), prompt_id, prompt, extra, good)
        )
        await self.execution.status()
        if self.loses_answers > 0:
            self.loses_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        return self._json(request, {"prompt_id": prompt_id, "number": number, "node_errors": errors})

    def _unknown(self, node_id: str, class_type: str | None) -> web.Response:
        details = f"Node ID '#{node_id}'"
        if self.generation == "2025":
            said = f"Cannot execute because node {class_type} does not exist."
            if class_type is None:
                said = "Cannot execute because a node is missing the class_type property."
            return self._refused("invalid_prompt", said, 400, details)
        extra = {"node_id": node_id, "class_type": class_type, "node_title": class_type}
        said = f"Node '{class_type}' not found. The custom node may not be installed."
        if class_type is None:
            said = f"Node 'ID #{node_id}' has no class_type. The workflow may be corrupted."
        return self._refused("missing_node_type", said, 400, details, extra)

    def _refused(
        self, kind: str, said: str, status: int, details: str = "", extra: Any = None
    ) -> web.Response:
        error = {"type": kind, "message": said, "details": details, "extra_info": extra or {}}
        return web.json_response({"error": error, "node_errors": {}}, status=status)

    async def _queue(self, request: web.Request) -> web.Response:
        running = self.execution.running
        pending = sorted(self.execution.pending)
        return self._json(request, {"queue_running": [running] if running else [], "queue_pending": pending})

    async def _change_queue(self, request: web.Request) -> web.Response:
        for prompt_id in (await request.json()).get("delete", []):
            if self.execution.delete(prompt_id):
                self.stopped.append(prompt_id)
        await self.execution.status()
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        text = await request.text()
        wanted = None if self.old_interrupt or not text else json.loads(text).get("prompt_id")
        running = self.execution.running
        if running is not None and wanted in (None, running.prompt_id):
            if not self.execution.interrupt.is_set():
                self.stopped.append(running.prompt_id)
            self.execution.interrupt.set()
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        history = self.execution.history
        if (wanted := request.match_info.get("id")) is not None:
            return self._json(request, {wanted: history[wanted]} if wanted in history else {})
        most = int(request.query.get("max_items", 10_000))
        return self._json(request, dict(list(history.items())[-most:]))

    async def _change_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        for prompt_id in list(self.execution.history) if body.get("clear") else body.get("delete", []):
            self.execution.history.pop(prompt_id, None)
        return web.Response()

    # --- Files

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if "filename" not in request.query:
            return web.Response(status=404)
        name, kind = request.query["filename"], request.query.get("type", "output")
        if name.startswith("/") or ".." in name or kind not in ("input", "output", "temp"):
            return web.Response(status=400)
        folder = self.execution.root / kind
        path = (folder / request.query.get("subfolder", "") / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return web.Response(status=403)
        if not path.is_file() and self.view_bytes is None:
            return web.Response(status=404)
        await asyncio.sleep(self.view_s)
        if self.view_bytes is None:
            return web.FileResponse(path, headers={"Content-Disposition": f'filename="{path.name}"'})
        response = web.StreamResponse()
        await response.prepare(request)
        left = self.view_bytes
        while left > 0:
            await response.write(b"x" * min(left, 1 << 18))
            left -= 1 << 18
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        post = await request.post()
        image = post["image"]
        assert isinstance(image, web.FileField)
        data, subfolder = image.file.read(), str(post.get("subfolder", ""))
        root = (self.execution.root / str(post.get("type", "input"))).resolve()
        folder = (root / subfolder).resolve()
        if not folder.is_relative_to(root):
            return web.Response(status=400)
        folder.mkdir(parents=True, exist_ok=True)
        path, number = folder / image.filename, 1
        while path.exists() and post.get("overwrite") not in ("true", "1"):
            if hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest():
                break
            path = folder / f"{Path(image.filename).stem} ({number}){Path(image.filename).suffix}"
            number += 1
        path.write_bytes(data)
        return self._json(
            request, {"name": path.name, "subfolder": subfolder, "type": str(post.get("type", "input"))}
        )

    # --- What it is

    async def _object_info(self, request: web.Request) -> web.Response:
        if (name := request.match_info.get("name")) is not None:
            return self._json(request, {name: INFO[name]} if name in INFO else {})
        return self._json(request, INFO)

    async def _models(self, request: web.Request) -> web.Response:
        if (folder := request.match_info.get("folder")) is None:
            return self._json(request, [*self.models, "custom_nodes"])
        if folder == "custom_nodes":
            return self._json(request, ["not_a_model"])
        return self._json(request, self.models[folder]) if folder in self.models else web.Response(status=404)

    async def _stats(self, request: web.Request) -> web.Response:
        system = {
            "os": "posix", "ram_total": 64 * 1024**3, "ram_free": 32 * 1024**3,
            "comfyui_version": VERSIONS[self.generation], "python_version": "3.12",
            "embedded_python": False, "argv": ["/home/gpu/ComfyUI/main.py"],
        }  # fmt: skip
        device = {
            "name": "cuda:0 Double : cudaMallocAsync", "type": "cuda", "index": 0, "vram_total": 24 * 1024**3,
            "vram_free": 20 * 1024**3, "torch_vram_total": 0, "torch_vram_free": 0,
        }  # fmt: skip
        return self._json(request, {"system": system, "devices": [device]})

    async def _free(self, request: web.Request) -> web.Response:
        self.freed.append(await request.json())
        self.execution.free()
        return web.Response()

    def _feature_flags(self) -> dict[str, Any]:
        flags: dict[str, Any] = {"supports_preview_metadata": True, "max_upload_size": 104857600}
        if self.generation == "2026":
            flags |= {"node_replacements": True, "assets": False, "extension": {"manager": {}}}
        return flags

    async def _features(self, request: web.Request) -> web.Response:
        return self._json(request, self._feature_flags())

    def _json(self, request: web.Request, body: Any) -> web.Response:
        said = self.rewrite(request.path, body)
        if isinstance(said, bytes):
            return web.Response(body=said, content_type="application/json")
        return web.json_response(said)


def _needs(prompt: dict[str, Any], node: str) -> set[str]:
    found, waiting = set[str](), [node]
    while waiting:
        one = waiting.pop()
        if one in found or one not in prompt:
            continue
        found.add(one)
        waiting += [value[0] for value in prompt[one]["inputs"].values() if isinstance(value, list)]
    return found


def _details_of(fault: dict[str, Any]) -> str:
    """What the answer as a whole says of a fault; only of those that are no matter of a value."""
    shown = ("required_input_missing", "return_type_mismatch", "exception_during_validation")
    if fault["type"] not in shown:
        return ""
    text: str = f"{fault['message']}: {fault['details']}"
    return text


def _is_canonical(text: Any) -> bool:
    return (
        isinstance(text, str) and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None
    )
