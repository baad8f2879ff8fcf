"""What workers declare that claim over REST: stored once per revision, within their tenant's limits.

One entry per worker, with its newest revision alone, stands in the bucket `capabilities`, where any gateway
finds it. Every write is guarded by the entry's last sequence, so that a revision never stands for two
declarations; a revision is the time in milliseconds, so that none comes again after the entry has expired.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec
from nats.aio.client import Client

from switchyard.events.encoding.json_value import encoded
from switchyard.events.errors import ConflictError, LimitError, UnavailableError, VersionConflictError
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records import workers
from switchyard.services.records.tenancy import tenancy_said
from switchyard.services.records.worker_watch import OVERHEAD_BYTES, Declared, WorkerWatch, declared_in
from switchyard.services.records.workers import DECLARATIONS, Declaration
from switchyard.services.settings import Settings

MAX_KINDS: Final = 100


class Declarations:
    """Keeps them for one gateway.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        watch: what stands in the buckets; it may be a moment behind.
    """

    def __init__(self, nc: Client, publisher: Publisher, watch: WorkerWatch, settings: Settings) -> None:
        self._bucket = Bucket(nc, DECLARATIONS, publisher, timeout_s=settings.request_timeout_s)
        self._watch = watch
        self._settings = settings
        self._own: dict[str, dict[str, Declared]] = defaultdict(dict)
        self._admitted: dict[str, dict[str, float]] = defaultdict(dict)
        self._under_way: Counter[str] = Counter()

    # --- What a claim says

    async def named(self, worker: WorkerId, revision: Revision) -> Declaration:
        """What a worker has declared under a revision.

        Raises:
            ConflictError: code `unknown_revision`; it is not the worker's newest, or has expired.
            UnavailableError: the broker does not answer.
        """
        declaration = self._newest(worker).declaration
        if declaration is None or declaration.revision != revision:
            declaration = (await self._stored(worker)).declaration
        if declaration is None or declaration.revision != revision:
            raise ConflictError(
                f"revision {revision} of worker {worker} is not known any more: send its capabilities",
                code="unknown_revision",
            )
        return declaration

    async def declare(self, declared: Declaration, lasts_s: float, *, adds_kinds: bool) -> Declaration:
        """Store what a worker says of itself, unless it stands there; as it stands then.

        Args:
            declared: its revision counts for nothing.
            lasts_s: how long the worker's heartbeat lives.
            adds_kinds: whether kinds that are declared already stay.

        Raises:
            LimitError: its tenant has as many workers, or as many bytes, as it may.
            UnavailableError: the broker does not take it.
        """
        self._admit(declared.id)
        known = self._newest(declared.id)
        for _ in range(self._settings.append_tries):
            fresh = _merged(known.declaration, declared, adds_kinds=adds_kinds)
            if fresh is known.declaration:
                return fresh
            fresh = fresh.renewed(lasts_s, self._settings.lease_s, clock.now())
            try:
                await self._write(fresh, known)
            except VersionConflictError:
                known = await self._stored(declared.id)
            else:
                return fresh
        raise UnavailableError(f"others keep changing what worker {declared.id} declares")

    async def keep(self, declared: Declaration | None, worker: WorkerId, lasts_s: float) -> None:
        """Let what a worker declares outlive a heartbeat.

        Args:
            declared: what its last claim here came to, to be stored again if it is gone.
            worker: whose it is.
            lasts_s: how long the heartbeat lives.

        Raises:
            SwitchyardError: the broker does not take it.
        """
        known, now = self._newest(worker), clock.now()
        declaration = known.declaration
        if declaration is None and declared is not None:
            known = await self._stored(worker)
            declaration = known.declaration or declared
        elif declaration is None or not declaration.is_due(lasts_s, self._settings.lease_s, now):
            return
        with contextlib.suppress(VersionConflictError):  # another gateway, or a claim, has just written it
            await self._write(declaration.renewed(lasts_s, self._settings.lease_s, now), known)

    # --- What stands

    def newest(self, worker: WorkerId) -> Declaration | None:
        """What a worker has declared last, as far as this gateway knows."""
        return self._newest(worker).declaration

    def _newest(self, worker: WorkerId) -> Declared:
        """What the watch has, or what this gateway has written since."""
        own = self._own.get(workers.rest_tenant(worker) or "", {}).get(worker)
        if own is not None and own.seq > self._watch.declared_seq:
            return own
        return self._watch.declared(worker) or Declared()

    async def _stored(self, worker: str) -> Declared:
        return declared_in(await self._bucket.get(worker))

    async def _write(self, fresh: Declaration, known: Declared) -> None:
        tenant = workers.rest_tenant(fresh.id) or ""
        size_bytes = len(DECLARATIONS.values.encode(fresh)) + OVERHEAD_BYTES
        ttl_s = fresh.left_s(clock.now())
        with self._room(tenant, fresh.id, size_bytes):
            written = await self._bucket.put(fresh.id, fresh, revision=known.seq, ttl_s=ttl_s)
            self._own[tenant][fresh.id] = declared_in(written)

    # --- Limits

    def _admit(self, worker: WorkerId) -> None:
        """Let a worker in that is alive, or for which there is room.

        Raises:
            LimitError: the tenant has as many as it may.
        """
        tenant = workers.rest_tenant(worker) or ""
        if self._watch.has_heartbeat(worker):
            return
        now = time.monotonic()
        admitted = self._admitted[tenant] = {
            each: at
            for each, at in self._admitted[tenant].items()
            if now - at < self._settings.lease_s and not self._watch.has_heartbeat(each)
        }
        alive = self._watch.alive_of(tenant) + len(admitted)
        if worker not in admitted and alive >= self._settings.workers:
            most = self._settings.workers
            raise LimitError(
                f"tenant {tenant} has {alive} workers that claim over REST, of at most {most}",
                code="too_many_workers", field="worker", retry_after_s=self._settings.lease_s,
            )  # fmt: skip
        admitted[worker] = now

    @contextlib.contextmanager
    def _room(self, tenant: str, worker: WorkerId, size_bytes: int) -> Iterator[None]:
        """Keep room for a declaration while it is written.

        Raises:
            LimitError: the tenant's declarations would be larger than they may.
        """
        own = self._own[tenant]
        for each in [each for each, mine in own.items() if mine.seq <= self._watch.declared_seq]:
            del own[each]
        used = self._watch.bytes_of(tenant) + self._under_way[tenant]
        for each, mine in own.items():
            used += mine.size_bytes - (self._watch.declared(each) or Declared()).size_bytes
        before = self._newest(worker).size_bytes
        used -= before
        most = self._settings.tenant_capabilities_bytes
        if size_bytes > before and used + size_bytes > most:
            raise LimitError(
                f"the workers of tenant {tenant} that claim over REST declare {used} bytes, and {size_bytes} "
                f"more are too many: at most {most}",
                code="too_many_capabilities", field="capabilities", retry_after_s=self._settings.lease_s,
            )  # fmt: skip
        self._under_way[tenant] += size_bytes
        try:
            yield
        finally:
            self._under_way[tenant] -= size_bytes


def _merged(known: Declaration | None, declared: Declaration, *, adds_kinds: bool) -> Declaration:
    """What is to stand; `known` itself where nothing changes."""
    now_ms = int(clock.now().timestamp() * 1000)
    if known is None:
        return msgspec.structs.replace(declared, revision=now_ms, kinds=tuple(sorted(declared.kinds)))
    kinds = {*declared.kinds, *known.kinds} if adds_kinds else {*declared.kinds}
    if len(kinds) > MAX_KINDS:
        kinds = {*declared.kinds}
    fresh = msgspec.structs.replace(
        declared, kinds=tuple(sorted(kinds)), started_at=known.started_at, expires_at=known.expires_at,
        revision=max(now_ms, known.revision + 1),
    )  # fmt: skip
    # JSON distinguishes 1 from true, which Python does not.
    has, had = declared.capabilities, known.capabilities
    is_same = tenancy_said(declared) == tenancy_said(known)
    if is_same and (has is had or encoded(has) == encoded(had)):
        fresh = msgspec.structs.replace(fresh, revision=known.revision, capabilities=had)
        return known if fresh == known else fresh
    return fresh
