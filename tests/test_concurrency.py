"""Long work in threads: a little at a time, and one of each owner."""

from __future__ import annotations

import asyncio
import threading

from switchyard.services.concurrency import Turns

DEADLINE_S = 90.0


class Work:
    """Begins, and ends once the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            self.begun.append(name)
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.gate.wait(DEADLINE_S)
        with self._lock:
            self._now -= 1
        return name.upper()

    async def until(self, *begun: str) -> None:
        while sorted(self.begun) != sorted(begun):
            await asyncio.sleep(0.005)


async def test_who_asks_for_much_waits_alone_and_others_have_their_turn() -> None:
    turns, work = Turns(2), Work()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        greedy = [tasks.create_task(turns.run("greedy", work, f"g{number}")) for number in range(10)]
        await work.until("g0")
        other = tasks.create_task(turns.run("other", work, "o"))
        third = tasks.create_task(turns.run("third", work, "t"))
        await work.until("g0", "o")
        work.gate.set()
    assert [task.result() for task in greedy] == [f"G{number}" for number in range(10)]
    assert (other.result(), third.result()) == ("O", "T")
    assert work.begun.index("t") <= 3  # not behind the greedy one's rest
    assert work.most == 2
    assert not turns._queues


async def test_a_turn_that_nobody_waits_for_any_more_lasts_as_long_as_its_thread() -> None:
    turns, work = Turns(1), Work()
    async with asyncio.timeout(DEADLINE_S):
        first = asyncio.create_task(turns.run("a", work, "first"))
        await work.until("first")
        second = asyncio.create_task(turns.run("b", work, "second"))
        waiting = asyncio.create_task(turns.run("b", work, "never"))
        await asyncio.sleep(0)
        for task in (first, waiting):
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
        assert (work.begun, first.done()) == (["first"], False)
        work.gate.set()
        assert await second == "SECOND"
        await asyncio.wait([first, waiting])
    assert first.cancelled()
    assert waiting.cancelled()
    assert work.begun == ["first", "second"]
    assert not turns._queues


async def test_a_failure_is_the_caller_s_and_frees_the_turn() -> None:
    turns = Turns(1)

    def fails() -> None:
        raise ValueError("no")

    found = await asyncio.gather(*(turns.run("a", fails) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["no"] * 3
    assert not turns._queues
