"""A worker over REST as a process: the same connectors and handlers behind claims over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from switchyard._client.connection import Connection
from switchyard._client.transport import Transport
from switchyard._worker.rest.desk import Desk
from switchyard.client import AsyncClient
from switchyard.errors import ApiError, AuthenticationError, ConfigurationError, UnreachableError
from switchyard.events.errors import ForbiddenError, InvalidError, UnavailableError
from switchyard.services.connectors.supply import Reply, Report, run_fetches
from switchyard.services.records.tenancy import Tenancy
from switchyard.services.run import connection_file
from switchyard.services.run.worker import worker_id
from switchyard.services.settings import Settings
from switchyard.services.settings.older import worker as older_worker
from switchyard.services.worker.connectors import connectors_of
from switchyard.services.worker.hardware.machine import Machine, laid_over
from switchyard.worker import Worker

log = structlog.get_logger()

VARIABLE: Final = "SWITCHYARD_TOKEN"
VARIABLES: Final = (VARIABLE, older_worker.TOKEN)
TOKEN_BYTES: Final = 16 * 1024
NAME_CHARS: Final = 48
ROLE: Final = "worker"
_REPLY: Final = msgspec.json.Decoder(Reply)
TRIES: Final = 3
LOOK_S: Final = 1.0
"""Seconds after which a worker that is to end when it is idle looks again."""


def gateway_of(url: str, token_file: Path | None, data_dir: Path) -> Connection:
    """Which gateway, and the token or key for it: of the file, else of SWITCHYARD_TOKEN.

    Where neither is there, that of a `switchyard up` on this data directory is taken, for its own URL alone.

    Raises:
        ConfigurationError: the URL is none, or there is no token.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("--rest: http://HOST:PORT or https://HOST was expected")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError("--rest: a URL without user, password, query and fragment was expected")
    url = url.rstrip("/")
    if token_file is not None:
        return Connection(url, _checked(_read(token_file), f"--token-file {token_file}"))
    for variable in VARIABLES:
        if token := os.environ.get(variable):
            return Connection(url, _checked(token, variable))
    found = connection_file.read(data_dir)
    if found is not None and found.url.rstrip("/") == url:
        return Connection(url, found.token)
    raise ConfigurationError(f"no token for {url}: set {VARIABLE}, or name a file with --token-file")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(TOKEN_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--token-file {file}: {error}") from None


def _checked(token: str, where: str) -> str:
    token = token.strip()
    if (
        not token
        or len(token) > TOKEN_BYTES
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise ConfigurationError(f"{where}: one token or key was expected, on one line")
    return token


def run_rest_worker(
    settings: Settings,
    connection: Connection,
    *,
    kinds: Sequence[str],
    handlers: Sequence[str] = (),
    name: str | None = None,
    tenancy: Tenancy,
    capabilities: Callable[[], dict[str, Any]] = dict,
    ready: Callable[[], None] = lambda: None,
    machine: Machine | None = None,
    idle_s: float | None = None,
) -> None:
    """Work until SIGTERM or SIGINT, then drain; the arguments are those of `run_worker`.

    Args:
        settings: those of the worker.
        connection: where it claims, and with which token.
        kinds: the connectors that it runs: `kind`, or `kind:id` for one of several of a kind.
        handlers: `module:attribute` of each `switchyard.handlers.Handlers` that it runs beside them.
        name: what its id begins with.
        tenancy: whose jobs it runs.
        capabilities: gives what the operator declares, now and again at every SIGHUP.
        ready: called once the gateway has answered who the token stands for.
        machine: what finds what the machine has.
        idle_s: seconds without a job after which it ends by itself.

    Raises:
        HandlersError: handlers cannot be used.
        ConnectorsError: connectors cannot be used.
        ForbiddenError: the token has not the role `worker`.
        UnreachableError: the gateway does not answer at the start; later it is waited for.
        ApiError: the gateway refuses the claims.
        StuckError: code of handlers does not end, so that another process is to take this one's place.
    """
    worker = _Worker(
        machine or Machine({}, looks=False), idle_s,
        connectors=connectors_of(kinds, handlers, settings),
        name=worker_id(name and name[:NAME_CHARS])[-63:],
        url=connection.url, token=connection.token,
        slots=settings.slots, lease_s=settings.lease_s, drain_s=settings.drain_grace_s,
        capabilities=capabilities(), tenants=tenancy.tenants, exclude_tenants=tenancy.excluded,
        lost_slots=settings.lost_slots, vigil=settings.vigil, stall_s=settings.worker_stall_s,
    )  # fmt: skip
    asyncio.run(_check_token(connection))
    with _declared_again(worker, capabilities):
        log.info("worker_started", worker=worker.name, gateway=connection.url)
        ready()
        worker.run()
    log.info("worker_stopped", worker=worker.name)


class _Worker(Worker):
    """One that says what its machine has, and may end by itself.

    Args:
        machine: finds that, before the first claim and again and again.
        idle_s: seconds without a job after which it ends.
        options: those of its class.
    """

    def __init__(self, machine: Machine, idle_s: float | None, **options: Any) -> None:
        super().__init__(**options)
        self._machine = machine
        self._idle_s = idle_s
        self._idle_since = 0.0
        machine.look()

    def _combine(self, found: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
        return laid_over(self._machine.found | found, self._machine.declared) | dict(declared)

    async def _beside(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._machine.follow(lambda: self.declare(self._capabilities)))
            # What it was seen to lack, the gateway has seen itself.
            group.create_task(run_fetches(self._wanted, _RestSupply(self._transport, self.name), list))
            if self._idle_s is not None:
                group.create_task(self._end_when_idle(self._idle_s))

    async def _end_when_idle(self, idle_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        while (left_s := self._idle_since + idle_s - loop.time()) > 0 or self._running:
            await asyncio.sleep(max(left_s, LOOK_S) if not self._running else LOOK_S)
            if self._running:
                self._idle_since = loop.time()
        if not self._stopping.is_set():
            log.info("worker_idle", worker=self.name, idle_s=idle_s, effect="it ends")
            self._retire()

    async def _attempt(self, desk: Desk, claimed: dict[str, Any], *, starts: bool = True) -> None:
        try:
            await super()._attempt(desk, claimed, starts=starts)
        finally:
            self._idle_since = asyncio.get_running_loop().time()


class _RestSupply:
    """Reports over REST what is fetched, and brings orders."""

    def __init__(self, transport: Transport, worker: str) -> None:
        self._transport = transport
        self._worker = worker

    async def report(self, report: Report) -> Reply:
        body = msgspec.to_builtins(msgspec.structs.replace(report, worker=self._worker))
        try:
            answer = await self._transport.call("POST", "/v1/models/fetches", json=body, again=False)
            return _REPLY.decode(answer)
        except (ApiError, UnreachableError, msgspec.MsgspecError) as error:
            raise UnavailableError(f"the gateway does not say what to fetch: {error}") from error


async def _check_token(connection: Connection) -> None:
    async with AsyncClient(connection.url, connection.token, retries=TRIES) as client:
        try:
            who = await client.whoami()
        except AuthenticationError as error:
            raise ForbiddenError(f"the gateway at {connection.url} refuses the token: {error}") from None
    if ROLE not in who.roles:
        had = ", ".join(sorted(who.roles)) or "none"
        raise ForbiddenError(f"a worker needs a token with role {ROLE}; this one has {had}", field="roles")


@contextlib.contextmanager
def _declared_again(worker: Worker, capabilities: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Obey SIGHUP: from the next claim on, what the operator declares is what is read now."""

    def again(*_: object) -> None:
        try:
            worker.declare(capabilities())
        except InvalidError as error:
            log.warning("capabilities_kept", error=str(error))

    before = signal.signal(signal.SIGHUP, again)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
