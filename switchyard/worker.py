"""Workers over REST: a claim loop around handlers, for where `switchyard worker` cannot run.

```python
worker = Worker(name="shouter")

@worker.kind("shout")
async def shout(payload: dict, context: Context) -> dict:
    return {"said": payload["word"].upper()}

worker.run()
```
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from switchyard._client.connection import find
from switchyard._client.json import body_json
from switchyard._client.transport import AGAIN, CONNECT_S, LOST, Transport
from switchyard._vigil.vigil import STALL_S, Vigil
from switchyard._worker import runner
from switchyard._worker.contained import StillRunning, install, ours
from switchyard._worker.deadline import Deadline
from switchyard._worker.handler_errors import StuckError
from switchyard._worker.lease import Lease, Why
from switchyard._worker.process_state import is_kept, kept
from switchyard._worker.rest.desk import Desk, desks
from switchyard._worker.rest.runners import Runner, connector_of, runner_of
from switchyard.connectors import Connector
from switchyard.errors import ApiError
from switchyard.handlers import Function, Handlers, HandlersError

__all__ = ["StuckError", "Worker"]

log = logging.getLogger("switchyard.worker")

LEASE_S: Final = 30.0
POLL_S: Final = 10.0
DRAIN_S: Final = 30.0
GRACE_S: Final = 5.0
SLOTS: Final = 4
FORCED_S: Final = 9.5  # after `drain_s` the process ends as it stands
TIMEOUT_S: Final = 30.0
RETRIES: Final = 8
STATE_HEADER: Final = "Switchyard-Worker-State"
REVISION_HEADER: Final = "Switchyard-Worker-Revision"


class Worker:
    """Claims jobs over REST and runs them with handlers, until asked to stop.

    Args:
        handlers: what runs; more are registered with `kind`.
        connectors: what runs beside them: `kind`, `kind:id`, a section with `kind` and `id`, or a connector.
        name: the worker's, 1 to 63 of letters, digits, `_` and `-`; the host's and a random end by default.
        url: that of the gateway; found as the client finds it.
        token: that of the role `worker`; found as the client finds it.
        data_dir: as the client's.
        slots: attempts at once of the kinds that have no `slots` of their own.
        lease_s: length of a lease, renewed at each third, every 5 s at least; then a cancel is seen too.
        poll_s: how long one claim waits for a job; a stop waits for it too.
        drain_s: how long attempts have to end after `stop`; then they are stopped and their jobs given back.
        capabilities: what the worker has, beside what its handlers add.
        tenant: whose jobs it takes; for a token of the role `admin`.
        vigil: whether a process beside it renews its leases while a handler blocks the event loop.
        stall_s: how long the event loop may be blocked before the leases are given up.
        lost_slots: with so many slots lost to handlers that did not stop it takes no more jobs, and ends.

    Raises:
        ConfigurationError: no URL or no token is known.
    """

    def __init__(
        self,
        handlers: Handlers | None = None,
        *,
        connectors: Sequence[Connector | str | Mapping[str, Any]] = (),
        name: str | None = None,
        url: str | None = None,
        token: str | None = None,
        data_dir: Path | str | None = None,
        slots: int = SLOTS,
        lease_s: float = LEASE_S,
        poll_s: float = POLL_S,
        drain_s: float = DRAIN_S,
        capabilities: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        lost_slots: int = 1,
        vigil: bool = True,
        stall_s: float = STALL_S,
    ) -> None:
        self.handlers = Handlers()
        for handler in handlers or ():
            self.handlers.add(handler)
        self.name = name or _name()
        self._connection = find(url, token, data_dir)
        self._slots = slots
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._drain_s = drain_s
        self._capabilities = dict(capabilities or {})
        self._tenant = tenant
        self._wanted = list(connectors)
        self._transport: Transport
        self._running: set[Lease] = set()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._lost = 0
        self._lost_slots = lost_slots
        self._with_vigil = vigil
        self._stall_s = stall_s
        self._vigil: Vigil | None = None
        self._is_own = False
        self._stuck = ""

    def kind(
        self,
        kind: str,
        *,
        slots: int | None = None,
        capabilities: dict[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[[], Any] | None = None,
    ) -> Callable[[Function], Function]:
        """Make a function the handler of a kind.

        Args:
            kind: that of the jobs.
            slots: how many of its attempts run at once, beside those of other kinds.
            capabilities: what it adds to the worker's.
            setup: called once, before the first attempt.
            teardown: called once, when the worker ends.

        Raises:
            HandlersError: the kind has a handler already, or the function cannot be one.
        """
        return self.handlers.kind(
            kind, slots=slots, capabilities=capabilities, setup=setup, teardown=teardown
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then drain; a second signal gives all jobs back at once.

        What handlers leave behind, such as a thread that does not end, does not keep the process from ending,
        nor does one that blocks the event loop: 10 s after `drain_s` it ends as it stands.

        Raises:
            StuckError: as `serve`.
        """
        status = 1
        try:
            runner.run(self._run(), asyncio.new_event_loop)
            status = 0
        finally:
            runner.end_at_exit(status)

    async def _run(self) -> None:
        deadline = Deadline(self._drain_s + FORCED_S, _end)
        try:
            self._is_own = True
            with self._signals(deadline), kept():
                await self.serve()
        finally:
            deadline.lift()

    def stop(self) -> None:
        """Claim nothing more; attempts under way have `drain_s` to end. Called on the event loop."""
        self._stopping.set()
        self._hurry.set()

    async def serve(self) -> None:
        """Work until `stop` is called, or an operator drains the worker, and all attempts have ended.

        Raises:
            HandlersError: there is no handler, or one that a process of its own would not find.
            ConnectorsError: a connector cannot be made.
            IncompleteError: what one needs is not installed.
            ApiError: the gateway refuses the claims.
            StuckError: handlers did not stop when they were asked to, and hold `lost_slots` slots.
        """
        install(asyncio.get_running_loop())
        with ours(), kept(undo=False) if not is_kept() else contextlib.nullcontext():
            await self._serve()
        if self._stuck:
            raise StuckError(self._stuck)

    async def _serve(self) -> None:
        runners = self._runners()
        open_desks = desks(self.name, runners, self._capabilities)
        self._transport = Transport(self._connection, timeout_s=TIMEOUT_S, retries=RETRIES)
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._drain())]
                if self._with_vigil:
                    self._vigil = self._new_vigil()
                    beside.append(group.create_task(self._vigil.run()))
                claiming = [
                    group.create_task(self._work(desk, kinds))
                    for desk in open_desks
                    for kinds, count in desk.groups(self._slots)
                    for _ in range(count)
                ]
                await asyncio.wait(claiming)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            await asyncio.gather(*(runner.close() for runner in runners))
            await self._transport.close()

    def _new_vigil(self) -> Vigil:
        return Vigil(
            self._connection, worker=self.name, lease_s=self._lease_s, stall_s=self._stall_s,
            with_faulthandler=self._is_own,
        )  # fmt: skip

    def _runners(self) -> list[Runner]:
        """What runs the handlers and the connectors."""
        if not self.handlers and not self._wanted:
            raise HandlersError(f"worker {self.name}: no kind is registered")
        handlers = [runner_of(handler, self._slots) for handler in self.handlers]
        connectors = [connector_of(wanted, self._slots) for wanted in self._wanted]
        ids = [handler.kind for handler in self.handlers] + [connector.id for connector in connectors]
        for each in connectors:
            if ids.count(each.id) > 1 or each.kind in (handler.kind for handler in self.handlers):
                raise HandlersError(f"worker {self.name}: {each.id!r} is there twice")
        return [*handlers, *connectors]

    async def _drain(self) -> None:
        await self._hurry.wait()
        await asyncio.sleep(self._drain_s)
        self._give_back()

    def _give_back(self) -> None:
        for lease in list(self._running):
            lease.interrupt(Why.DRAIN)

    async def _work(self, desk: Desk, kinds: list[str]) -> None:
        """One slot: claim, run, again."""
        slots = sum(count for _, count in desk.groups(self._slots))
        wish: dict[str, Any] = {
            "worker": desk.name, "kinds": kinds, "slots": slots,
            "lease_s": self._lease_s, "wait_s": self._poll_s,
        }  # fmt: skip
        if self._tenant is not None:
            wish["tenant"] = self._tenant
        while not self._stopping.is_set():
            claimed = await self._claim(desk, wish)
            if claimed is not None:
                await self._attempt(desk, claimed)

    async def _attempt(self, desk: Desk, claimed: dict[str, Any]) -> None:
        lease = Lease(self._transport, claimed, lease_s=self._lease_s, grace_s=GRACE_S, vigil=self._vigil)
        if self._stopping.is_set():
            lease.interrupt(Why.DRAIN)
        self._running.add(lease)
        try:
            await lease.run(desk.runners[lease.kind])
        finally:
            self._running.discard(lease)
        left, lease.left = lease.left, None  # which knows the lease
        if left is not None:
            await self._slot_lost(lease, left)

    async def _slot_lost(self, lease: Lease, left: StillRunning) -> None:
        """The handler runs beyond its attempt: wait for its end; with too many of them the worker ends."""
        self._lost += 1
        stuck = f"the handler of {lease.kind} did not stop for job {lease.facts.job_id}, and still runs"
        log.error("%s; lost slots: %d", stuck, self._lost)
        if self._lost >= self._lost_slots and not self._stopping.is_set():
            self._stuck = stuck
            self._stopping.set()
        ended = asyncio.Event()
        left.code.add_done_callback(lambda _: ended.set())
        await self._pause(ended.wait())
        if ended.is_set():
            self._lost -= 1
            log.warning("the handler of job %s has ended; dropped: %d", lease.facts.job_id, left.late())

    async def _claim(self, desk: Desk, wish: dict[str, Any]) -> dict[str, Any] | None:
        """One claim, sent again under its key until it is answered: a lease whose answer was lost is not."""
        said = await desk.said()
        body = body_json(wish | said.body)
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        limits = aiohttp.ClientTimeout(total=self._poll_s + TIMEOUT_S, sock_connect=CONNECT_S)
        pauses = self._transport.pauses()
        while True:
            try:
                async with self._transport.open(
                    "POST", "/v1/leases", body=io.BytesIO(body), headers=headers, timeout=limits
                ) as answer:
                    desk.heard(said, answer.headers.get(REVISION_HEADER, ""))
                    if answer.status == 204:
                        if answer.headers.get(STATE_HEADER) == "draining":
                            self.stop()
                        return None
                    claimed: dict[str, Any] = orjson.loads(await answer.read())
                    return claimed
            except (ApiError, *LOST) as error:
                if isinstance(error, ApiError) and error.status not in AGAIN:
                    if not desk.must_say_again(said, error):
                        raise
                    return None
                if self._stopping.is_set():
                    return None
                failed: Exception = error
            log.warning("the gateway at %s gives no job: %s", self._connection.url, failed)
            if not pauses.another(failed):
                pauses.reset()
            await self._pause(pauses.wait(failed))

    async def _pause(self, pause: Any) -> None:
        """Wait, though not beyond a stop."""
        waiting = asyncio.ensure_future(pause)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, stopping):
            task.cancel()

    @contextlib.contextmanager
    def _signals(self, deadline: Deadline) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def at_once(*_: object) -> None:
            deadline.set()

        def on_signal() -> None:
            if self._stopping.is_set():
                self._give_back()
            self.stop()

        taken = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
                loop.add_signal_handler(number, on_signal)
                taken.append(number)
                signal.signal(number, at_once)  # the loop hears of it too, unless a handler blocks it
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)


def _end() -> None:
    log.error("the worker was asked to end, and did not in time; its jobs go to others when their leases end")
    os._exit(1)


def _name() -> str:
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-")[:48]
    return f"{host or 'worker'}-{secrets.token_hex(3)}"


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failures.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
