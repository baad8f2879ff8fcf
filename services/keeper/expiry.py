"""Lost workers: when a heartbeat expires, the leases it named are taken back."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from nats.aio.client import Client

from switchyard.events.commands import LoseLease
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.reachability import Reachability
from switchyard.services.dispatch.blame import has_one_slot, is_alone
from switchyard.services.event_store import EventStore
from switchyard.services.keeper.timers import ACTOR
from switchyard.services.records import workers
from switchyard.services.records.served_kinds import ServedKinds
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Expiry:
    """Follows the bucket `workers`.

    Args:
        nc: an open connection.
        read_model: names leases younger than the last heartbeat, where there is one.
    """

    def __init__(
        self, nc: Client, store: EventStore, settings: Settings, read_model: ReadModel | None = None
    ) -> None:
        self._nc = nc
        self._beats = Bucket(nc, workers.HEARTBEATS, timeout_s=settings.request_timeout_s)
        self._store = store
        self._settings = settings
        self._read_model = read_model
        self._reach = Reachability(settings.lease_s)
        self._fences: dict[str, dict[int, str]] = {}
        self.kinds = ServedKinds()
        self._expiring: set[str] = set()

    def alive(self) -> frozenset[str]:
        """The workers whose heartbeat is there."""
        return frozenset(self._fences)

    async def run(self) -> None:
        """Follow heartbeats and take leases back, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prove_reach())
            group.create_task(self._follow_declarations())
            async for entry in follow(self._beats, unreadable=True):
                heartbeat, (worker,) = entry.value, entry.key
                if heartbeat is not None:
                    self._fences[worker] = heartbeat.fences
                    if heartbeat.is_whole:
                        self.kinds.learn(worker, heartbeat)
                    continue
                self.kinds.learn(worker, None)
                fences = self._fences.pop(worker, {})
                # What cannot be read does not say that a lease has gone by, as an expiry does.
                after_s = self._settings.lease_s if entry.is_unreadable else 0.0
                self.expire(group, worker, fences, after_s=after_s)

    async def _follow_declarations(self) -> None:
        """Learn which kinds are served; a declaration goes with its worker, or some leases later."""
        bucket = Bucket(self._nc, workers.DECLARATIONS, timeout_s=self._settings.request_timeout_s)
        async for entry in follow(bucket, unreadable=True):
            self.kinds.learn(entry.key[0], entry.value)

    def expire(
        self, group: asyncio.TaskGroup, worker: str, fences: dict[int, str], *, after_s: float = 0.0
    ) -> None:
        """Begin to take back the leases of a worker whose heartbeat is gone."""
        if worker not in self._expiring:
            self._expiring.add(worker)
            group.create_task(self._take_back(worker, fences, after_s))

    async def _take_back(self, worker: str, fences: dict[int, str], after_s: float) -> None:
        """Take the leases back after a whole lease without heartbeat in which the broker could be reached."""
        try:
            await asyncio.sleep(after_s)
            while (missing := self._settings.lease_s - self._reach.seconds()) > 0:  # noqa: ASYNC110 - waits for time
                await asyncio.sleep(missing)
            while not await self._is_gone(worker):
                if worker in self._fences:
                    return
                await asyncio.sleep(self._settings.heartbeat_s)
            running = {}
            if self._read_model is not None:
                with contextlib.suppress(UnavailableError):  # the sweep takes back what only it knows
                    running = {fence: job_id for job_id, fence in self._read_model.running_on(worker)}
            lost = fences | running
            timeout_s = self._settings.request_timeout_s
            is_single = False
            with contextlib.suppress(UnavailableError):  # then nobody is blamed
                is_single = bool(lost) and await has_one_slot(self._nc, worker, timeout_s=timeout_s)
            for fence, job_id in lost.items():
                await self._lose(worker, job_id, fence, blamed=is_single or is_alone(fence, fences, running))
        finally:
            self._expiring.discard(worker)

    async def _is_gone(self, worker: str) -> bool:
        try:
            return (await self._beats.get(worker, leader=False)).value is None
        except UnavailableError:
            return False

    async def _lose(self, worker: str, job_id: str, fence: int, *, blamed: bool) -> None:
        while True:
            try:
                command = LoseLease(
                    now=clock.now(), fence=fence, blamed=blamed,
                    poison_after=self._settings.poison_losses, innocent_max=self._settings.innocent_losses,
                )  # fmt: skip
                _, event = await self._store.transition(job_id, command, actor=ACTOR)
            except SwitchyardError as error:
                log.warning("lease_not_taken_back", job=job_id, worker=worker, error=str(error))
                await asyncio.sleep(self._settings.heartbeat_s)
            else:
                if event is not None:
                    log.info("lease_lost", job=job_id, fence=fence, worker=worker, blamed=blamed)
                return

    async def _prove_reach(self) -> None:
        """Ask the leader of the bucket often enough to know that it could be reached all the time."""
        while True:
            try:
                await self._beats.info()
            except UnavailableError as error:
                log.warning("broker_out_of_reach", error=str(error))
            else:
                self._reach.proved()
            await asyncio.sleep(self._settings.lease_s / 6)
