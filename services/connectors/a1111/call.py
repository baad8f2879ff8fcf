"""One call that does the work of an attempt, watched until it answers.

The answer alone says how it ended. What the server says of its progress is shown, and is looked at for one
thing: that a call which will never answer is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

from switchyard.services.connectors.a1111.api import PATHS, Api, BrokenError
from switchyard.services.connectors.a1111.monitor import Monitor
from switchyard.services.connectors.a1111.payload import SAMPLED
from switchyard.services.connectors.a1111.section import A1111Section
from switchyard.services.connectors.a1111.tasks import NO_PREVIEW, Standing, State, Tasks
from switchyard.services.connectors.comfyui.api import Answer, AwayError, TooLargeError
from switchyard.services.connectors.protocol import (
    Attempt,
    BackendLostError,
    BusyError,
    FatalError,
    RetryableError,
)

NEARLY: Final = 0.99
STOP_POLL_S: Final = 0.2


class Call:
    """The work of one attempt.

    Args:
        api, tasks: those of the server.
        monitor: interrupts what is given up.
        section: the times.
        attempt: hears of progress and previews.
        task: what is done.
        task_id: what the server calls it.
    """

    def __init__(
        self, api: Api, tasks: Tasks, monitor: Monitor, section: A1111Section, attempt: Attempt,
        task: str, task_id: str,
    ) -> None:  # fmt: skip
        self._api = api
        self._tasks = tasks
        self._monitor = monitor
        self._section = section
        self._attempt = attempt
        self._task = task
        self._id = task_id
        self._has_id = task in SAMPLED
        self._fraction = 0.0
        self._preview_id = NO_PREVIEW
        self._steps: tuple[Any, ...] = ()
        self._busy_at_s = self._moved_at_s = time.monotonic()
        self._away_since_s: float | None = None
        self.interrupted = False
        """Whether somebody was seen to interrupt it."""
        self.seconds = 0.0
        """How long it took, without the time in which it waited for others' work."""

    async def answer(self, body: bytes) -> Answer:
        """Make the call, and return what it answers.

        Raises:
            BusyError: the server is away.
            BackendLostError: it went away, or the call broke off.
            RetryableError: it does not get on, or was idle without an answer.
            FatalError: the answer is too large.
        """
        loop = asyncio.get_running_loop()
        began_s = self._busy_at_s = self._moved_at_s = time.monotonic()
        call = loop.create_task(
            self._api.call(PATHS[self._task], body, self._section.output_bytes, self._moves)
        )
        watch = loop.create_task(self._watch())
        self._monitor.ours.add(self._id)
        try:
            await asyncio.wait([call, watch], return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                watch.result()  # it ends by what it raises
            self.seconds += time.monotonic() - began_s
            return await self._ended(call)
        except asyncio.CancelledError:
            await self._stop(call)
            raise
        except BusyError:  # nothing was sent
            raise
        except BaseException:
            self._monitor.condemn(self._id)
            await self._interrupt()
            raise
        finally:
            self._monitor.ours.discard(self._id)
            for task in (call, watch):
                task.cancel()
            await asyncio.wait([call, watch])
            for task in (call, watch):  # what they raised was judged
                _ = task.cancelled() or task.exception()

    async def _ended(self, call: asyncio.Task[Answer]) -> Answer:
        try:
            answer = await call
        except AwayError as error:
            raise BusyError("backend_away", f"the server is away: {error}") from None
        except BrokenError as error:
            raise BackendLostError("backend_away", f"the call broke off: {error}") from None
        except TooLargeError:
            most = self._section.output_bytes
            raise FatalError("output_too_large", f"the answer has more than {most} bytes") from None
        await self._look_for_interruption()
        return answer

    async def _look_for_interruption(self) -> None:
        """Whether what is answered was cut short: that stands in the state until the next work begins."""
        with contextlib.suppress(AwayError):
            state = await self._tasks.state()
            self.interrupted = self.interrupted or (state.interrupted and not state.busy)

    # --- While it goes on

    def _moves(self) -> None:
        """Something of the answer comes."""
        self._busy_at_s = self._moved_at_s = time.monotonic()

    async def _watch(self) -> None:
        """Report progress until the call has to be given up."""
        while True:
            await asyncio.sleep(self._section.poll_s)
            try:
                state = await self._tasks.state()
                standing = None
                if self._has_id:
                    standing = await self._tasks.look(self._id, self._preview_id, preview=True)
            except AwayError as error:
                self._is_away(error)
                continue
            self._away_since_s = None
            self._judge(state, standing)

    def _is_away(self, error: AwayError) -> None:
        section, now_s = self._section, time.monotonic()
        self._away_since_s = self._away_since_s or now_s
        # Work lives in the process: where nobody listens any more, it is gone.
        most_s = min(section.silent_s, section.lost_s) if error.refused else section.lost_s
        if now_s - self._away_since_s >= most_s:
            raise BackendLostError("backend_away", f"the server is away: {error}")

    def _judge(self, state: State, standing: Standing | None) -> None:
        now_s = time.monotonic()
        section = self._section
        has_ended = standing is not None and standing.known and not (standing.active or standing.queued)
        if not state.busy or has_ended:
            if now_s - self._busy_at_s >= section.idle_s:
                raise RetryableError(
                    "no_answer", f"the work has ended {section.idle_s:g} s ago, and no answer comes"
                )
            return
        self._busy_at_s = now_s
        if standing is not None and standing.queued and not standing.active:
            self._moved_at_s = now_s
            self.seconds -= section.poll_s
            self._report("queued", "others' work goes before it", state.eta_s)
            return
        if standing is not None and (standing.active or self._tasks.knows_ids):
            self._show(standing)
            self.interrupted = self.interrupted or (standing.active and state.interrupted)
            self._fraction = max(self._fraction, min(NEARLY, standing.fraction))
            self._report("generating", standing.text, standing.eta_s)
        else:
            self._fraction = max(self._fraction, min(NEARLY, state.fraction))
            self._report(self._task, "", state.eta_s)
        if state.steps != self._steps:
            self._steps, self._moved_at_s = state.steps, now_s
        elif now_s - self._moved_at_s >= section.stall_s:
            raise RetryableError("stalled", f"the work has not got on for {section.stall_s:g} s")

    def _report(self, stage: str, message: str, eta_s: float | None) -> None:
        self._attempt.progress(self._fraction, stage=stage, message=message, eta_s=eta_s)

    def _show(self, standing: Standing) -> None:
        if standing.preview is not None and standing.preview_id != self._preview_id:
            with contextlib.suppress(FatalError):  # of a type that is not shown
                self._attempt.preview(*standing.preview)
        self._preview_id = standing.preview_id

    # --- Its end by force

    async def _stop(self, call: asyncio.Task[Answer]) -> None:
        """Interrupt the work if it runs, and wait a while for its end; one that waits ends when it begins."""
        self._monitor.condemn(self._id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._attempt.grace_s):
                while not call.done():
                    if not await self._interrupt():
                        return
                    await asyncio.wait([call], timeout=STOP_POLL_S)

    async def _interrupt(self) -> bool:
        """Interrupt the work as far as that is nobody else's; whether its end may be waited for."""
        try:
            return await self._interrupt_ours()
        except AwayError:
            return False

    async def _interrupt_ours(self) -> bool:
        if self._has_id and await self._tasks.interrupt(self._id):
            return True
        if self._has_id and self._tasks.knows_ids:
            return not (await self._tasks.look(self._id)).queued
        if self._section.exclusive:
            await self._tasks.interrupt_whatever_runs()
        return True
