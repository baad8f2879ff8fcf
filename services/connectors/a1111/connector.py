"""The connector of kind `a1111`: it has a server make images, watches it, and brings back what was made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from pydantic import BaseModel

from switchyard.services.connectors.a1111 import names
from switchyard.services.connectors.a1111.answers import Said, said_in
from switchyard.services.connectors.a1111.api import Api
from switchyard.services.connectors.a1111.call import Call
from switchyard.services.connectors.a1111.inputs import Inputs, body_of
from switchyard.services.connectors.a1111.monitor import OTHERS, Monitor
from switchyard.services.connectors.a1111.outputs import store
from switchyard.services.connectors.a1111.payload import SAMPLED, A1111Payload
from switchyard.services.connectors.a1111.section import A1111Section
from switchyard.services.connectors.a1111.tasks import Tasks, task_id_of
from switchyard.services.connectors.a1111.wording import MODEL, NO_ROUTE, OUT_OF_MEMORY
from switchyard.services.connectors.comfyui.api import Answer, AwayError, parsed
from switchyard.services.connectors.comfyui.health import Health
from switchyard.services.connectors.payload import parse
from switchyard.services.connectors.protocol import (
    Attempt,
    BackendLostError,
    BusyError,
    Outcome,
    RetryableError,
)

log = structlog.get_logger()

EARLIER: Final = 20
"""How many earlier attempts of a job are looked for."""
CLEAR_S: Final = 30.0
CLEAR_POLL_S: Final = 0.25
REMEMBERED: Final = 1_000


class A1111Connector:
    """An instance: one server.

    Args:
        section: its settings.
    """

    kind = "a1111"
    payload_model: type[BaseModel] = A1111Payload
    section_model = A1111Section

    def __init__(self, section: A1111Section) -> None:
        self.id = section.id
        self.switches = 0
        """How often the server had to load another checkpoint."""
        self._section = section
        self._changed: Callable[[], None] = _nobody
        self._health = Health(section.silent_s, self._has_changed, time.monotonic)
        self._api = Api(section, alive=self._health.heard)
        self._tasks = Tasks(self._api)
        self._monitor = Monitor(self._api, self._tasks, self._health, section, self._has_changed)
        self._short: dict[str, float] = {}
        """Jobs that ran out of memory here, and when."""
        self._loaded = ""
        self._loaded_in = 0
        """After which restart of the server that was loaded."""

    @classmethod
    def make(cls, section: A1111Section, /) -> A1111Connector:
        """An instance."""
        return cls(section)

    @property
    def slots(self) -> int:
        """Attempts at once; none while the server is down, and one to try it when it is back."""
        return self._health.slots(self._section.slots or 1)

    def capabilities(self) -> dict[str, Any]:
        """What the server is and has, as `a1111`."""
        inventory = self._monitor.inventory
        said = {
            "state": self._health.state, "backend": self._section.place, "shared": self._monitor.is_shared,
            "loaded": list(inventory.names_of(self._loaded_now())),
        }  # fmt: skip
        if why := self._health.why or (OTHERS if self._monitor.is_shared else ""):
            said["why"] = why
        return {"a1111": {**inventory.found, **said}}

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the server comes, goes, has other models, or is used by others."""
        self._changed = changed
        with contextlib.suppress(RuntimeError):  # without a loop it begins with the first attempt
            self._monitor.start()

    def _has_changed(self) -> None:
        self._changed()

    async def close(self) -> None:
        """End what goes on beside the attempts, and all connections."""
        await self._monitor.close()
        await self._api.close()

    # --- Attempts

    async def run(self, attempt: Attempt) -> Outcome:
        """Have the server do the work, and store what it made."""
        payload = parse(A1111Payload, attempt.payload)
        self._monitor.start()
        self._check_free(attempt.job_id)
        task_id = task_id_of(attempt.job_id, attempt.number)
        body = await body_of(payload, Inputs(attempt, self._section.input_bytes), task_id)
        await self._clear(attempt)
        with contextlib.suppress(TimeoutError):  # so that a switch of checkpoints is seen as one
            async with asyncio.timeout(self._section.answer_s):
                await self._monitor.looked.wait()
        call = Call(self._api, self._tasks, self._monitor, self._section, attempt, payload.task, task_id)
        attempt.progress(0.0, stage="sent")
        try:
            answer = await call.answer(body)
        except (BackendLostError, BusyError) as error:
            log.info("a1111_call_lost", task=task_id, backend=self._section.id, why=error.message)
            self._health.has_failed(error.message)
            raise
        said = await self._said(attempt, answer, payload)
        if call.interrupted and payload.task in SAMPLED:
            raise RetryableError("interrupted", "somebody has interrupted the work at the server")
        switched = self._remember_loaded(payload, said)
        stored = await store(attempt, said, payload.task, keep=self._section.embedded == "keep")
        result: dict[str, Any] = {
            "task": payload.task, "backend": self._section.place, "outputs": stored.outputs,
        }  # fmt: skip
        if payload.task in SAMPLED:
            result |= {"task_id": task_id, "parameters": said.parameters, "info": said.info}
        elif payload.task == "upscale":
            result["parameters"] = payload.parameters()
        if said.caption is not None:
            result["caption"] = said.caption
        attempt.progress(1.0, stage="done")
        made = sum(image.kind == "image" for image in said.images)
        usage = {"images": float(made), "seconds": max(0.0, call.seconds)}
        if payload.task in SAMPLED:
            usage["checkpoint_switches"] = float(switched)
        return Outcome(result, artifacts=stored.artifacts, usage=usage)

    async def _said(self, attempt: Attempt, answer: Answer, payload: A1111Payload) -> Said:
        """What an answer says; what it says of the server is remembered."""
        try:
            body = await parsed(answer.body)
        except AwayError:
            body = None
        try:
            said = said_in(answer.status, body, payload)
        except BusyError as error:
            self._health.is_wrong(error.message)
            raise
        except RetryableError as error:
            if error.code == NO_ROUTE:
                await self._check_api()
            self._health.has_worked()
            if error.code in (OUT_OF_MEMORY, MODEL, NO_ROUTE):
                self._remember_short(attempt.job_id)
            raise
        self._health.has_worked()
        return said

    async def _check_api(self) -> None:
        """Whether the server has the API at all.

        Raises:
            BusyError: it has not.
        """
        try:
            await self._tasks.state()
        except AwayError as error:
            self._health.is_wrong(str(error))
            raise BusyError("backend_has_no_api", f"the server is of no use: {error}") from None

    def _check_free(self, job_id: str) -> None:
        """Whether the server may have a job.

        Raises:
            BusyError: it is down, or the job has just run out of memory there.
        """
        if self._health.state == "down":
            raise BusyError("backend_away", f"the server is away: {self._health.why}")
        short_at_s = self._short.get(job_id)
        if short_at_s is not None and time.monotonic() - short_at_s < self._section.elsewhere_s:
            raise BusyError("elsewhere", "the job could not be done here just now; others may try")

    async def _clear(self, attempt: Attempt) -> None:
        """Have what earlier attempts of the job left at the server end, and wait for that for a while.

        The server does one after the other, so that what has not ended by then costs time and no more.

        Raises:
            BusyError: the server is away.
        """
        first = max(1, attempt.number - EARLIER)
        ids = [task_id_of(attempt.job_id, number) for number in range(first, attempt.number + 1)]
        until_s = time.monotonic() + CLEAR_S
        try:
            left = [task_id for task_id in ids if await self._tasks.runs(task_id)]
            for task_id in left:
                self._monitor.condemn(task_id)
            while left and time.monotonic() < until_s:
                for task_id in left:
                    await self._tasks.interrupt(task_id)
                attempt.progress(0.0, stage="clearing", message="what an earlier attempt left there ends")
                await asyncio.sleep(CLEAR_POLL_S)
                left = [task_id for task_id in left if await self._tasks.runs(task_id)]
        except AwayError as error:
            raise BusyError("backend_away", f"the server is away: {error}") from None

    # --- What is remembered of the server

    def _remember_short(self, job_id: str) -> None:
        self._short.pop(job_id, None)
        self._short[job_id] = time.monotonic()
        while len(self._short) > REMEMBERED:
            del self._short[next(iter(self._short))]

    def _loaded_now(self) -> str:
        """The checkpoint in the server's memory: that of the last work, else that of its settings."""
        if self._loaded and self._loaded_in == self._health.restarts:
            return self._loaded
        return self._monitor.inventory.loaded

    def _remember_loaded(self, payload: A1111Payload, said: Said) -> bool:
        """Take notice of the checkpoint that was used; whether another one had to go for it."""
        if payload.task not in SAMPLED:
            return False
        before = self._monitor.inventory.names_of(self._loaded_now())
        used = names.plain(said.info.get("sd_model_name")) or names.checkpoint_of(payload.parameters())
        if not used:
            return False
        now = self._monitor.inventory.names_of(used)
        self._loaded, self._loaded_in = used, self._health.restarts
        if set(before) & set(now):
            return False
        self._changed()
        switched = bool(before)
        self.switches += switched
        return switched


def _nobody() -> None:
    """What hears of changes when nobody watches."""
