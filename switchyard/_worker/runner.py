"""A loop that foreign code cannot end: it runs until its own work is done, and then ends in time.

`asyncio.run` ends with the first exit that a callback raises, and waits without end for a task or a thread
that does not stop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import contextvars
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from switchyard._worker.contained import OURS, OWNER, install, tasks

T = TypeVar("T")

log = logging.getLogger("switchyard.worker")

END_S: Final = 5.0
"""For tasks and threads that are left at the end of all."""
LOOKS_S: Final = (0.0, 0.1, 1.0)
"""After so long what has not ended is asked again to end."""


def run(main: Coroutine[Any, Any, T], new_loop: Callable[[], asyncio.AbstractEventLoop]) -> T:
    """Run a coroutine to its end, whatever the code beside it does to the loop."""
    loop = new_loop()
    executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
    try:
        asyncio.set_event_loop(loop)
        loop.set_default_executor(executor)
        install(loop)
        context = contextvars.copy_context()
        context.run(OWNER.set, OURS)
        return _to_the_end(loop, loop.create_task(main, context=context))
    finally:
        with contextlib.suppress(RuntimeError):  # somebody stops it: it ends anyway
            loop.run_until_complete(_without(loop))
        executor.shutdown(wait=False, cancel_futures=True)
        _join(executor)
        asyncio.set_event_loop(None)
        loop.close()


def _to_the_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    while True:
        try:
            return loop.run_until_complete(task)
        except BaseException as error:
            if task.done():
                raise
            asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if isinstance(error, KeyboardInterrupt) and asked:
                task.cancel()
                raise
            log.error("something stopped the loop, which continues: %r", error)  # noqa: TRY400 - not ours


async def _without(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all that is left, and wait for it as long as there is time."""
    own = asyncio.current_task()
    for pause_s in LOOKS_S:
        left = {task for task in tasks(loop) if task is not own}
        if not left:
            break
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=pause_s or 0.01)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await loop.shutdown_asyncgens()


def _join(executor: concurrent.futures.ThreadPoolExecutor) -> None:
    until = time.monotonic() + END_S
    for thread in list(executor._threads):  # noqa: SLF001 - shutdown(wait=True) has no limit
        thread.join(max(0.0, until - time.monotonic()))


def left_threads() -> list[str]:
    """Threads for which the interpreter would wait at its end."""
    own = threading.current_thread()
    workers = concurrent.futures.thread._threads_queues  # noqa: SLF001 - daemons that it waits for
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not own and thread.is_alive() and (not thread.daemon or thread in workers)
    ]


def end(status: int) -> None:
    """End the process at once if a thread would keep it; else leave that to the interpreter."""
    threads = left_threads()
    if not threads:
        return
    try:
        log.warning("ended without waiting for the threads %s", ", ".join(threads)[:500])
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a handler may have put anything in its place
                stream.flush()
    finally:
        os._exit(status)


def end_at_exit(status: int) -> None:
    """Have the interpreter end at once, when it comes to its end, if a thread would keep it then."""
    if left_threads():
        threading._register_atexit(end, status)  # type: ignore[attr-defined]  # noqa: SLF001 - atexit is too late
