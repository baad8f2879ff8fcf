"""Tasks that servers carry on by themselves: kept while the server is well, ended when it is not.

The callback of a server ends its task at any gateway. Until then any pusher that sees the server well
prolongs the lease at half of its time; the time of the attempt decides if no callback ever comes. A server
that is found dead, or is gone from the registry, loses its tasks at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Final

import aiohttp
import structlog
from nats.aio.client import Client

from switchyard.events.commands import ConfirmCancel
from switchyard.events.errors import InvalidError, SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId, WorkerId
from switchyard.services import clock
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.broker.bucket import Bucket, Entry, Key, Mirror
from switchyard.services.concurrency import each
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import BACKENDS, Left, Noted, noted_of
from switchyard.services.dispatch.renewal import Interruption
from switchyard.services.pusher.profiles.polling import Polling
from switchyard.services.pusher.profiles.protocol import Ref
from switchyard.services.pusher.profiles.registry import profile_of
from switchyard.services.pusher.profiles.stopping import stop
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.naming import BACKEND_KIND, server_of
from switchyard.services.records.servers.store import Found, Servers
from switchyard.services.settings import Settings

log = structlog.get_logger()

TICK_S: Final = 0.5
AT_ONCE: Final = 32
AGAIN_S: Final = 2.0
AT_A_TIME: Final = 1000
OTHERS: Final = 4
"""How much more seldom a server is asked by a pusher that has not left an attempt there."""


class Watching:
    """Looks after them, beside other pushers.

    Args:
        nc: an open connection.
        servers: the registry, followed by somebody.
        delegations: what is done with such attempts.
        credentials: opens those of servers.
        polling: asks servers that do not call back.
        settings: the times.
        me: this pusher, as what it leaves to servers names it.
    """

    def __init__(
        self,
        nc: Client,
        servers: Servers,
        delegations: Delegations,
        credentials: ServerCredentials,
        polling: Polling,
        settings: Settings,
        me: WorkerId,
    ) -> None:
        self._servers = servers
        self._delegations = delegations
        self._credentials = credentials
        self._polling = polling
        self._me = me
        self._settings = settings
        self._due_s: dict[Key, float] = {}
        self._loop = asyncio.get_running_loop()
        self.session: aiohttp.ClientSession
        bucket = Bucket(nc, BACKENDS, timeout_s=settings.request_timeout_s)
        self._known: Mirror[Left] = Mirror(bucket, BACKEND_KIND, on_change=self._changed)
        self._running: Counter[Key] = Counter()
        self._of: dict[Key, Key] = {}

    # --- What is known

    async def load(self) -> None:
        """Learn what servers carry on.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._known.load()

    def running(self) -> Mapping[Key, int]:
        """How many tasks each server carries on."""
        return self._running

    def _changed(self, entry: Entry[Left]) -> None:
        key = entry.key
        if (was := self._of.pop(key, None)) is not None:
            self._running[was] -= 1
            if self._running[was] <= 0:
                del self._running[was]
        if entry.value is None:
            self._due_s.pop(key, None)
            return
        server = server_of(entry.value.worker)
        if server is not None:
            self._of[key] = server
            self._running[server] += 1
        again_s = self._again_s(key, noted_of(entry))
        self._due_s[key] = self._loop.time() + again_s * random.uniform(1.02, 1.2)  # noqa: S311

    def _again_s(self, key: Key, noted: Noted) -> float:
        """When to look next: at half of the lease, or sooner where the server is to be asked.

        Pushers that have not left it there ask seldom, for that one may be gone.
        """
        half_s = noted.claims.lease_s / 2
        place = self._of.get(key)
        found = None if place is None else self._servers.find(*place)
        polls_s = None if found is None else _polls_s(_ref(found, noted))
        if polls_s is None:
            return half_s
        return min(half_s, polls_s if noted.watcher == self._me else OTHERS * polls_s)

    # --- Looks

    async def run(self) -> None:
        """Look at each when its time has come, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._known.run())
            while True:
                await asyncio.sleep(TICK_S * random.uniform(0.5, 1.5))  # noqa: S311
                due = self._due()
                if due:
                    await each(self._look, due, at_once=AT_ONCE)

    def cancel_requested(self, job: JobId) -> None:
        """A job is to stop: look at once, if a server has it."""
        for key in self._known.entries:
            if key[2] == job:
                self._due_s[key] = 0.0

    def _due(self) -> list[Key]:
        now_s = self._loop.time()
        dead = {server for server in self._running if self._is_dead(self._servers.find(*server))}
        due = [key for key, due_s in self._due_s.items() if due_s <= now_s or self._of.get(key) in dead]
        return due[:AT_A_TIME]

    def _is_dead(self, found: Found | None) -> bool:
        """Whether nothing more will come of a server, as far as is known."""
        if found is None:
            return True
        stale_s = self._settings.server_stale_s
        return condition.is_dead(found.server, found.state, clock.now(), stale_s)

    async def _look(self, key: Key) -> None:
        entry = self._known.entries.get(key)
        if entry is None or entry.value is None:
            self._due_s.pop(key, None)
            return
        noted = noted_of(entry)
        self._due_s[key] = self._loop.time() + self._again_s(key, noted) * random.uniform(0.9, 1.0)  # noqa: S311
        try:
            await self._judge(key, noted)
        except UnavailableError as error:
            log.warning("server_task_not_looked_at", job=noted.claims.job, error=str(error))
            self._due_s[key] = self._loop.time() + AGAIN_S
        except SwitchyardError as error:
            log.warning("server_task_not_looked_at", job=noted.claims.job, error=str(error))

    async def _judge(self, key: Key, noted: Noted) -> None:
        job = await self._delegations.current(noted)
        if job is None:  # it has ended, or is about to be left there
            return
        claims = noted.claims
        place = self._of.get(key)
        found = None if place is None else self._servers.find(*place)
        if self._is_dead(found):
            _, recorded = await self._delegations.end(claims, job, self._delegations.lost(claims))
            if recorded:
                log.info("server_task_lost", job=job.id, fence=claims.fence, worker=claims.worker)
            return
        job, why = await self._delegations.look(claims, job, seen=self._is_well(found))
        if why is Interruption.CANCEL:
            await self._stop(noted, job, found)
            command = ConfirmCancel(now=clock.now(), fence=claims.fence)
            await self._delegations.end(claims, job, command)
        elif why is None and found is not None:
            await self._poll(_ref(found, noted, job), noted, job)

    def _is_well(self, found: Found | None) -> bool:
        """Whether the server was seen to live; what nobody checks counts as alive until it is found dead."""
        if found is None:
            return False
        stale_s = self._settings.server_stale_s
        state = found.state
        return (
            state is None or state.heartbeat_at is None or not condition.is_stale(state, clock.now(), stale_s)
        )

    async def _stop(self, noted: Noted, job: Job, found: Found | None) -> None:
        """Ask the server to stop, where it knows of that; if it does not, its callback comes too late."""
        if found is None:
            return
        try:
            headers = self._credentials.open(found.server)
        except UnreadableError:
            return
        await stop(self.session, _ref(found, noted, job), headers)

    async def _poll(self, ref: Ref, noted: Noted, job: Job) -> None:
        """Ask the server how it stands, where it does not say so itself."""
        if _polls_s(ref) is None:
            return
        try:
            headers = self._credentials.open(ref.server)
        except UnreadableError:
            return
        self._polling.session = self.session
        await self._polling.ask(ref, noted.claims, job, headers)


def _ref(found: Found, noted: Noted, job: Job | None = None) -> Ref:
    """An attempt as profiles know it; the job says what the server calls it."""
    lease = None if job is None else job.lease
    remote_id = "" if lease is None or lease.backend is None else lease.backend.remote_id
    kind = "" if job is None else job.kind
    return Ref(found.server, noted.claims.job, noted.claims.fence, remote_id, kind)


def _polls_s(ref: Ref) -> float | None:
    try:
        return profile_of(ref.server).polls(ref)
    except (InvalidError, KeyError):
        return None  # of another version
