"""What a handler does once before its first attempt, and once after its last."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from switchyard._worker.handler_errors import Retry, plain
from switchyard._worker.process_state import adopt
from switchyard._worker.traceback import text_of
from switchyard.events.encoding.json_written import type_name
from switchyard.handlers import Handler

log = logging.getLogger("switchyard.worker")

SETUP_FAILED: Final = "setup_failed"


class Readiness:
    """Sets a handler up when its first attempt asks for it; one for each handler of a worker.

    One with `process=True` needs none in the worker: its child processes do it themselves.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        self._done = handler.setup is None

    async def wait(self) -> None:
        """Return when the handler is set up; the attempts that come meanwhile wait for the same.

        Raises:
            Retry: code `setup_failed`; the next attempt tries again.
        """
        if self._done:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(_call(self._handler.setup))
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task = self._task
        await asyncio.wait([task])  # which a cancellation leaves running, for the next attempt
        if task.cancelled():
            raise Retry("the setup was cancelled", code=SETUP_FAILED)
        if (error := task.exception()) is not None:
            raise Retry(f"{type_name(error)}: {text_of(error)}", code=SETUP_FAILED) from error
        self._done = True
        adopt()

    async def close(self) -> None:
        """Tear down what was set up; what fails is logged."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        failed = self._task is not None and (self._task.cancelled() or self._task.exception() is not None)
        asked = self._task is not None or self._handler.setup is None
        if self._handler.teardown is None or failed or not asked:
            return
        try:
            await _call(self._handler.teardown)
        except Exception:
            log.exception("the teardown of %s failed", self._handler.kind)


async def _call(function: Callable[[], Any] | None) -> None:
    """Call an async function on the loop, a plain one in a thread that keeps nothing from ending."""
    if function is None:
        return
    if inspect.iscoroutinefunction(function):
        await function()
        return
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        elif isinstance(error, Exception):
            done.set_exception(error)
        else:
            done.set_exception(RuntimeError(f"it raised {type_name(error)}"))

    def body() -> None:
        failed: BaseException | None = None
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread: all goes to who waits
            failed = plain(error)
        with contextlib.suppress(RuntimeError):  # the loop has ended without this thread
            loop.call_soon_threadsafe(finish, failed)

    threading.Thread(target=body, name="handler-setup", daemon=True).start()
    await done
