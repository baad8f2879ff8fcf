"""The processes: each part alone, or all in one, from start to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import aiohttp
import structlog

from switchyard.events.errors import UnavailableError
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import topology
from switchyard.services.broker.server.encryption import key_of
from switchyard.services.broker.server.files import BrokerError
from switchyard.services.broker.server.server import NatsServer, start_broker
from switchyard.services.broker.server.websocket import websocket_of
from switchyard.services.ending import Deadline
from switchyard.services.gateway.app import serve
from switchyard.services.keeper.loop import Keeper
from switchyard.services.log import name_part
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.projector.projector import Projector
from switchyard.services.pusher.pusher import Pusher
from switchyard.services.run import connection_file
from switchyard.services.run.broker import connected
from switchyard.services.run.connection_file import ConnectionInfo
from switchyard.services.run.stopping import Stop, until_stopped
from switchyard.services.run.worker import run_worker
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.telemetry.process import observed

log = structlog.get_logger()


TOPOLOGY_TRIES: Final = 5
TOPOLOGY_PAUSE_S: Final = 1.0
READY_S: Final = 60.0  # the read model may have to catch up first
READY_PAUSE_S: Final = 0.05
EVERYWHERE: Final = {"http://0.0.0.0:": "http://127.0.0.1:", "http://[::]:": "http://[::1]:"}


# --- Each part, until it is cancelled


async def _gateway(settings: Settings, telemetry: Telemetry, ready: Callable[[str], None]) -> None:
    async with connected(settings, "gateway") as nc:
        await serve(settings, nc, ready=ready, telemetry=telemetry)


async def _projector(
    settings: Settings, telemetry: Telemetry, ready: Callable[[], None] | None = None
) -> None:
    async with connected(settings, "projector") as nc, asyncio.TaskGroup() as group:
        projector = Projector(nc, settings, telemetry=telemetry)
        group.create_task(projector.run())
        await projector.ready.wait()
        if ready is not None:
            ready()


async def _keeper(settings: Settings, telemetry: Telemetry) -> None:
    async with connected(settings, "keeper") as nc:
        await Keeper(nc, settings, ReadModel(path_in(settings.data_dir)), telemetry).run()


async def _pusher(settings: Settings, telemetry: Telemetry, stop: Stop, gateway: str | None = None) -> None:
    """Push until asked to stop, and until what runs then has ended or been given back."""
    async with connected(settings, "pusher") as nc:
        pusher = Pusher(nc, settings, telemetry, gateway=gateway)
        await until_stopped(stop, pusher.run(), grace_s=settings.drain_grace_s, on_stop=pusher.stop)


# --- Each part alone


async def run_gateway(settings: Settings, stop: Stop, ready: Callable[[str], None]) -> None:
    """Serve the API until asked to stop."""
    async with observed("gateway", settings) as telemetry:
        await until_stopped(stop, _gateway(settings, telemetry, ready), grace_s=settings.drain_grace_s)


async def run_projector(settings: Settings, stop: Stop) -> None:
    """Keep this host's read model until asked to stop."""
    async with observed("projector", settings) as telemetry:
        await until_stopped(stop, _projector(settings, telemetry), grace_s=0.0)


async def run_keeper(settings: Settings, stop: Stop) -> None:
    """Keep timers, leases and lanes until asked to stop."""
    async with observed("keeper", settings) as telemetry:
        await until_stopped(stop, _keeper(settings, telemetry), grace_s=0.0)


async def run_pusher(settings: Settings, stop: Stop) -> None:
    """Watch prediction servers and push jobs to them until asked to stop."""
    async with observed("pusher", settings) as telemetry:
        await _pusher(settings, telemetry, stop)


async def _run_worker_again(
    settings: Settings, telemetry: Telemetry, stop: Stop, kinds: Sequence[str], ready: Callable[[], None]
) -> None:
    """Work until asked to stop, with a new worker whenever code that does not end has worn one out."""
    while await run_worker(settings, stop, kinds=kinds, ready=ready, telemetry=telemetry):
        log.warning(
            "worker_restarted",
            effect="the code that did not stop still runs in this process; only a restart ends it",
        )


# --- All in one


