"""A worker as a process, from start to a clean stop."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from switchyard._worker.contained import ours
from switchyard.events.errors import InvalidError
from switchyard.services.records.tenancy import EVERYBODY, Tenancy
from switchyard.services.run.broker import connected
from switchyard.services.run.stopping import Stop, until_stopped
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.telemetry.process import observed
from switchyard.services.worker.connectors import connectors_of
from switchyard.services.worker.hardware.machine import Machine
from switchyard.services.worker.worker import Worker

log = structlog.get_logger()


async def run_worker(
    settings: Settings,
    stop: Stop,
    *,
    kinds: Sequence[str],
    handlers: Sequence[str] = (),
    reload: bool = False,
    name: str | None = None,
    tenancy: Tenancy = EVERYBODY,
    capabilities: Callable[[], dict[str, Any]] = dict,
    ready: Callable[[], None] | None = None,
    telemetry: Telemetry | None = None,
    machine: Machine | None = None,
    idle_s: float | None = None,
) -> bool:
    """Work until asked to stop, then drain; whether another process is to take this worker's place.

    So it is when code of handlers does not end, which holds slots and can be ended only with its process.

    Args:
        settings: those of the worker.
        stop: set to end.
        kinds: the connectors that it runs: `kind`, or `kind:id` for one of several of a kind.
        handlers: `module:attribute` of each `switchyard.handlers.Handlers` that it runs beside them.
        reload: whether handlers are read again when their files change.
        name: what its id begins with.
        tenancy: whose jobs it runs.
        capabilities: gives what the operator declares, now and again at every SIGHUP.
        ready: called once it takes jobs.
        telemetry: that of the process; one of its own when not given.
        machine: what finds what the machine has.
        idle_s: seconds without a job after which it ends by itself.

    Raises:
        HandlersError: handlers cannot be used.
        ConnectorsError: connectors cannot be used.
    """
    if telemetry is None:
        with ours():  # no handler is to find what beats and listens here
            async with observed("worker", settings) as own:
                return await run_worker(
                    settings, stop, kinds=kinds, handlers=handlers, reload=reload, name=name, tenancy=tenancy,
                    capabilities=capabilities, ready=ready, telemetry=own, machine=machine, idle_s=idle_s,
                )  # fmt: skip
    loop = asyncio.get_running_loop()

    made: list[Worker] = []

    def make() -> Worker:
        worker = Worker(
            nc, connectors_of(kinds, handlers, settings), settings,
            worker_id=worker_id(name), capabilities=capabilities(), tenancy=tenancy, telemetry=telemetry,
            machine=machine, idle_s=idle_s,
        )  # fmt: skip
        made[:] = [worker]
        return worker

    def obey_hangup(worker: Worker) -> None:
        loop.add_signal_handler(signal.SIGHUP, _declare_again, worker, capabilities)

    async with connected(settings, "worker") as nc:
        if reload:
            from switchyard.services.worker import reloading  # noqa: PLC0415 - nobody else needs what it imports

            running = reloading.run(make, handlers, stop, ready or _nobody, obey_hangup)
            await until_stopped(stop, running, grace_s=settings.drain_grace_s, on_stop=_nobody)
            return made[-1].is_worn
        worker = make()
        obey_hangup(worker)
        async with asyncio.TaskGroup() as group:
            working = until_stopped(stop, worker.run(), grace_s=settings.drain_grace_s, on_stop=worker.stop)
            group.create_task(working)
            await worker.ready.wait()
            if ready is not None:
                ready()
        return worker.is_worn


def _nobody() -> None:
    """Nobody wants to know."""


def _declare_again(worker: Worker, capabilities: Callable[[], dict[str, Any]]) -> None:
    try:
        worker.declare(capabilities())
    except InvalidError as error:
        log.warning("capabilities_kept", error=str(error))


def worker_id(name: str | None) -> str:
    """The name, or the host's as far as a subject may hold it, and what makes this run of it unique."""
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")
    return f"{name or host or 'worker'}-{secrets.token_hex(3)}"
