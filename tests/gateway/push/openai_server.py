"""A server that speaks as OpenAI's API does, and does what a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Behave = Callable[["OpenAIServer", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
WORDS = ("Hello", ", ", "wide", " ", "world")
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 50


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """An event of a stream."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m1"}
    choice = {"index": 0, "delta": delta or {}, "finish_reason": None}
    choices = [choice | {"finish_reason": fields.pop("ends")}] if "ends" in fields else [choice]
    return b"data: " + json.dumps(head | {"choices": choices} | fields).encode() + b"\n\n"


ENDING = (chunk(ends="stop"), chunk(choices=[], usage=USAGE), b"data: [DONE]\n\n")


def says(status: int, body: Any = b"", **headers: str) -> Behave:
    """Answer so."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }

    async def behave(_: OpenAIServer, __: web.Request, ___: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, body=raw, headers=named)

    return behave


def fault(code: str = "", message: str = "no", **fields: Any) -> dict[str, Any]:
    """The body of a refusal."""
    return {"error": {"message": message, "type": "invalid_request_error", "code": code or None, **fields}}


def streams(*parts: bytes, pause_s: float = 0.0, ends: str = "whole") -> Behave:
    """Answer with a stream of these parts.

    Args:
        parts: what is written.
        pause_s: between two of them.
        ends: `whole`; or `cut`, the connection breaks; or `never`.
    """

    async def behave(server: OpenAIServer, request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **server.headers})
        await answer.prepare(request)
        for part in parts:
            await answer.write(part)
            await asyncio.sleep(pause_s)
        server.written.set()
        if ends == "cut":
            assert request.transport is not None
            request.transport.abort()
        elif ends == "never":
            while True:
                await answer.write(b": still here\n\n")
                await asyncio.sleep(0.05)
        return answer

    return behave


WHOLE = streams(chunk({"role": "assistant"}), *(chunk({"content": word}) for word in WORDS), *ENDING)


class OpenAIServer:
    """One on loopback.

    Args:
        name: as it is registered.
        behave: what it does with a request; may be changed.
    """

    def __init__(self, name: str, behave: Behave = WHOLE) -> None:
        self.name = name
        self.behave = behave
        self.models: Any = {"object": "list", "data": [{"id": "m1"}]}
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any], Mapping[str, str]]] = []
        self.written = asyncio.Event()
        self.left = asyncio.Event()
        """Set once a request was broken off."""
        self.port = 0
        self._runner: web.AppRunner

    @property
    def wish(self) -> dict[str, Any]:
        """The body of its registration."""
        return {
            "endpoints": {"predict": f"http://127.0.0.1:{self.port}/v1"}, "profile": "openai",
            "kinds": ["openai-chat", "openai-embeddings", "openai-images"],
        }  # fmt: skip

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([
            web.get("/v1/models", self._models),
            *(web.post(f"/v1/{path}", self._ask) for path in ("chat/completions", "embeddings",
            "images/generations")),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self.models)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append((request.path, asked, request.headers))
        try:
            return await self.behave(self, request, asked)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