async def run_up(
    settings: Settings,
    stop: Stop,
    *,
    kinds: Sequence[str],
    broker_port: int = 0,
    ready: Callable[[ConnectionInfo], None],
) -> None:
    """Run all parts in this process, with an embedded broker unless the settings name one.

    A part that fails ends the whole. On stop the worker drains first; the broker ends last.

    Args:
        settings: those of all parts.
        stop: set to end.
        kinds: those of the worker; none runs no worker.
        broker_port: that of the embedded broker; 0 takes the one of the last time, or a free one.
        ready: called once everything answers.

    Raises:
        AlreadyRunningError: another one runs on the data directory.
        BrokerError: the embedded broker does not start, or ended before it was asked to.
        UnavailableError: no broker answers.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(connection_file.claimed(settings.data_dir))
        pids = {"switchyard": os.getpid()}
        if settings.server_networks is None:  # a machine that runs everything speaks to servers beside it
            settings = settings.model_copy(update={"server_networks": PRIVATE})
        server = None
        if settings.nats_url is None:
            server = await start_broker(
                settings.data_dir,
                port=broker_port,
                sync_interval=settings.sync_interval,
                file_bytes=settings.broker_file_bytes,
                key=key_of(
                    None if settings.broker_key is None else settings.broker_key.get_secret_value(),
                    settings.broker_key_file,
                ),
                websocket=websocket_of(
                    settings.broker_websocket, settings.broker_websocket_cert, settings.broker_websocket_key
                ),
            )
            stack.push_async_callback(server.stop)
            settings = settings.model_copy(update={"nats_url": server.url})
            pids["nats-server"] = server.pid
        await _lay_out(settings, stop)
        if not stop.is_set():
            telemetry = await stack.enter_async_context(observed("up", settings))
            await _run_parts(stack, settings, telemetry, stop, kinds, pids, server, ready)


async def _lay_out(settings: Settings, stop: Stop) -> None:
    """Apply the topology; a broker that is only just starting gets some seconds."""
    for tries_left in reversed(range(TOPOLOGY_TRIES)):
        try:
            async with connected(settings, "topology") as nc:
                await topology.apply(
                    nc,
                    replicas=settings.replicas,
                    max_bytes=settings.stream_bytes(),
                    max_age_s=settings.stream_ages_s(),
                )
        except UnavailableError as error:
            if not tries_left:
                raise
            log.warning("topology_delayed", error=str(error), tries_left=tries_left)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TOPOLOGY_PAUSE_S)
        else:
            return
        if stop.is_set():
            return


async def _run_parts(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    telemetry: Telemetry,
    stop: Stop,
    kinds: Sequence[str],
    pids: dict[str, int],
    server: NatsServer | None,
    ready: Callable[[ConnectionInfo], None],
) -> None:
    serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    projecting, working = asyncio.Event(), asyncio.Event()
    deadline = Deadline(2 * settings.drain_grace_s)  # the worker's, then that of requests in progress
    stack.callback(deadline.lift)
    async with asyncio.TaskGroup() as group:

        def start(name: str, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            return group.create_task(_named(name, part), name=name)

        watching = None if server is None else start("broker", _ended(server, settings))
        projector = start("projector", _projector(settings, telemetry, projecting.set))
        await projecting.wait()
        gateway = start("gateway", _gateway(settings, telemetry, serving.set_result))
        url = await serving
        for everywhere, here in EVERYWHERE.items():
            url = url.replace(everywhere, here)
        keeper = start("keeper", _keeper(settings, telemetry))
        pusher = start("pusher", _pusher(settings, telemetry, stop, url))
        worker = None
        if kinds:
            worker = start("worker", _run_worker_again(settings, telemetry, stop, kinds, working.set))
            await working.wait()
        await _until_ready(url)
        token = mint(
            load_or_create_secrets(settings.data_dir)[0],
            tenant="default", roles=["admin"], ttl_s=settings.token_ttl_s, subject="admin",
        )  # fmt: skip
        info = ConnectionInfo(url=url, token=token, nats_url=str(settings.nats_url), pids=pids)
        connection_file.write(settings.data_dir, info)
        ready(info)
        await stop.wait()
        deadline.set()
        # These drain: the others must serve them until they have.
        await asyncio.wait([pusher] if worker is None else [pusher, worker])
        for task in (gateway, projector, keeper, watching):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])


async def _named(name: str, part: Coroutine[Any, Any, None]) -> None:
    """Run a part, and say which it was if it fails."""
    name_part(name)
    try:
        await part
    except Exception as error:
        log.error("part_failed", part=name, error=str(_cause(error)))  # noqa: TRY400 - who ends the process writes the traceback
        raise


def _cause(error: BaseException) -> BaseException:
    return _cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _ended(server: NatsServer, settings: Settings) -> None:
    """Wait for the broker's end.

    Raises:
        BrokerError: it ended.
    """
    status = await server.wait()
    log_file = settings.data_dir / "broker" / "nats.log"
    raise BrokerError(f"nats-server ended by itself (status {status}); see {log_file}")


async def _until_ready(url: str) -> None:
    """Return when the gateway says that it is ready.

    Raises:
        UnavailableError: it did not within `READY_S`.
    """
    detail = "nothing"
    try:
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
                    detail = await answer.text()
                await asyncio.sleep(READY_PAUSE_S)
    except (TimeoutError, aiohttp.ClientError):
        raise UnavailableError(f"the gateway at {url} is not ready after {READY_S:g} s: {detail}") from None
