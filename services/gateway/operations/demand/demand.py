"""What waits, and who could run it: by this an autoscaler starts and ends machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from nats.aio.client import Client

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import matches
from switchyard.services.dispatch.models.prospects import Shelf, State, outlook
from switchyard.services.gateway.operations.fleet import Fleet, Queue
from switchyard.services.gateway.operations.limits import TenantLimits
from switchyard.services.records import controls
from switchyard.services.records.controls import Lane
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.settings import Settings


class Demand:
    """Adds up the queues by what their jobs need.

    Args:
        nc: an open connection.
        fleet: the queues, and who fits them.
        limits: those of tenants.
        settings: timeouts.
        watch: the live workers, some of which may fetch what they lack.
        shelf: what is known of model files.
    """

    def __init__(
        self,
        nc: Client,
        fleet: Fleet,
        limits: TenantLimits,
        settings: Settings,
        watch: WorkerWatch,
        shelf: Shelf,
    ) -> None:
        self._nc = nc
        self._watch = watch
        self._shelf = shelf
        self._fleet = fleet
        self._limits = limits
        self._settings = settings

    async def of(
        self, tenant: str | None, *, kind: str | None, capabilities: Mapping[str, Any] | None, min_seq: int
    ) -> tuple[dict[str, Any], int]:
        """The demand of a tenant, or of all, and the sequence that this is as of.

        Args:
            tenant: whose jobs; None for those of all.
            kind: that of the jobs; None for all.
            capabilities: what a worker would declare: what it could not run is left out.
            min_seq: as of which it is at least.

        Raises:
            UnavailableError: the read model lags too far behind, or the broker does not answer.
        """
        queues, seq = await self._fleet.keyed(tenant, min_seq=min_seq)
        wanted = [
            queue
            for queue in queues
            if kind in (None, queue.key.kind)
            and (capabilities is None or matches(queue.key.requires, capabilities))
        ]
        paused = await controls.all_controls(self._nc, timeout_s=self._settings.request_timeout_s)
        full = {name for queue in wanted for name in queue.key.limits if await self._is_full(name)}
        found = _added(wanted, paused, full)
        for group in found["demand"]:
            group.update(self._fetched(group.pop("key"), tenant, group["fitting_workers"]))
        return found, seq

    def _fetched(self, key: LaneKey, tenant: str | None, fitting: int) -> dict[str, Any]:
        """How many workers would fit, or will, once they have fetched models; the least that it takes."""
        nothing: dict[str, Any] = {"fetchable_workers": 0, "fetch_bytes": None, "fetching": []}
        if fitting:
            return nothing
        workers = [
            record
            for record in self._watch.records()
            if record.state == "running" and key.kind in record.kinds and record.admitted(key)
            and (tenant is None or record.runs_for(tenant))
        ]  # fmt: skip
        # An operator asks for all tenants: a file that is for some of them is not counted then.
        found = [outlook(record, key, self._shelf, (tenant or "",)) for record in workers]
        near = [one for one in found if one is not None and one.is_near]
        going = [one.fetch for one in near if one.state is State.FETCHING and one.fetch is not None]
        return nothing | {
            "fetchable_workers": len(near),
            "fetch_bytes": min((one.size_bytes for one in near), default=None),
            "fetching": [fetch_shown(fetch) for fetch in going],
        }

    async def _is_full(self, name: str) -> bool:
        limit = self._limits.known(name)
        if limit is None:
            return False
        running, starts_left = await self._limits.use_of(name, limit)
        return not starts_left or (limit.concurrency is not None and running >= limit.concurrency)


def fetch_shown(fetch: Fetch) -> dict[str, Any]:
    """A model file on its way to a worker, as answers show it."""
    return {
        "model": "/".join(fetch.key), "worker": fetch.worker, "connector": fetch.instance,
        "done_bytes": fetch.done_bytes, "size_bytes": fetch.size_bytes, "left_s": fetch.left_s,
    }  # fmt: skip


def _added(queues: Iterable[Queue], paused: Mapping[tuple[str, str], Any], full: set[str]) -> dict[str, Any]:
    """The queues by kind, requirement and isolation, the most wanted first, and their sums."""
    groups: dict[bytes, list[Queue]] = defaultdict(list)
    for queue in queues:
        said = queue.key.kind, queue.key.requires, queue.key.isolation, queue.key.tenant
        groups[msgspec.json.encode(said, order="sorted")].append(queue)
    every = [_group(members, paused, full) for _, members in sorted(groups.items())]
    every = [each for each in every if each["waiting"] or each["running"]]
    every.sort(key=lambda each: (-each["missing_slots"], -each["waiting"]))
    ages = [each["oldest_waiting_s"] for each in every if each["oldest_waiting_s"] is not None]
    sums = {
        name: sum(each[name] for each in every) for name in ("waiting", "held", "running", "missing_slots")
    }
    unserved = sum(each["waiting"] - each["held"] for each in every if not each["fitting_workers"])
    return {**sums, "unserved": unserved, "oldest_waiting_s": max(ages, default=None), "demand": every}


def _group(members: list[Queue], paused: Mapping[tuple[str, str], Any], full: set[str]) -> dict[str, Any]:
    first = members[0]
    waiting = sum(queue.shown["waiting"] for queue in members)
    held = sum(queue.shown["waiting"] for queue in members if _is_held(queue, paused, full))
    ages = [age for queue in members if (age := queue.shown["oldest_waiting_s"]) is not None]
    free = first.shown["free_slots"]
    return {
        "key": first.key,
        "kind": first.key.kind,
        "requires": first.key.requires,
        "isolation": first.key.isolation,
        "waiting": waiting,
        "held": held,
        "running": sum(queue.shown["running"] for queue in members),
        "oldest_waiting_s": max(ages, default=None),
        "fitting_workers": first.shown["fitting_workers"],
        "fitting_slots": first.shown["fitting_slots"],
        "free_slots": free,
        "missing_slots": max(0, waiting - held - free),
    }


def _is_held(queue: Queue, paused: Mapping[tuple[str, str], Any], full: set[str]) -> bool:
    """Whether more workers would not let the queue's jobs start."""
    key: LaneKey = queue.key
    return controls.is_paused(Lane(queue.shown["lane"], key.kind), paused) or not full.isdisjoint(key.limits)
