"""Why a job waits, or ended as it did."""

from __future__ import annotations

from typing import Any, Final

from nats.aio.client import Client

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.concurrency import each
from switchyard.services.dispatch.models.prospects import Shelf
from switchyard.services.dispatch.push.standing import standing
from switchyard.services.dispatch.reasons.explain import explained
from switchyard.services.dispatch.reasons.verdicts import SHOWN_WORKERS, LimitUse, Situation
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.limits import TenantLimits
from switchyard.services.gateway.operations.servers.servers import PredictionServers
from switchyard.services.records import controls
from switchyard.services.records.lanes import demand_of
from switchyard.services.records.limits import Limit
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord

LOADED_AT_ONCE: Final = 16


class Reasons:
    """Explains jobs, from what the log, the live workers, the limits and the controls say now."""

    def __init__(
        self,
        nc: Client,
        jobs: Jobs,
        limits: TenantLimits,
        watch: WorkerWatch,
        servers: PredictionServers,
        shelf: Shelf,
    ) -> None:
        self._shelf = shelf
        self._servers = servers
        self._nc = nc
        self._jobs = jobs
        self._limits = limits
        self._watch = watch

    async def explain(self, caller: Caller, job: Job) -> dict[str, Any]:
        """As `explained` has it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return explained(job, await self._situation(caller, job))

    def _no_room(self, tenant: str) -> str | None:
        """Why a tenant may have no more jobs now."""
        try:
            self._jobs.submitter.check_room(tenant, 0)
        except (LimitError, UnavailableError) as error:
            return str(error)
        return None

    async def _situation(self, caller: Caller, job: Job) -> Situation:
        store = self._jobs.store
        if job.status is not Status.QUEUED or job.damage is not None:
            parents = job.waits_for if job.status is Status.BLOCKED and job.damage is None else ()
            loaded = await each(store.load, parents, at_once=LOADED_AT_ONCE)
            states: dict[str, str] = {one.id: one.shown_state for one in loaded}
            no_room = self._no_room(job.tenant) if Status.ABSENT.value in states.values() else None
            return Situation(LaneKey(job.kind), 0, (), parents=states, held=no_room)
        key = demand_of(await store.spec(job.id), job.lane)
        wishes = await controls.all_controls(self._nc, timeout_s=self._jobs.settings.request_timeout_s)
        room = self._jobs.shares.room
        await room.look(self._nc)
        paused = [what for what in (("lane", job.lane), ("kind", job.kind)) if what in wishes]
        servers = await self._standing(job.tenant, key.kind)
        workers = [one for one in self._watch.records() if caller.sees(one.tenant)]
        known = [(name, self._limits.known(name)) for name in key.limits]
        return Situation(
            key=key,
            ahead=self._jobs.read_model.place(job),
            workers=[*workers, *(record for record, _ in servers)],
            limits=[await self._use(name, limit) for name, limit in known if limit is not None],
            paused=[what for what, _ in paused],
            now=clock.now(),
            held=room.why_no_start,
            notes={record.id: why for record, why in servers if why},
            shelf=self._shelf,
        )

    async def _standing(self, tenant: str, kind: str) -> list[tuple[WorkerRecord, str]]:
        """The tenant's prediction servers for a kind, as far as they are shown."""
        now, stale_s = clock.now(), self._jobs.settings.server_stale_s
        found = [one for one in self._servers.registry.all(tenant) if kind in one.server.kinds]
        taken = await each(self._servers.running, found[:SHOWN_WORKERS], at_once=8)
        return [standing(one, now, stale_s, running or 0) for one, running in zip(found, taken, strict=False)]

    async def _use(self, key: str, limit: Limit) -> LimitUse:
        running, starts_left = await self._limits.use_of(key, limit)
        return LimitUse(key.partition(".")[2], limit.concurrency, running, limit.per_minute, starts_left)
