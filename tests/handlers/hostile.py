"""Handlers that would end more than their job, for every way in which handlers run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from switchyard.handlers import Cancelled, Fatal, Handlers, Retry
from tests.handlers.odd import Case, fails, register, sets_usage

handlers: Final = Handlers()
ASYNC: Final = "hostile-on-the-loop"
THREAD: Final = "hostile-in-a-thread"
PROCESS: Final = "hostile-in-a-process"

FORK: Final = multiprocessing.get_context("fork")
GO: Final = threading.Event()
"""Set by a test that is done with threads that were left."""


class OwnBaseError(BaseException):
    pass


class ExitingError(Exception):
    """Its text ends the program."""

    def __str__(self) -> str:
        raise SystemExit(5)


class NotedError(Exception):
    def __getattribute__(self, name: str) -> Any:
        return sys.exit(5) if name == "__notes__" else super().__getattribute__(name)


class CodeError(Fatal):
    def __getattribute__(self, name: str) -> Any:
        return sys.exit(5) if name == "code" else super().__getattribute__(name)


class Exiting(Mapping[str, Any]):
    """A mapping that ends the program when it is looked at."""

    def __getitem__(self, name: str) -> Any:
        sys.exit(6)

    def __iter__(self) -> Iterator[str]:
        sys.exit(6)

    def __len__(self) -> int:
        return 1


def stops(error: BaseException, says: str) -> Case:
    return Case(lambda _: fails(error), "stopped", says, retryable=True)


def bug(error: BaseException, says: str) -> Case:
    return Case(lambda _: fails(error), "internal", says, retryable=True)


def fine(act: Callable[[Any], Any]) -> Case:
    return Case(act)


# --- Threads


def in_thread(target: Callable[[], Any], *, wait: bool = True) -> Any:
    thread = threading.Thread(target=target, daemon=False)
    thread.start()
    if wait:
        thread.join()
    return "began"


def in_executor(work: Callable[[], Any]) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


# --- Processes


def waited(pid: int) -> Any:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def forks(child: Callable[[], Any]) -> Any:
    """What the child does is to end it, whatever it is; its status."""
    pid = os.fork()
    return waited(pid) if pid else child()


def unwaited() -> Any:
    pid = os.fork()
    return waited(pid) if pid else "a second worker"


def pool(work: Callable[[Any], Any], given: Any = 1) -> Any:
    with FORK.Pool(1) as children:  # its end is a SIGTERM to each
        return children.apply(work, (given,))


def process(target: Callable[..., Any], *given: Any) -> Any:
    child = FORK.Process(target=target, args=given)
    child.start()
    child.join()
    return child.exitcode


def killed_by(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def terminated() -> Any:
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def code_of_context(context: Any) -> str:
    try:
        context.log("from a child")
    except Fatal as error:
        return error.code
    return "it may"


def in_forked(work: Callable[[], Any]) -> Any:
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(theirs, str(work()).encode())
        os._exit(0)
    os.close(theirs)
    waited(pid)
    answer = os.read(ours, 100).decode()
    os.close(ours)
    return answer


# --- What the process has once


def done(_: Any) -> None:
    """Whatever it came to is no result."""


def alarms() -> str:
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    return "went on"


# --- The loop


async def exits() -> None:
    sys.exit(7)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def in_task(work: Callable[[], Any]) -> Any:
    return await asyncio.create_task(work())


async def beside(work: Callable[[], Any]) -> Any:
    task = asyncio.create_task(work())
    await asyncio.wait([task])
    return type(task.exception()).__name__


async def gathered() -> Any:
    return await asyncio.gather(exits(), interrupts())


async def grouped() -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())


async def to_loop(name: str, *given: Any) -> Any:
    return getattr(asyncio.get_running_loop(), name)(*given)


async def cancels_itself() -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def cancels_all() -> Any:
    tasks = asyncio.all_tasks()
    for task in tasks:
        task.cancel()
    await asyncio.sleep(0)
    return len(tasks)


async def forks_and_awaits() -> Any:
    pid = os.fork()
    await asyncio.sleep(0)
    return waited(pid)


async def states() -> Any:
    """Libraries look at the coroutines of tasks."""
    task = asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    coroutine: Any = task.get_coro()
    seen = [inspect.getcoroutinestate(coroutine), coroutine.__name__]
    await task
    return [*seen, inspect.getcoroutinestate(coroutine)]


async def forks_in_task() -> Any:
    async def child() -> Any:
        pid = os.fork()
        await asyncio.sleep(0)
        return waited(pid)

    return await asyncio.create_task(child())


async def in_default_executor(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


async def from_generator() -> Any:
    async def numbers() -> Any:
        yield 1
        raise GeneratorExit

    return [number async for number in numbers()]


BOTH: Final = {
    # What ends a program
    "exit": Case(lambda _: sys.exit(), "stopped", "SystemExit", retryable=True),
    "exit 0": Case(lambda _: sys.exit(0), "stopped", "SystemExit: 0", retryable=True),
    "exit 3": Case(lambda _: sys.exit(3), "stopped", "SystemExit: 3", retryable=True),
    "exit text": Case(lambda _: sys.exit("over"), "stopped", "SystemExit: over", retryable=True),
    "exit mute": Case(lambda _: sys.exit(ExitingError()), "stopped", "SystemExit", retryable=True),  # type: ignore[arg-type]
    "interrupt": stops(KeyboardInterrupt("^C"), "KeyboardInterrupt: ^C"),
    "generator exit": stops(GeneratorExit(), "GeneratorExit"),
    "own base exception": stops(OwnBaseError("mine"), "OwnBaseError: mine"),
    "base exception": stops(BaseException("bare"), "BaseException: bare"),
    "cancelled of asyncio": stops(asyncio.CancelledError("by itself"), "CancelledError: by itself"),
    "group of exits": stops(BaseExceptionGroup("g", [SystemExit(1)]), "BaseExceptionGroup: g"),
    "group in group": stops(
        BaseExceptionGroup("o", [BaseExceptionGroup("i", [KeyboardInterrupt()])]), "BaseExceptionGroup: o"
    ),
    "cancelled": Case(lambda _: fails(Cancelled()), "stopped", "stopped by itself"),
    # Exceptions that loops, generators and tasks take for their own
    "group": bug(ExceptionGroup("g", [ValueError("in it")]), "ExceptionGroup: g"),
    "stop iteration": bug(StopIteration(3), "StopIteration"),
    "stop async iteration": bug(StopAsyncIteration(), "StopAsyncIteration"),
    "cancelled future": bug(concurrent.futures.CancelledError(), "CancelledError"),
    "timeout": bug(TimeoutError("late"), "TimeoutError: late"),
    "broken pipe": bug(BrokenPipeError("pipe"), "BrokenPipeError: pipe"),
    "connection": bug(ConnectionResetError("reset"), "ConnectionResetError: reset"),
    "recursion": bug(RecursionError("deep"), "RecursionError: deep"),
    "assertion": bug(AssertionError("no"), "AssertionError: no"),
    "not implemented": bug(NotImplementedError("yet"), "NotImplementedError: yet"),
    "invalid state": bug(asyncio.InvalidStateError("odd"), "InvalidStateError: odd"),
    "name": Case(lambda _: nothing_of_the_kind, "internal", "NameError", retryable=True),  # type: ignore[name-defined] # noqa: F821
    "import": Case(lambda _: __import__("nothing_of_the_kind"), "internal", "ModuleNotFound", retryable=True),
    # Exits in what looks at an exception or a result
    "text exits": bug(ExitingError(), "ExitingError"),
    "notes exit": bug(NotedError("noted"), "NotedError: noted"),
    "code exits": Case(lambda _: fails(CodeError("coded")), "invalid_error", "coded"),
    "message exits": Case(lambda _: fails(Retry(ExitingError())), "handler_failed", "", retryable=True),  # type: ignore[arg-type]
    "usage exits": Case(lambda c: sets_usage(c, Exiting()), "stopped", "SystemExit: 6", retryable=True),
    # Threads
    "thread exits": fine(lambda _: in_thread(sys.exit)),
    "thread stays": fine(lambda _: in_thread(GO.wait, wait=False)),
    "executor exits": Case(lambda _: in_executor(lambda: sys.exit(8)), "stopped", "8", retryable=True),
    "executor interrupts": Case(
        lambda _: in_executor(lambda: fails(KeyboardInterrupt())), "stopped", "Keyboard", retryable=True
    ),
    # Processes
    "child returns": fine(lambda _: forks(lambda: "a second worker")),
    "child exits": fine(lambda _: forks(lambda: sys.exit(9))),
    "child raises": fine(lambda _: forks(lambda: fails(ValueError("in the child")))),
    "child ends at once": fine(lambda _: forks(lambda: os._exit(0))),
    "child cancelled": fine(lambda _: forks(lambda: fails(Cancelled()))),
    "child of a child": fine(lambda _: forks(unwaited)),
    "child asks": fine(lambda context: in_forked(lambda: code_of_context(context))),
    "pool": fine(lambda _: pool(abs, -3)),
    "pool of exits": fine(lambda _: process(sys.exit, 4)),
    "process terminated": fine(lambda _: terminated()),
    "process ends itself": fine(lambda _: process(killed_by, signal.SIGTERM)),
    "process interrupts itself": fine(lambda _: process(killed_by, signal.SIGINT)),
    "process hangs up": fine(lambda _: process(killed_by, signal.SIGHUP)),
    "process kills itself": fine(lambda _: process(killed_by, signal.SIGKILL)),
    "process signals itself": fine(lambda _: process(killed_by, signal.SIGUSR1)),
    # What a process has once
    "directory": fine(lambda _: os.chdir("/")),
    "collects": fine(lambda _: done(gc.collect())),
    "default timeout": fine(lambda _: socket.setdefaulttimeout(1e-6)),
    "fine": fine(lambda _: {"fine": True}),
}  # fmt: skip

RUNTIME: Final = "the loop is the worker's"


def refused(name: str, *given: Any) -> Case:
    return Case(lambda _: to_loop(name, *given), "internal", RUNTIME, retryable=True)


ON_THE_LOOP: Final = {
    "stop": refused("stop"),
    "close": refused("close"),
    "signal handler": refused("remove_signal_handler", signal.SIGTERM),
    "own signal handler": refused("add_signal_handler", signal.SIGTERM, print),
    "executor": refused("shutdown_default_executor"),
    "generators": refused("shutdown_asyncgens"),
    "task factory": refused("set_task_factory", None),
    "exception handler": refused("set_exception_handler", None),
    "run again": Case(lambda _: to_loop("run_forever"), "internal", "running", retryable=True),
    "ignores SIGTERM": fine(lambda _: done(signal.signal(signal.SIGTERM, signal.SIG_IGN))),
    "ignores SIGCHLD": fine(lambda _: done(signal.signal(signal.SIGCHLD, signal.SIG_IGN))),
    "takes the wake-up": fine(lambda _: done(signal.set_wakeup_fd(-1))),
    "blocks signals": fine(
        lambda _: done(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT}))
    ),
    "alarm": fine(lambda _: alarms()),
    "task exits": Case(lambda _: in_task(exits), "stopped", "SystemExit: 7", retryable=True),
    "task interrupts": Case(lambda _: in_task(interrupts), "stopped", "KeyboardInterrupt", retryable=True),
    "task beside exits": fine(lambda _: beside(exits)),
    "gathered exits": Case(lambda _: gathered(), "stopped", "SystemExit: 7", retryable=True),
    "grouped exits": Case(lambda _: grouped(), "internal", "ExceptionGroup", retryable=True),
    "cancels itself": Case(lambda _: cancels_itself(), "stopped", "CancelledError", retryable=True),
    "cancels all": fine(lambda _: cancels_all()),
    "looks at states": fine(lambda _: states()),
    "forks and awaits": fine(lambda _: forks_and_awaits()),
    "forks in a task": fine(lambda _: forks_in_task()),
    "to a thread, exits": Case(
        lambda _: in_default_executor(lambda: sys.exit(2)), "stopped", "SystemExit: 2", retryable=True
    ),
    "generator exits": Case(lambda _: from_generator(), "stopped", "GeneratorExit", retryable=True),
}  # fmt: skip

IN_A_THREAD: Final = {
    "alarm": fine(lambda _: alarms()),
    "runs a loop": fine(lambda _: asyncio.run(asyncio.sleep(0, "ran"))),
    "a loop that exits": Case(lambda _: asyncio.run(exits()), "stopped", "SystemExit: 7", retryable=True),
    "signals": Case(
        lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN), "internal", "main thread", retryable=True
    ),
}  # fmt: skip

CASES: Final = {
    ASYNC: BOTH | ON_THE_LOOP,
    THREAD: BOTH | IN_A_THREAD,
    PROCESS: BOTH,
}
"""What a mode does not have: a loop, in threads and processes; in processes, the worker's own state."""

RESULTS: Final = {
    "child returns": 0, "child exits": 1, "child raises": 1, "child ends at once": 0, "child cancelled": 1,
    "child of a child": 0, "child asks": "forked", "pool": 3, "pool of exits": 4, "process terminated": -15,
    "process ends itself": -15, "process interrupts itself": 1, "process hangs up": -1,
    "process kills itself": -9, "process signals itself": -10, "forks and awaits": 0, "forks in a task": 0,
    "task beside exits": "Retry", "alarm": "went on", "runs a loop": "ran",
    "cancels all": 0,
    "looks at states": ["CORO_SUSPENDED", "sleep", "CORO_CLOSED"],
}  # fmt: skip
"""What those that succeed return, where it says what became of a child."""

register(handlers, BOTH | ON_THE_LOOP | IN_A_THREAD, (ASYNC, THREAD, PROCESS))
