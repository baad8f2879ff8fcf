"""Who works: the bucket `workers`, one record per live worker, kept alive by heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from events import subjects
from events.errors import SwitchyardError
from events.lane import LOOSE, LaneKey, admits
from events.matching import matches, score
from services.publisher import Publisher
from services.reachability import Reachability

log = structlog.get_logger()

STREAM = f"KV_{subjects.BUCKET_WORKERS}"
ALL = f"$KV.{subjects.BUCKET_WORKERS}.>"
SHARED_RANK = 5
MIN_TTL_MS = 1000  # the broker's own minimum
REST = "rest"


class WorkerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says of itself with every heartbeat.

    Args:
        id: unique to this run of the process, so a restarted worker is another one.
        kinds: kinds that it runs.
        capabilities: what its connectors and its operator declare.
        revision: raised with every change of the capabilities.
        state: running, paused or draining.
        fences: job id by fence of each lease that it holds.
        lease_s: seconds after which it is taken for dead.
        at: when it said so.
        tenant: whom it is dedicated to; None when it works for all.
        door: `rest` for one that claims timed leases over REST; "" for one on NATS.
        until: by fence, when each timed lease ends.
    """

    id: str
    kinds: tuple[str, ...]
    capabilities: dict[str, Any]
    revision: int
    version: str
    host: str
    slots: int
    state: str
    fences: dict[int, str]
    lease_s: float
    started_at: datetime
    at: datetime
    tenant: str | None = None
    door: str = ""
    until: dict[int, datetime] = {}

    def fits(self, key: LaneKey) -> bool:
        """Whether it may run the jobs of a lane; over REST, those of its own tenant among them."""
        return key.kind in self.kinds and self.admitted(key) and matches(key.requires, self.capabilities)

    def admitted(self, key: LaneKey) -> bool:
        """Whether the lane's tenants let it in."""
        if self.door == REST and self.tenant is not None:
            return key.tenant in ("", self.tenant) and key.isolation.partition(":")[2] in ("", self.tenant)
        return admits(key.isolation, self.tenant)

    def runs_for(self, tenant: str) -> bool:
        """Whether it may run a tenant's jobs, where a lane has more than one tenant's."""
        return self.door != REST or self.tenant in (None, tenant)

    def rank(self, key: LaneKey) -> int:
        """0 to 9: how far behind the best it comes among those that fit; its tenant's own come first."""
        level = key.isolation.partition(":")[0]
        preference = score(key.prefers, self.capabilities) if key.prefers else 0
        if level != LOOSE:
            return preference
        return preference // 2 + (0 if self.tenant is not None else SHARED_RANK)


DECODER = msgspec.json.Decoder(WorkerRecord)


def subject(worker_id: str) -> str:
    """Where a worker's record stands."""
    return f"$KV.{subjects.BUCKET_WORKERS}.{worker_id}"


def worker_of(record_subject: str) -> str:
    """The worker whose record stands at a subject."""
    return record_subject.split(".", 2)[2]


def is_gone(headers: Mapping[str, str], data: bytes) -> bool:
    """Whether a message of the bucket says that the record expired or was deleted."""
    return not data or "Nats-Marker-Reason" in headers or "KV-Operation" in headers


class Registration:
    """This process's own record.

    Args:
        publisher: started.
        record: the record without what changes; `fences`, `state` and `at` are filled in at each heartbeat.
        held: gives job id by fence of the leases held now.
        reach: told of every heartbeat that the broker took.
    """

    def __init__(
        self,
        publisher: Publisher,
        record: WorkerRecord,
        held: Callable[[], dict[int, str]],
        reach: Reachability,
    ) -> None:
        self._publisher = publisher
        self._record = record
        self._held = held
        self._reach = reach
        self._wake = asyncio.Event()

    @property
    def record(self) -> WorkerRecord:
        """The record as last changed."""
        return self._record

    def change(self, **fields: Any) -> None:
        """Change the record and send it without waiting for the next heartbeat."""
        if "capabilities" in fields:
            fields["revision"] = self._record.revision + 1
        self._record = msgspec.structs.replace(self._record, **fields)
        self._wake.set()

    async def beat(self) -> None:
        """Send one heartbeat; an outage of the broker is logged and left to the next one."""
        record = msgspec.structs.replace(self._record, fences=self._held(), at=datetime.now(UTC))
        ttl_ms = max(MIN_TTL_MS, int(record.lease_s * 1000))
        headers = {"Nats-TTL": f"{ttl_ms}ms"}
        try:
            await self._publisher.publish(subject(record.id), msgspec.json.encode(record), headers)
        except SwitchyardError as error:
            log.warning("heartbeat_failed", worker=record.id, error=str(error))
        else:
            self._reach.proved()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            self._wake.clear()
            await self.beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._record.lease_s / 3):
                    await self._wake.wait()

    async def leave(self) -> None:
        """Take the record away; nothing is held any more."""
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": "3600s"}
        with contextlib.suppress(SwitchyardError):
            await self._publisher.publish(subject(self._record.id), b"", headers)


def new_record(
    *,
    worker_id: str,
    kinds: tuple[str, ...],
    capabilities: dict[str, Any],
    slots: int,
    lease_s: float,
    tenant: str | None = None,
) -> WorkerRecord:
    """The record of a worker that starts now."""
    now = datetime.now(UTC)
    return WorkerRecord(
        id=worker_id, kinds=kinds, capabilities=capabilities, revision=1,
        version=importlib.metadata.version("switchyard"), host=socket.gethostname(), slots=slots,
        state="running", fences={}, lease_s=lease_s, started_at=now, at=now, tenant=tenant,
    )  # fmt: skip
