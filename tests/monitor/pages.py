"""Many open pages on few means: the page's own live module, in the Node.js that Playwright brings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Self

from playwright._impl._driver import compute_driver_executable

STATIC = Path(__file__).parents[2] / "services" / "gateway" / "monitor" / "static"
PROGRAM = Path(__file__).with_name("pages.mjs")
LINE_BYTES = 64 * 1024 * 1024


class Pages:
    """Pages that are open in a process of their own; see `pages.mjs`.

    Args:
        url: the gateway's.
        token: who looks.
        wishes: what each page follows, and the sequence after which.
    """

    def __init__(self, url: str, token: str, wishes: list[dict[str, Any]]) -> None:
        self._first = json.dumps({"url": url, "token": token, "wishes": wishes})
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        """Open them."""
        node = compute_driver_executable()[0]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            node, PROGRAM, STATIC.as_uri(), stdin=pipe, stdout=pipe, limit=LINE_BYTES
        )
        await self._say(self._first)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def _ask(self, question: str) -> Any:
        await self._say(question)
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def live(self) -> int:
        """How many say that they are live."""
        states: dict[str, int] = await self._ask("states")
        return states.get("live", 0)

    async def heard(self) -> list[dict[str, list[Any]]]:
        """What each has got: `seqs` in the order in which they came, and `resyncs`."""
        found: list[dict[str, list[Any]]] = await self._ask("heard")
        return found
