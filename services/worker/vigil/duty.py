"""What the process beside a worker does: it renews the worker's leases and sends its heartbeats.

Lines of JSON come from the worker, each an object:

    {"beat": number}        the worker's event loop goes round; answered with the same
    {"record": {...}}       what the worker says of itself from now on
    {"lease": fence, "job", "seq", "reply", "tokens", "for_s"}
                            a lease, to be renewed for so long at most; null for as long as it is held
    {"ended": fence}        it is not held any more
    {"leave": true}         the worker ends in order: so does this process, without a word

and go to it:

    {"up": true}            the first heartbeat was taken: from now on the worker need not send its own
    {"heard": {...}}        what came of a heartbeat: the arguments of `Registration.heard`
    {"look": fence, "lost"} the handler has to stop: its lease is lost, or else the log says why
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from switchyard._vigil.blockage import Blockage
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import Lease, Status
from switchyard.events.vocabulary.ids import Fence, JobId, Revision
from switchyard.services import log as logs
from switchyard.services.broker.connection import connect
from switchyard.services.broker.jetstream import WORKING
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.rights.nkeys import Credentials
from switchyard.services.dispatch.renewal import Interruption, judge
from switchyard.services.event_store import EventStore
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.worker.heartbeats import Heartbeats

if TYPE_CHECKING:
    from switchyard.services.settings import Settings

log = structlog.get_logger()

LINE_BYTES: Final = 8 * 1024 * 1024  # a worker's capabilities are checked to be far smaller
UNREAD_BYTES: Final = 1024 * 1024
AT_ONCE: Final = 64
RETRY_S: Final = 1.0
CHECK_S: Final = 0.25
LAST_WORDS_S: Final = 3.0


class Limits(NamedTuple):
    """The settings that the reading of jobs needs, by the names that they have in `Settings`."""

    append_tries: int
    request_timeout_s: float
    history_events: int
    archive_ttl_s: float


class _Kept:
    """A lease that is being kept."""

    __slots__ = ("job", "reply", "tokens", "until")

    def __init__(self, job: Job, reply: str, tokens: list[str], until: float | None) -> None:
        self.job = job
        self.reply = reply
        self.tokens = tokens
        self.until = until


class Duty:
    """Keeps one worker's leases.

    Args:
        message: the worker's first message.
        writer: to the worker.
        stacks_fd: where the worker's stacks come from.
    """

    def __init__(self, message: dict[str, Any], writer: asyncio.StreamWriter, stacks_fd: int) -> None:
        self._first = message
        self._writer = writer
        self._record = msgspec.convert(message["record"], WorkerRecord, strict=False)
        self._limits = Limits(**message["limits"])
        self._stall_s: float = message["stall_s"]
        self._kept: dict[Fence, _Kept] = {}
        self._heartbeats: Heartbeats | None = None
        self._wake = asyncio.Event()
        self._is_stalled = False
        self.blockage = Blockage(stacks_fd, self._record.id, message["thread"], self._jobs, log.warning)

    def _jobs(self) -> list[str]:
        return [kept.job.id for kept in self._kept.values()]

    def _held(self) -> dict[Fence, JobId]:
        return {fence: kept.job.id for fence, kept in self._kept.items()}

    # --- From and to the worker

    async def listen(self, reader: asyncio.StreamReader) -> bool:
        """Obey the worker until it is gone; whether it left in order."""
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if self._obey(orjson.loads(line)):
                    return True
        return False

    def _obey(self, message: dict[str, Any]) -> bool:
        match message:
            case {"beat": number}:
                self.blockage.beat()
                self._report({"beat": number})
            case {"lease": fence}:
                self._keep(fence, message)
            case {"ended": fence}:
                self._kept.pop(fence, None)
            case {"record": record}:
                self._record = msgspec.convert(record, WorkerRecord, strict=False)
                if self._heartbeats is not None:
                    self._heartbeats.change(self._record)
                self._wake.set()
            case {"leave": _}:
                return True
        return False

    def _keep(self, fence: Fence, message: dict[str, Any]) -> None:
        until = None if message["for_s"] is None else time.monotonic() + message["for_s"]
        if (known := self._kept.get(fence)) is not None:
            known.until = until
            return
        lease = Lease(self._record.id, fence, 0, Revision(0))
        job = Job(id=message["job"], seq=message["seq"], status=Status.RUNNING, lease=lease)
        self._kept[fence] = _Kept(job, message["reply"], message["tokens"], until)

    def _report(self, line: dict[str, Any]) -> None:
        if self._writer.transport.get_write_buffer_size() < UNREAD_BYTES:
            self._writer.write(orjson.dumps(line) + b"\n")

    # --- The work

    async def work(self) -> None:
        """Renew and send heartbeats until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check())
            nc = await self._connected()
            async with Publisher(nc, timeout_s=self._limits.request_timeout_s) as publisher:
                store = EventStore(nc, publisher, cast("Settings", self._limits))
                self._heartbeats = Heartbeats(publisher, self._record, self._held)
                async with asyncio.TaskGroup() as keeping:
                    keeping.create_task(self._beat(self._heartbeats))
                    keeping.create_task(self._renew_all(nc, store))

    async def _connected(self) -> Client:
        said = self._first["credentials"]
        while True:
            try:
                return await connect(
                    self._first["url"],
                    name="vigil",
                    timeout_s=self._limits.request_timeout_s,
                    lease_s=self._record.lease_s,
                    credentials=None if said is None else Credentials(*said),
                )
            except UnavailableError as error:
                log.warning("vigil_not_connected", worker=self._record.id, error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _beat(self, heartbeats: Heartbeats) -> None:
        is_up = False
        while True:
            self._wake.clear()
            pause_s = self._record.lease_s / 3
            if not self._is_stalled:
                sent, refusal = await heartbeats.beat()
                is_known = not isinstance(refusal, AckLostError)
                why = None if refusal is None else str(refusal)
                self._report({"heard": {"sent": sent, "refusal": why, "is_known": is_known}})
                if sent and not is_up:
                    is_up = True
                    self._report({"up": True})
                if refusal is not None:
                    pause_s = min(pause_s, RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _renew_all(self, nc: Client, store: EventStore) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        while True:
            await asyncio.sleep(self._record.lease_s / 3)
            if self._is_stalled:
                continue
            async with asyncio.TaskGroup() as group:
                for fence, kept in list(self._kept.items()):
                    group.create_task(self._renew(nc, store, gate, fence, kept))

    async def _renew(
        self, nc: Client, store: EventStore, gate: asyncio.Semaphore, fence: Fence, kept: _Kept
    ) -> None:
        async with gate:
            try:
                kept.job, why = await judge(store, kept.job, fence)
            except SwitchyardError as error:
                log.warning("renewal_failed", job=kept.job.id, error=str(error))
                return
            if self._kept.get(fence) is not kept:  # its outcome may have been acknowledged meanwhile
                return
            if why is Interruption.LOST:
                del self._kept[fence]
            else:
                with contextlib.suppress(nats.errors.Error):
                    for reply in filter(None, (kept.reply, *kept.tokens)):  # none of a job taken by its name
                        await nc.publish(reply, WORKING)
            if why is not None:
                self._report({"look": fence, "lost": why is Interruption.LOST})

    async def _check(self) -> None:
        """Look at the worker's loop and at the time of its leases, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.blockage.check()
            is_stalled = self.blockage.seconds > self._stall_s
            if is_stalled and not self._is_stalled:
                log.error(
                    "worker_stalled", worker=self._record.id, seconds=round(self.blockage.seconds, 1),
                    jobs=self._jobs(), effect="its leases are renewed no more, and it sends no heartbeat",
                )  # fmt: skip
            elif self._is_stalled and not is_stalled:
                log.warning("worker_answers_again", worker=self._record.id)
                self._wake.set()
            self._is_stalled = is_stalled
            now = time.monotonic()
            for fence, kept in list(self._kept.items()):
                if kept.until is not None and kept.until < now:
                    del self._kept[fence]
                    log.warning(
                        "lease_outstayed", worker=self._record.id, job=kept.job.id, fence=fence,
                        effect="the attempt took longer than it may, and is renewed no more",
                    )  # fmt: skip

    async def last_words(self) -> None:
        """The worker is dead: name what it ran, so that it is known who was alone."""
        if self._heartbeats is not None and not self._is_stalled:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._heartbeats.last_words()


async def _keep(message: dict[str, Any], channel: socket.socket, stacks_fd: int, parent: int) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=channel, limit=LINE_BYTES)

    def on_death() -> None:
        if os.getppid() != parent:  # a process that it forked may hold the other end of the socket
            reader.feed_eof()

    loop.add_signal_handler(signal.SIGUSR1, on_death)
    duty = Duty(message, writer, stacks_fd)
    loop.add_reader(stacks_fd, duty.blockage.on_stack)
    async with asyncio.TaskGroup() as group:
        group.create_task(duty.work())
        if not await duty.listen(reader):
            await duty.last_words()
        os._exit(0)  # a broker that does not answer must not hold up the end


def run(message: dict[str, Any], channel: socket.socket, stacks_fd: int, parent: int) -> None:
    """Keep the leases of the worker that asked for it; never returns in order."""
    logs.configure(**{"as_json": True} | message["log"])
    asyncio.run(_keep(message, channel, stacks_fd, parent))
