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
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from switchyard._client.connection import find
from switchyard._client.transport import Transport
from switchyard._vigil.vigil import STALL_S, Vigil, every_s
from switchyard._worker import runner
from switchyard._worker.contained import StillRunning, install, ours
from switchyard._worker.deadline import Deadline
from switchyard._worker.handler_errors import StuckError
from switchyard._worker.lease import Lease, Why
from switchyard._worker.process_state import is_kept, kept
from switchyard._worker.rest.attaching import Attaching
from switchyard._worker.rest.claims import TIMEOUT_S, Claims
from switchyard._worker.rest.desk import Desk, declared_first, desks
from switchyard._worker.rest.runners import Runner, connector_of, runner_of
from switchyard._worker.rest.tenants import served
from switchyard.connectors import Connector
from switchyard.handlers import Function, Handlers, HandlersError

__all__ = ["StuckError", "Worker"]

log = logging.getLogger("switchyard.worker")

LEASE_S: Final = 30.0
POLL_S: Final = 10.0
DRAIN_S: Final = 30.0
GRACE_S: Final = 5.0
SLOTS: Final = 4
FORCED_S: Final = 9.5  # after `drain_s` the process ends as it stands
RETRIES: Final = 8


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
        tenants: the same for several tenants.
        exclude_tenants: whose jobs it never takes.
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
        tenants: Sequence[str] = (),
        exclude_tenants: Sequence[str] = (),
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
        self._served = served(tenant, tenants, exclude_tenants)
        self._wanted = list(connectors)
        self._transport: Transport
        self._claims: Claims
        self._attaching: Attaching
        self._running: set[Lease] = set()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._patient = False
        self._lost = 0
        self._lost_slots = lost_slots
        self._with_vigil = vigil
        self._stall_s = stall_s
        self._vigil: Vigil | None = None
        self._desks: list[Desk] = []
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
        self._patient = False
        self._stopping.set()
        self._hurry.set()

    def _retire(self) -> None:
        """Claim nothing more; attempts under way, and one that a claim may still bring, run to their end."""
        self._patient = True
        self._stopping.set()

    def declare(self, capabilities: Mapping[str, Any]) -> None:
        """Change what the worker has, beside what its handlers add; it holds from the next claim on.

        What the gateway refuses is dropped again, and said in the log.
        """
        self._capabilities = dict(capabilities)
        for desk in self._desks:
            desk.declare(self._capabilities)

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
        self._desks = desks(self.name, runners, self._capabilities, self._combine)
        self._transport = Transport(self._connection, timeout_s=TIMEOUT_S, retries=RETRIES)
        claims = self._claims = Claims(
            self._transport, self._connection, poll_s=self._poll_s, stopping=self._stopping, drained=self.stop
        )
        attaching = self._attaching = Attaching(
            self._transport, self._desks, wish=self._wish, watch=self._attempt, stopping=self._stopping,
            drained=self.stop, every_s=every_s(self._lease_s),
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(work) for work in (self._drain(), self._beside())]
                if self._with_vigil:
                    self._vigil = self._new_vigil()
                    beside.append(group.create_task(self._vigil.run()))
                await claims.pause(attaching.look(group))
                looking = group.create_task(attaching.run(group))
                claiming = [
                    group.create_task(self._work(desk, kinds, count - place))
                    for desk in self._desks
                    for kinds, count in desk.groups(self._slots)
                    for place in range(count)
                ]
                await asyncio.wait(claiming)
                looking.cancel()
                await attaching.ended()
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            await asyncio.gather(*(runner.close() for runner in runners))
            await self._transport.close()

    async def _beside(self) -> None:
        """What else it does, until cancelled."""

    def _combine(self, found: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker says that it has, of what its handlers add and what was given."""
        return declared_first(found, declared)

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

    def _wish(self, desk: Desk, kinds: list[str]) -> dict[str, Any]:
        slots = sum(count for _, count in desk.groups(self._slots))
        return {
            "worker": desk.name, "kinds": kinds, "slots": slots, "lease_s": self._lease_s, **self._served,
        }  # fmt: skip

    async def _work(self, desk: Desk, kinds: list[str], place: int) -> None:
        """One slot: claim, run, again; one of so many, while fewer attempts of back ends were found."""
        wish = {**self._wish(desk, kinds), "wait_s": self._poll_s}
        while not self._stopping.is_set():
            await self._claims.pause(self._attaching.room(desk, kinds, place))
            if self._stopping.is_set():
                return
            claimed = await self._claims.claim(desk, wish)
            if claimed is not None:
                # What was found while the claim waited may have taken its place.
                await self._attempt(desk, claimed, starts=not self._attaching.is_full(desk, kinds, place))

    async def _attempt(self, desk: Desk, claimed: dict[str, Any], *, starts: bool = True) -> None:
        lease = Lease(self._transport, claimed, lease_s=self._lease_s, grace_s=GRACE_S, vigil=self._vigil)
        if self._stopping.is_set() and not self._patient:
            lease.interrupt(Why.DRAIN)
        elif not starts:
            lease.interrupt(Why.FULL)
        self._running.add(lease)
        try:
            with self._attaching.under_way(lease.fence):
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
        await self._claims.pause(ended.wait())
        if ended.is_set():
            self._lost -= 1
            log.warning("the handler of job %s has ended; dropped: %d", lease.facts.job_id, left.late())

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
