"""Workers and queues as they are watched: the fields of `GET /v1/workers` and `GET /v1/queues`.

What changes with every moment is left out: the time of a worker's last heartbeat, and for how many seconds
the oldest job of a queue has waited. So is what each connector runs, which is a heartbeat older than what its
worker runs: the two would contradict each other, and each change would come twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import nats.errors
from aiohttp import web
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services.access.principal import ANYBODY, Principal
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.gateway.app_keys import FLEET, NATS, READ_MODEL, SETTINGS, WORKERS
from switchyard.services.gateway.doors.v1.answers.operation import worker_answer
from switchyard.services.gateway.doors.v1.live.watched_batches import WatchedBatches
from switchyard.services.gateway.live.watch.board import Boards
from switchyard.services.gateway.live.watch.source import Thing, scope_of
from switchyard.services.gateway.operations.fleet import Fleet
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.tenancy import is_seen
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord

CHECK_S: Final = 5.0
"""Between looks for what nobody has reported: a message that was lost, or a read model that was rebuilt."""
UNWATCHED: Final = frozenset({"at", "oldest_waiting_s"})


class Commits:
    """Hears of every batch of events that the projector of this host has committed.

    Args:
        nc: an open connection.
        read_model: that of this host.
    """

    def __init__(self, nc: Client, read_model: ReadModel) -> None:
        self._nc = nc
        self._read_model = read_model

    async def run(self, changed: Callable[[], None]) -> None:
        """Report each, and look by oneself every now and then, until cancelled."""
        heard, followed = None, ""
        try:
            while True:
                with contextlib.suppress(UnavailableError, nats.errors.Error):
                    database_id = self._read_model.checkpoint().database_id
                    if database_id != followed:
                        if heard is not None:
                            await unlisten(self._nc, heard)
                        heard = await listen(
                            self._nc, subjects.projected(database_id), lambda _message: changed()
                        )
                        followed = database_id
                changed()
                await asyncio.sleep(CHECK_S)
        finally:
            if heard is not None:
                with contextlib.suppress(nats.errors.Error):
                    await unlisten(self._nc, heard)


class WatchedWorkers:
    """The live workers, with what the log says of their attempts.

    Args:
        watch: the live workers.
        fleet: what the log says.
        commits: when that changes.
        timeout_s: seconds to wait for the first word of the broker.
    """

    name = "workers"
    filters = frozenset({"ids", "kinds", "labels"})

    def __init__(self, watch: WorkerWatch, fleet: Fleet, commits: Commits, *, timeout_s: float) -> None:
        self._watch = watch
        self._fleet = fleet
        self._commits = commits
        self._timeout_s = timeout_s
        self._known: dict[
            tuple[str, str | None], tuple[WorkerRecord, Mapping[str, Any], list[Fetch], Thing]
        ] = {}

    def scope(self, principal: Principal, tenant: str | None) -> str | None:
        """A tenant's own workers and those that work for all; every one for an operator.

        Raises:
            ForbiddenError: another tenant is named by none.
        """
        return scope_of(principal, tenant, None if principal.sees(ANYBODY) else principal.tenant)

    async def run(self, changed: Callable[[], None]) -> None:
        """Report that a worker has come, changed or gone, or that attempts have begun or ended."""
        heard = (self._watch.listeners, self._fleet.models.listeners)
        for listeners in heard:
            listeners.add(changed)
        try:
            await self._commits.run(changed)
        finally:
            for listeners in heard:
                listeners.discard(changed)
            self._known.clear()

    async def things(self, scope: str | None) -> Mapping[str, Thing]:
        """The workers that are seen in a scope.

        Raises:
            UnavailableError: the broker has not said yet who is there.
        """
        await synced(self._watch, self._timeout_s)
        records = self._watch.records()
        there = {record.id for record in records}
        for gone in [key for key in self._known if key[0] not in there]:
            del self._known[gone]

        def sees(tenant: str | None) -> bool:
            return scope is None or tenant in (None, scope)

        return {record.id: self._thing(record, scope, sees) for record in records if is_seen(record, sees)}

    def _thing(self, record: WorkerRecord, scope: str | None, sees: Callable[[str | None], bool]) -> Thing:
        # Whom a worker serves or excludes is shown to each as far as it may know; the rest is alike for all.
        key = record.id, scope if record.tenants or record.excluded else None
        tallies, fetching = self._fleet.tallies(record.id), self._fleet.fetching(record.id, sees)
        known = self._known.get(key)
        if known is not None and known[0] is record and known[1:3] == (tallies, fetching):
            return known[3]
        answer = worker_answer(record, tallies, sees=sees, with_capabilities=False, fetching=fetching)
        shown = msgspec.structs.asdict(answer)
        if record.connectors:
            shown["connectors"] = [
                {"id": one.id, "kind": one.kind, "slots": one.slots} for one in shown["connectors"]
            ]
        thing = Thing(record.id, _body(shown), kinds=record.kinds, labels=record.capabilities)
        self._known[key] = record, tallies, fetching, thing
        return thing


class WatchedQueues:
    """The queues that hold jobs which have not ended.

    Args:
        watch: the live workers, who may serve them.
        fleet: what waits and runs.
        commits: when that changes.
        timeout_s: seconds to wait for the first word of the broker.
    """

    name = "queues"
    filters = frozenset({"ids", "kinds", "priorities"})

    def __init__(self, watch: WorkerWatch, fleet: Fleet, commits: Commits, *, timeout_s: float) -> None:
        self._watch = watch
        self._fleet = fleet
        self._commits = commits
        self._timeout_s = timeout_s

    def scope(self, principal: Principal, tenant: str | None) -> str | None:
        """What waits for a tenant: the reader's own, or for an operator the one that it names, or all.

        Raises:
            ForbiddenError: another tenant is named by none.
        """
        return scope_of(principal, tenant, principal.tenant)

    async def run(self, changed: Callable[[], None]) -> None:
        """Report that a job, or a worker that could serve it, has changed."""
        self._watch.listeners.add(changed)
        try:
            await self._commits.run(changed)
        finally:
            self._watch.listeners.discard(changed)

    async def things(self, scope: str | None) -> Mapping[str, Thing]:
        """The queues with jobs of a tenant, or of all.

        Raises:
            UnavailableError: there is no read model, or the broker has not said yet who works.
        """
        await synced(self._watch, self._timeout_s)
        found = {}
        for queue in self._fleet.queues_now(scope):
            name = f"{queue['lane']}:{queue['priority']}"
            body = _body({"id": name, **queue})
            found[name] = Thing(name, body, kinds=(queue["kind"],), priority=queue["priority"])
        return found


async def synced(watch: WorkerWatch, timeout_s: float) -> None:
    """Wait until it is known who works: a part of them would look as if the others had gone.

    Raises:
        UnavailableError: the broker does not say.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await watch.synced.wait()
    except TimeoutError:
        raise UnavailableError("the broker does not say who works") from None


def boards_of(app: web.Application) -> Boards:
    """All that can be watched at a gateway."""
    settings, watch, fleet = app[SETTINGS], app[WORKERS], app[FLEET]
    commits, timeout_s = Commits(app[NATS], app[READ_MODEL]), settings.request_timeout_s
    return Boards(
        [
            WatchedWorkers(watch, fleet, commits, timeout_s=timeout_s),
            WatchedQueues(watch, fleet, commits, timeout_s=timeout_s),
            WatchedBatches(app[NATS], timeout_s=timeout_s),
        ],
        settings,
    )


def _body(fields: Mapping[str, Any]) -> bytes:
    shown = {
        name: value for name, value in fields.items() if value is not msgspec.UNSET and name not in UNWATCHED
    }
    return msgspec.json.encode(shown)
