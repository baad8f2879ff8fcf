"""A gateway, a worker that does what its payload says, and a client that knows paths and headers alone."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.worker.site import TestConnector

KIND = "compat-echo"
LARGE = [
    pytest.param(b'{"input": {"x": "' + b"x" * size + b'"}}', 413, id=f"{size} bytes")
    for size in (600_000, 10_000_000)
]
"""Bodies that are too large for a payload, and for a request."""
FILE = b"the bytes of a file"
OPENAI_KINDS = {"/v1/chat/completions": KIND, "/v1/embeddings": KIND, "/v1/ocr": KIND}
EMBEDDINGS = {
    "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}  # fmt: skip


def completion(asked: dict[str, Any]) -> dict[str, Any]:
    """A completion whose text is the last that was said; of `fail` none, and a long one of `large`."""
    said = asked["messages"][-1]["content"]
    if said == "fail":
        raise FatalError("broken", "it broke")
    text = "x" * 600_000 if said == "large" else f"you said {said}"
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip


class Work:
    """What the worker does; attempts of mode `hold` begin to end once `go` is set."""

    def __init__(self, scratch: Path) -> None:
        self.go = asyncio.Event()
        self._scratch = scratch

    async def __call__(self, attempt: Attempt) -> Any:
        asked = attempt.payload
        match asked.get("mode"):
            case "lines":
                for number in range(asked["lines"]):
                    attempt.log(f"line {number}")
                return ["one\ntwo", {"three": 3}]
            case "fail":
                raise FatalError("broken", "it broke")
            case "hold":
                attempt.log("held")
                await self.go.wait()
                self.go.clear()
                return "released"
            case "release":
                self.go.set()
                return None
            case "save":
                path = self._scratch / secrets.token_hex(4)
                path.write_bytes(FILE)
                left = await attempt.save("out.bin", path, media_type="application/octet-stream")
                return Outcome(asked.get("result"), artifacts=(left,))
            case "large":
                return "x" * 100_000
            case "read":
                path = self._scratch / secrets.token_hex(4)
                await attempt.fetch(asked["file"], path)
                return path.read_text()
            case _ if "page_breaks" in asked:
                return await self._converted(attempt)
            case _ if "messages" in asked:
                return completion(asked)
            case _ if "model" in asked:
                return {**EMBEDDINGS, "model": asked["model"]}
            case _:
                return asked

    async def _converted(self, attempt: Attempt) -> Outcome:
        """A conversion as that kind has it, of a text whose pages stand between line feeds of forms."""
        path = self._scratch / secrets.token_hex(4)
        await attempt.fetch(attempt.payload["file"], path)
        texts = path.read_text().split("\f")
        if texts == ["fail"]:
            raise FatalError("corrupt_file", "the file is damaged")
        marked = "".join(
            (f"\n<!-- page {number} -->\n" if number > 1 else "") + (f"\n{text}\n" if text else "")
            for number, text in enumerate(texts, 1)
        )
        left = await attempt.save("document.md", marked.encode(), media_type="text/markdown")
        is_large = len(marked) > 1000
        images: list[dict[str, Any]] = []
        saved: list[dict[str, Any]] = []
        if attempt.payload["images"] == "save":
            saved = [await attempt.save("image-1.png", FILE, media_type="image/png")]
            images = [{"page": 1, "box": [0.1, 0.2, 0.5, 1], "width": 64, "height": 48, **saved[0]}]
        result = {
            "markdown": None if is_large else marked, "artifact": left if is_large else None,
            "pages": len(texts), "images": images,
            "page_sizes": [{"width": 100, "height": 200, "dpi": 72}, *[None] * (len(texts) - 1)],
        }  # fmt: skip
        return Outcome(result, artifacts=(left, *saved), usage={"pages": float(len(texts))})


class Saying(TestConnector):
    """A connector whose handler may say which files it leaves."""

    async def run(self, attempt: Attempt) -> Outcome:
        outcome = await super().run(attempt)
        return outcome.result if isinstance(outcome.result, Outcome) else outcome


class Compat:
    """A gateway and its worker, asked at one of the doors."""

    def __init__(self, api: Gateway, work: Work, base: str) -> None:
        self.api = api
        self.work = work
        self.base = base

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.api.call(method, self.base + path, body, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def until(self, path: str, *words: str) -> Any:
        """What is shown once the status is one of some words."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = await self.get(path)
                assert answer.status == 200, answer
                if answer.json["status"] in words:
                    return answer.json
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def compat(
    broker: SharedBroker, data_dir: Path, base: str, *, slots: int = 4, **settings: Any
) -> AsyncIterator[Compat]:
    """Run both until the block ends."""
    async with gateway(broker.url, data_dir, **settings) as api:
        work = Work(data_dir)
        name = f"w{secrets.token_hex(4)}"
        async with api.worker(Saying(work, KIND), name=name, slots=slots):
            try:
                yield Compat(api, work, base)
            finally:
                work.go.set()
