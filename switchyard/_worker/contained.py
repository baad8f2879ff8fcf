"""Foreign code in our process: what it raises, cancels, stops or forks ends itself and nothing else.

`install` prepares a loop: a handler finds no task of ours or of another handler, and so cancels none; its own
tasks cannot end the loop by an exit; and what would stop the loop is refused to it.
`Foreign` runs a coroutine in a task of its own and keeps whatever it raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Final, Protocol

from switchyard._worker.handler_errors import as_failure, plain
from switchyard._worker.process_state import restore
from switchyard._worker.traceback import forget

OURS: Final = "ours"
FOREIGN: Final = "foreign"
INTERRUPTIONS: Final = 4
"""A grace is cut in so many parts: the pauses between interruptions are 1, 2, 4… of them."""
REFUSED: Final = (
    "stop", "close", "add_signal_handler", "remove_signal_handler", "set_default_executor",
    "set_exception_handler", "set_task_factory", "shutdown_asyncgens", "shutdown_default_executor",
)  # fmt: skip
"""What a handler cannot do to the loop."""
OWNER: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("switchyard_owner", default="")

_blocks: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int]] = weakref.WeakKeyDictionary()
_hidden: Final[weakref.WeakSet[asyncio.Task[Any]]] = weakref.WeakSet()


class Ended(Protocol):
    """A task or a future: something that ends."""

    def done(self) -> bool:
        """Whether it has ended."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call when it ends."""


class StillRunning(asyncio.CancelledError):
    """Code was asked to stop and still runs; it is left to itself, and nothing that it does is heard.

    Args:
        code: done when the code has ended after all.
        late: how many of its calls and results were dropped.
    """

    def __init__(self, code: Ended, late: Callable[[], int] = lambda: 0) -> None:
        super().__init__("the code still runs")
        self.code = code
        self.late = late


class Foreign:
    """A coroutine in a task of its own.

    Args:
        start: makes it; called in the task.
    """

    def __init__(self, start: Callable[[], Awaitable[Any]]) -> None:
        context = contextvars.copy_context()
        context.run(OWNER.set, FOREIGN)
        self.value: Any = None
        self._error: BaseException | None = None
        self._start = start
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._body(), context=context)

    async def _body(self) -> None:
        try:
            self.value = await _Steps(self._start(), exits=True)
        except BaseException as error:  # noqa: BLE001 - foreign code: whoever waits looks at it
            self._error = plain(error)
        finally:
            restore()  # in the same step: no other handler runs in between

    @property
    def error(self) -> BaseException | None:
        """What it raised; a cancellation where it never began."""
        return asyncio.CancelledError() if self.task.cancelled() else self._error

    async def wait(self) -> None:
        """Return when it has ended, however it did; who waits may be cancelled without it."""
        await asyncio.wait([self.task])

    def forget(self) -> None:
        """Let go of what its error holds, now or when it ends: nobody looks at it any more."""
        if self.task.done():
            forget(self._error)
        else:
            self.task.add_done_callback(lambda _: forget(self._error))

    async def stop(self, grace_s: float, *, first_s: float | None = None) -> bool:
        """Interrupt it, and again after growing pauses; whether it ended within the grace.

        Args:
            grace_s: how long this takes at most.
            first_s: until the second interruption.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + grace_s
        pause_s = grace_s / INTERRUPTIONS if first_s is None else first_s
        while not self.task.done() and (left_s := ends_at - loop.time()) > 0:
            self.task.cancel()
            await asyncio.wait([self.task], timeout=min(pause_s, left_s))
            pause_s *= 2
        return self.task.done()


# --- The loop


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Prepare a loop for foreign code; again does nothing."""
    factory = loop.get_task_factory()
    if getattr(factory, "is_containing", False):
        return

    def make(
        loop: asyncio.AbstractEventLoop, work: Any, *, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        owner = OWNER.get() if context is None else context.get(OWNER, "")
        if owner == FOREIGN:
            work = _Steps(work, exits=False)
        options: dict[str, Any] = {} if context is None else {"context": context}
        task: Any = factory(loop, work, **options) if factory else asyncio.Task(work, loop=loop, **options)
        if owner:
            _hide(task)
        made: asyncio.Task[Any] = task
        return made

    make.is_containing = True  # type: ignore[attr-defined]
    loop.set_task_factory(make)
    for name in REFUSED:
        with contextlib.suppress(AttributeError):
            setattr(loop, name, _refused(name, getattr(loop, name)))


def _refused(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def unless_foreign(*given: Any, **more: Any) -> Any:
        if OWNER.get() == FOREIGN:
            raise RuntimeError(f"{name}: the loop is the worker's, and a handler cannot change it")
        return method(*given, **more)

    return unless_foreign


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """All tasks that are started in the block, and the one that runs it, are hidden from handlers.

    After the last such block of a loop they are not: whoever ends the loop is to find what is left.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    before = OWNER.set(OURS)
    _blocks[loop] = _blocks.get(loop, 0) + 1
    if task is not None:
        _hide(task)
    try:
        yield
    finally:
        OWNER.reset(before)
        _blocks[loop] -= 1
        if not _blocks[loop] and before.old_value != OURS:
            for hidden in tasks(loop):
                _show(hidden)


def _hide(task: asyncio.Task[Any]) -> None:
    asyncio._unregister_task(task)  # noqa: SLF001 - documented: "Task lifetime support"
    _hidden.add(task)


def _show(task: asyncio.Task[Any]) -> None:
    _hidden.discard(task)
    asyncio._register_task(task)  # noqa: SLF001 - as above


def tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """All tasks of a loop that have not ended, hidden ones too."""
    hidden = {task for task in _hidden if task.get_loop() is loop and not task.done()}
    return asyncio.all_tasks(loop) | hidden


# --- Steps and forks


def end_if_forked(pid: int, status: int = 0) -> None:
    """End the process if it is not `pid`: a child that a handler forked must not be a second worker."""
    if os.getpid() != pid:
        os._exit(status)


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine whose every step is looked at.

    A process that it forked ends when it comes back to the loop, which is its parent's.

    Args:
        work: the coroutine.
        exits: whether it may raise what ends a program; else that is an error like others.
    """

    def __init__(self, work: Any, *, exits: bool) -> None:
        self._pid = os.getpid()
        self._work = work
        self._exits = exits

    def send(self, value: Any, /) -> Any:
        return self._step(self._work.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._work.throw, *error)

    def close(self) -> None:
        self._work.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)  # libraries look at a coroutine's state: cr_running, cr_frame

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # it is one in all but its class

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def _step(self, method: Callable[..., Any], *given: Any) -> Any:
        try:
            waited = method(*given)
        except StopIteration:
            end_if_forked(self._pid)
            raise
        except BaseException as error:
            end_if_forked(self._pid, 1)
            raised = plain(error)
            if not self._exits and isinstance(raised, SystemExit | KeyboardInterrupt):
                raise as_failure(raised) from raised
            if raised is not error:
                raise raised from None
            raise
        end_if_forked(self._pid)
        return waited
