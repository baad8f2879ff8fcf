"""Why a job waits, or ended as it did."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.dispatch.explain import LimitUse, Situation, explained
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.limits import TenantLimits
from switchyard.services.records import controls
from switchyard.services.records.lanes import key_of
from switchyard.services.records.limits import Limit
from switchyard.services.records.worker_watch import WorkerWatch


class Reasons:
    """Explains jobs, from what the log, the live workers, the limits and the controls say now."""

    def __init__(self, nc: Client, jobs: Jobs, limits: TenantLimits, watch: WorkerWatch) -> None:
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

    async def _situation(self, caller: Caller, job: Job) -> Situation:
        store = self._jobs.store
        if job.status is not Status.QUEUED or job.damage is not None:
            parents = job.depends_on if job.status is Status.BLOCKED and job.damage is None else ()
            loaded = [await store.load(parent) for parent in parents]
            return Situation(LaneKey(job.kind), 0, (), parents={one.id: one.shown_state for one in loaded})
        key = key_of(await store.spec(job.id), job.lane)
        wishes = await controls.all_controls(self._nc, timeout_s=self._jobs.settings.request_timeout_s)
        room = self._jobs.shares.room
        await room.look(self._nc)
        paused = [what for what in (("lane", job.lane), ("kind", job.kind)) if what in wishes]
        known = [(name, self._limits.known(name)) for name in key.limits]
        return Situation(
            key=key,
            ahead=self._jobs.read_model.place(job),
            workers=[one for one in self._watch.records() if caller.sees(one.tenant)],
            limits=[await self._use(name, limit) for name, limit in known if limit is not None],
            paused=[what for what, _ in paused],
            now=clock.now(),
            held=room.why_no_start,
        )

    async def _use(self, key: str, limit: Limit) -> LimitUse:
        running, starts_left = await self._limits.use_of(key, limit)
        return LimitUse(key.partition(".")[2], limit.concurrency, running, limit.per_minute, starts_left)
