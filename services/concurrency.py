"""Many waits at once, a limited number at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def each(
    work: Callable[[Item], Awaitable[Answer]], items: Collection[Item], *, at_once: int
) -> list[Answer]:
    """What `work` makes of each item, in order.

    An error ends the rest and is raised as it is, not as one of a group.

    Args:
        work: called once for each item.
        items: any number of them.
        at_once: most calls that are under way.
    """
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(items))

    async def take() -> None:
        for index, item in waiting:
            answers[index] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(items))):
                group.create_task(take())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answers[index] for index in range(len(answers))]


class _Queue(NamedTuple):
    turn: asyncio.Lock
    waiting: list[object]


class Turns:
    """Long work in threads, a little of it at a time, and one of each owner: who asks for much waits alone.

    Args:
        at_once: how many of all owners.
    """

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._queues: dict[str, _Queue] = {}

    async def run(self, owner: str, work: Callable[..., Answer], /, *args: Any, **named: Any) -> Answer:
        """What the work makes of its arguments, once it is the owner's turn.

        A turn lasts as long as its thread, which does not end because nobody waits for it any more.
        """
        queue, me = self._queues.setdefault(owner, _Queue(asyncio.Lock(), [])), object()
        queue.waiting.append(me)
        try:
            async with queue.turn, self._places:
                thread = asyncio.ensure_future(asyncio.to_thread(work, *args, **named))
                try:
                    return await asyncio.shield(thread)
                finally:
                    while not thread.done():
                        with contextlib.suppress(asyncio.CancelledError):
                            await asyncio.wait([thread])
        finally:
            queue.waiting.remove(me)
            if not queue.waiting:
                del self._queues[owner]
