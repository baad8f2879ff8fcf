"""Many waits at once, a limited number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

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
