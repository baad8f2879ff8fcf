"""Watching a prompt to its end: events for its progress, the history for the truth."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp

from switchyard.services.connectors.comfyui.api import Api, AwayError, parsed
from switchyard.services.connectors.comfyui.monitor import Monitor
from switchyard.services.connectors.comfyui.progress import Progress
from switchyard.services.connectors.comfyui.prompts import Prompts, Standing
from switchyard.services.connectors.comfyui.section import ComfySection
from switchyard.services.connectors.protocol import Attempt, BackendLostError

QUIET_S: Final = 20.0
"""Without a frame for so long the socket is made again: it may be another's by now, or stall silently."""
AGAIN_S: Final = 0.3
MOST_AGAIN_S: Final = 5.0
CONNECTED_S: Final = 2.0
ASK_S: Final = 0.5
FLAGS: Final = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


class Watch:
    """One prompt, as an attempt sees it.

    Args:
        api, prompts: those of the server.
        monitor: stops what is given up.
        section: the times.
        attempt: hears of progress and previews.
        prompt_id: the prompt; its events go to the client of this very name, so that whoever watches next
            gets them, too.
        progress: what is known of it.
    """

    def __init__(
        self,
        api: Api,
        prompts: Prompts,
        monitor: Monitor,
        section: ComfySection,
        attempt: Attempt,
        prompt_id: str,
        progress: Progress,
    ) -> None:
        self._api = api
        self._prompts = prompts
        self._monitor = monitor
        self._section = section
        self._attempt = attempt
        self._id = prompt_id
        self.progress = progress
        self._wake = asyncio.Event()
        self._connected = asyncio.Event()
        self._ahead: int | None = None

    # --- Events

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow its events; begin before it is sent, so that none is missed."""
        task = asyncio.get_running_loop().create_task(self._follow())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECTED_S):
                    await self._connected.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self) -> None:
        pause_s = AGAIN_S
        while True:
            began_s = time.monotonic()
            with contextlib.suppress(AwayError, aiohttp.ClientError, OSError, TimeoutError, RuntimeError):
                async with self._api.socket(self._id) as socket:
                    await socket.send_json(FLAGS)
                    self._connected.set()
                    self._wake.set()  # nothing is sent again: what was missed stands in the history
                    while await self._frame(socket):
                        pass
            if time.monotonic() - began_s > MOST_AGAIN_S:
                pause_s = AGAIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(MOST_AGAIN_S, 2 * pause_s)

    async def _frame(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Take a frame; whether there may be more."""
        received = await socket.receive(timeout=QUIET_S)
        if received.type is aiohttp.WSMsgType.BINARY:
            preview = self.progress.preview(received.data)
            if preview is not None:
                self._attempt.preview(preview.data, preview.media_type)
            return True
        if received.type is not aiohttp.WSMsgType.TEXT:
            return False
        try:
            frame = await parsed(received.data.encode())
        except AwayError:
            return True
        if self.progress.take(frame, time.monotonic()):
            if self.progress.ended is not None:
                self._wake.set()
            else:
                fraction, stage, message, eta_s = self.progress.report(time.monotonic())
                self._attempt.progress(fraction, stage=stage, message=message, eta_s=eta_s)
        return True

    # --- The truth

    async def ended(self) -> dict[str, Any]:
        """The entry of the history with which it ends.

        Raises:
            BackendLostError: the server does not know it, or is away for too long.
        """
        away_since_s: float | None = None
        while True:
            self._wake.clear()
            try:
                standing = await self._prompts.look(self._id)
                if standing.copies > 1:
                    await self._prompts.single(self._id)
            except AwayError as error:
                away_since_s = away_since_s or time.monotonic()
                self._give_up_after(time.monotonic() - away_since_s, error)
                await asyncio.sleep(ASK_S)
                continue
            away_since_s = None
            if (entry := self._judged(standing)) is not None:
                return entry
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._section.poll_s):
                    await self._wake.wait()

    def _give_up_after(self, away_s: float, error: AwayError) -> None:
        # Queue and history live in the process: where nobody listens any more, they are gone.
        section = self._section
        if away_s >= (min(section.silent_s, section.lost_s) if error.refused else section.lost_s):
            self._monitor.condemn(self._id)
            raise BackendLostError("backend_away", f"ComfyUI is away: {error}")

    def _judged(self, standing: Standing) -> dict[str, Any] | None:
        match standing.state:
            case "ended":
                return standing.entry
            case "unknown":
                if self.progress.ended == "execution_success":  # somebody has cleared the history
                    return {"outputs": self.progress.outputs, "status": {"status_str": "success"}}
                raise BackendLostError("unknown_work", "ComfyUI does not know the prompt any more")
            case "pending" if standing.ahead != self._ahead:
                self._ahead = standing.ahead
                self._attempt.progress(0.0, stage="queued", message=f"{standing.ahead} before it")
            case _:
                self._attempt.seen()
        return None
