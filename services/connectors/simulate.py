"""Kind `simulate`: work that does nothing, for as long and with the failures one asks for."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, Field

from switchyard.services.connectors.isolation.calls import run_isolated
from switchyard.services.connectors.isolation.processes import Limits, ProcessPool
from switchyard.services.connectors.payload import Payload, parse
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome, RetryableError
from switchyard.services.connectors.sections import InProcesses
from switchyard.services.settings import GIB

HANG_TIMEOUT_S: Final = 7 * 86_400.0
LOADED_MODELS: Final = 2


class SimulatePayload(Payload):
    """What to pretend."""

    duration_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    output_bytes: Annotated[int, Field(ge=0, le=104_857_600)] = 0
    fail: Literal["none", "retryable", "fatal", "crash", "hang"] = "none"
    fail_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    echo: Any = None
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None


class SimulateConnector:
    """Sleeps, reports its steps, and fails as asked; only a crash or a hang needs a child process.

    Args:
        slots: how many attempts it runs at once.
        memory_bytes: address space of a child process.
        id: that of the instance.
    """

    kind = "simulate"
    payload_model: type[BaseModel] = SimulatePayload
    section_model = InProcesses

    def __init__(self, *, slots: int, memory_bytes: int = GIB, id: str = kind) -> None:  # noqa: A002 - as others call it
        self.id = id
        self.slots = slots
        self._pool = ProcessPool(size=slots, limits=Limits(memory_bytes), name="simulate")
        self._models: dict[str, None] = {}
        self._changed: Callable[[], None] = _nobody

    @classmethod
    def make(cls, section: InProcesses, /) -> SimulateConnector:
        """An instance."""
        return cls(id=section.id, **section.limits())

    def capabilities(self) -> dict[str, Any]:
        """The models that the last jobs have "loaded", as `simulate.models`."""
        return {"simulate": {"models": list(self._models)}}

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when a model is loaded or dropped."""
        self._changed = changed

    def _load(self, model: str) -> None:
        """Hold the model, and drop the one that was not used for longest when there are too many."""
        loaded = model in self._models
        self._models.pop(model, None)
        self._models[model] = None
        while len(self._models) > LOADED_MODELS:
            del self._models[next(iter(self._models))]
        if not loaded:
            self._changed()

    async def run(self, attempt: Attempt) -> Outcome:
        """Take the time, then fail or answer `{"echo", "attempt", "worker"}` and `output` if asked for."""
        payload = parse(SimulatePayload, attempt.payload)
        if payload.model is not None:
            self._load(payload.model)
        if payload.duration_s:
            await _take_time(attempt, payload)
        if payload.fail != "none" and attempt.number <= payload.fail_attempts:
            await self._fail(attempt, payload)
        result = {"echo": payload.echo, "attempt": attempt.number, "worker": attempt.worker}
        if payload.output_bytes:
            result["output"] = "x" * payload.output_bytes
        return Outcome(result)

    async def _fail(self, attempt: Attempt, payload: SimulatePayload) -> None:
        match payload.fail:
            case "retryable":
                raise RetryableError("simulated", "this attempt was asked to fail")
            case "fatal":
                raise FatalError("simulated", "this job was asked to fail")
            case _:
                reached = 1.0 if payload.duration_s else 0.0
                await run_isolated(
                    self._pool,
                    f"{__name__}:{payload.fail}",
                    {},
                    attempt=attempt,
                    timeout_s=HANG_TIMEOUT_S,
                    on_progress=lambda progress: attempt.progress(reached, **progress),
                )

    async def close(self) -> None:
        """End the children that still hang."""
        await self._pool.close()


def _nobody() -> None:
    """Nobody wants to know."""


async def _take_time(attempt: Attempt, payload: SimulatePayload) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    for step in range(1, payload.steps + 1):
        # Against the start, so that what a step costs does not add up.
        await asyncio.sleep(start + payload.duration_s * step / payload.steps - loop.time())
        attempt.progress(
            step / payload.steps,
            stage="steps",
            message=f"step {step} of {payload.steps}",
            eta_s=payload.duration_s * (payload.steps - step) / payload.steps,
        )


def crash(_arguments: dict[str, Any], _report: Callable[[dict[str, Any]], None]) -> None:
    """End the child process as a fault in a library would."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> NoReturn:
    """Never end, not even when asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report({"stage": "hang", "message": "hanging, and ignoring requests to stop"})
    while True:
        threading.Event().wait()
