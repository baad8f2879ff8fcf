"""A projector that writes nothing as long as a test says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchyard.services.projector.projection import Projection


class Gate:
    """Lets the projectors that begin after it write, or not; it is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = asyncio.Event()
        self._open.set()
        write = Projection._write

        async def written(projection: Projection, done: asyncio.Event, target: int | None) -> None:
            take = projection._writes.get

            async def taken() -> Any:
                found = await take()
                if target is None:
                    await self._open.wait()
                return found

            monkeypatch.setattr(projection._writes, "get", taken)
            await write(projection, done, target)

        monkeypatch.setattr(Projection, "_write", written)

    def close(self) -> None:
        """Nothing more is written."""
        self._open.clear()

    def open(self) -> None:
        """All go on."""
        self._open.set()
