"""The processes: each part alone, or all in one, from start to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import nats.errors
import structlog
from nats.aio.client import Client

from projections.database import path_in
from projections.reader import ReadModel
from services import broker, connection_file, topology
from services.connection_file import ConnectionInfo
from services.connectors import CONNECTORS
from services.gateway.app import serve
from services.gateway.tokens import load_or_create_secrets, mint
from services.keeper.loop import Keeper
from services.nats_server import start_broker
from services.projector import Projector
from services.settings import Settings
from services.worker.loop import Worker

log = structlog.get_logger()

Stop = asyncio.Event


def stop_on_signals() -> Stop:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def until_stopped(
    stop: Stop, work: Awaitable[None], *, on_stop: Callable[[], None] | None = None
) -> None:
    """Run `work` until it ends, or until told to stop: then it is cancelled, or asked by `on_stop` to end."""
    async with asyncio.TaskGroup() as group:
        running = asyncio.ensure_future(work)
        waiting = group.create_task(stop.wait())
        try:
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                if on_stop is None:
                    running.cancel()
                else:
                    on_stop()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        finally:
            running.cancel()
            waiting.cancel()


@contextlib.asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Client]:
    """A connection of a part of its own.

    Raises:
        UnavailableError: no broker answers.
    """
    nc = await broker.connect(str(settings.nats_url), name=name, timeout_s=settings.request_timeout_s)
    try:
        yield nc
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):  # a broker that is gone is no reason not to end
            await nc.close()


async def run_gateway(settings: Settings, stop: Stop, ready: Callable[[str], None]) -> None:
    """Serve the API until told to stop."""
    async with connected(settings, "gateway") as nc:
        await until_stopped(stop, serve(settings, nc, ready=ready))


async def run_projector(settings: Settings, stop: Stop) -> None:
    """Keep this host's read model until told to stop."""
    async with connected(settings, "projector") as nc:
        await until_stopped(stop, Projector(nc, settings).run())


async def run_keeper(settings: Settings, stop: Stop) -> None:
    """Keep timers, leases and lanes until told to stop."""
    async with connected(settings, "keeper") as nc:
        read_model = ReadModel(path_in(settings.data_dir))
        await until_stopped(stop, Keeper(nc, settings, read_model).run())


async def run_worker(
    settings: Settings, stop: Stop, *, kinds: Sequence[str], name: str | None = None
) -> None:
    """Work until told to stop, then drain."""
    async with connected(settings, "worker") as nc:
        worker = make_worker(nc, settings, kinds, name)
        await until_stopped(stop, worker.run(), on_stop=worker.stop)


def make_worker(nc: Client, settings: Settings, kinds: Sequence[str], name: str | None) -> Worker:
    """A worker whose id is its name, or the host's, and what makes this run of it unique."""
    worker_id = f"{name or socket.gethostname().lower()}-{secrets.token_hex(3)}"
    connectors = [CONNECTORS[kind](slots=settings.slots) for kind in kinds]
    return Worker(nc, connectors, settings, worker_id=worker_id)


async def run_up(
    settings: Settings,
    stop: Stop,
    *,
    kinds: Sequence[str],
    worker: bool = True,
    broker_port: int = 0,
    ready: Callable[[ConnectionInfo], None],
) -> None:
    """Run all parts in this process, with an embedded broker unless the settings name one.

    A part that fails ends the whole. On stop the worker drains first, then the others end, the broker last.
    """
    async with contextlib.AsyncExitStack() as stack:
        pids = {"switchyard": os.getpid()}
        if settings.nats_url is None:
            server = await start_broker(
                settings.data_dir, port=broker_port, sync_interval=settings.sync_interval
            )
            stack.push_async_callback(server.stop)
            settings = settings.model_copy(update={"nats_url": server.url})
            pids["nats-server"] = server.pid
        async with connected(settings, "topology") as nc:
            await topology.apply(nc, replicas=settings.replicas)
        stack.callback(connection_file.remove, settings.data_dir)
        await _run_parts(settings, stop, kinds if worker else (), pids, ready)


async def _run_parts(
    settings: Settings,
    stop: Stop,
    kinds: Sequence[str],
    pids: dict[str, int],
    ready: Callable[[ConnectionInfo], None],
) -> None:
    others = asyncio.Event()  # set once the worker has drained
    serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with (
        connected(settings, "projector") as projector_nc,
        asyncio.TaskGroup() as group,
    ):
        projector = Projector(projector_nc, settings)
        group.create_task(until_stopped(others, projector.run()))
        await projector.ready.wait()
        group.create_task(run_gateway(settings, others, serving.set_result))
        url = await serving
        group.create_task(run_keeper(settings, others))
        token = mint(
            load_or_create_secrets(settings.data_dir)[0],
            tenant="default", roles=["admin"], ttl_s=settings.token_ttl_s, subject="admin",
        )  # fmt: skip
        info = ConnectionInfo(url=url, token=token, nats_url=str(settings.nats_url), pids=pids)
        connection_file.write(settings.data_dir, info)
        if kinds:
            async with connected(settings, "worker") as worker_nc:
                worker = make_worker(worker_nc, settings, kinds, None)
                async with asyncio.TaskGroup() as working:
                    working.create_task(until_stopped(stop, worker.run(), on_stop=worker.stop))
                    await worker.ready.wait()
                    ready(info)
        else:
            ready(info)
            await stop.wait()
        others.set()
