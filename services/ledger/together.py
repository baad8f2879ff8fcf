"""What many ask for at the same time, done for all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from switchyard.events.errors import SwitchyardError, UnavailableError

T = TypeVar("T")
R = TypeVar("R")


class _Round(Generic[T, R]):
    """What is done together, and what came of it; until it is done, that it was broken off."""

    __slots__ = ("answer", "done", "error", "wanted")

    def __init__(self) -> None:
        self.wanted: list[T] = []
        self.answer: R
        self.error: str | None = "it was broken off"
        self.done = asyncio.Event()


class Together(Generic[T, R]):
    """Does one round after another; whoever asks during one is in the next.

    Args:
        do: does it for all that is wanted.
    """

    def __init__(self, do: Callable[[Sequence[T]], Awaitable[R]]) -> None:
        self._do = do
        self._next: _Round[T, R] = _Round()
        self._doing = asyncio.Lock()

    async def ask(self, wanted: Sequence[T]) -> R:
        """Have it done; the answer is that to all who asked with this one.

        Args:
            wanted: one thing at least.

        Raises:
            UnavailableError: it was not done, or not whole.
        """
        mine = self._next
        is_first = not mine.wanted
        mine.wanted += wanted
        if is_first:
            await self._lead(mine)
        else:
            await mine.done.wait()
        if mine.error is not None:
            raise UnavailableError(mine.error)
        return mine.answer

    async def _lead(self, mine: _Round[T, R]) -> None:
        """Do a round for all who have come by its turn."""
        try:
            await asyncio.sleep(0)  # those who are woken together with this one come too
            async with self._doing:
                self._next = _Round()
                try:
                    mine.answer = await self._do(mine.wanted)
                except SwitchyardError as error:
                    mine.error = str(error)
                else:
                    mine.error = None
        finally:
            if self._next is mine:
                self._next = _Round()
            mine.done.set()
