"""Who works: the bucket `workers` with a heartbeat per live worker, and `capabilities` with what it declares.

What does not change with a heartbeat stands once per revision in the worker's declaration. A heartbeat names
the revision; the declaration is written before the heartbeat that names it. Readers put the two together, and
never a heartbeat with the declaration of another revision.

A heartbeat has the form of a whole record with all that is declared left empty: that is what the version
before reads, and its own records, which are whole, are read here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import structlog
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.events.lane import LOOSE, NONE, LaneKey, admits
from switchyard.events.requirements.matching import matches, score
from switchyard.events.vocabulary.ids import Fence, JobId, Revision, WorkerId
from switchyard.services import clock
from switchyard.services.broker.bucket import Form, Gone, Key, json_values
from switchyard.services.distribution import version
from switchyard.services.records import tenancy
from switchyard.services.records.back_ends import down_of
from switchyard.services.records.tenancy import EVERYBODY, Tenancy

log = structlog.get_logger()

SHARED_RANK = 5
AVOID_S: Final = 60.0
"""How long at most the worker that failed a job leaves its next attempt to others that could take it."""
REST = "rest"
EMP: Final = "emp"
CLAIMING: Final = frozenset({REST, EMP})
"""The doors of workers that claim timed leases; each begins the ids of its workers."""
UNREGISTERED: Final = "unregistered"
"""The state of a worker while the broker refuses what it declares."""
LEASES: Final = 6
"""How many leases a declaration outlives the heartbeat it is kept for; it is renewed after half of them."""

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
FenceNumber = Annotated[Fence, Meta(ge=0, le=2**63 - 1)]
RevisionNumber = Annotated[Revision, Meta(ge=0, le=2**63 - 1)]
Time = Annotated[datetime, Meta(tz=True)]


class Instance(msgspec.Struct, frozen=True):
    """A connector in a worker that has several of its kind, or that finds what another kind's says otherwise.

    Args:
        id: unlike any other of its worker.
        kind: that it runs.
        capabilities: what jobs of its kind find here, where that is not what the worker declares for all.
    """

    id: str
    kind: str
    capabilities: dict[str, Any]


class Offered(msgspec.Struct, frozen=True):
    """A connector of a worker, as it is shown.

    Args:
        id: unlike any other of its worker.
        kind: that it runs.
        slots: attempts at once; None for as many as the worker has.
    """

    id: str
    kind: str
    slots: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class WorkerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker as others see it: its heartbeat and what it declares.

    Args:
        id: unique to this run of the process, so a restarted worker is another one.
        kinds: kinds that it runs.
        capabilities: what its connectors and its operator declare; of what the connectors of one kind do not
            have in common, nothing.
        revision: raised with every change of the capabilities.
        slots: 0 in a heartbeat alone.
        state: running, paused, draining, or unregistered while the broker refuses what it declares.
        fences: job id by fence of each lease that it holds.
        lease_s: seconds after which it is taken for dead.
        at: when it said so.
        tenant: whom it is dedicated to; None when it works for several or for all.
        door: where it claims timed leases: `rest`, or `emp` for a worker of emp-redis; "" for one on NATS.
        until: by fence, when each timed lease ends.
        lost_slots: how many of its slots hold code that outlived its attempt.
        instances: those of its connectors that do not find just what it declares.
        tenants: whom it works for, where these are several; none where that is one or all.
        excluded: whom it does not work for.
        connectors: all of them; none over REST, and none in the records of the version before.
        loads: by the id of each connector that runs something, its attempts as of the heartbeat before.
        was_left: whether the gateway that it spoke with has stopped, so that what becomes of it says nothing
            of its jobs.
    """

    id: WorkerId
    kinds: tuple[str, ...]
    capabilities: dict[str, Any]
    revision: RevisionNumber
    version: str
    host: str
    slots: Number
    state: str
    fences: dict[FenceNumber, JobId]
    lease_s: Annotated[float, Meta(gt=0, le=1e9)]
    started_at: Time
    at: Time
    tenant: str | None = None
    door: str = ""
    until: dict[Number, Time] = {}
    lost_slots: Number = 0
    instances: tuple[Instance, ...] = ()
    tenants: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    connectors: tuple[Offered, ...] = ()
    loads: dict[str, Number] = {}
    was_left: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it says what the worker declares, as a heartbeat alone does not."""
        return self.slots > 0

    @property
    def has_free_slot(self) -> bool:
        """Whether it could start a job now."""
        return len(self.fences) + self.lost_slots < self.slots

    def heartbeat(self) -> WorkerRecord:
        """The record without what the declaration says."""
        return msgspec.structs.replace(
            self, kinds=(), capabilities={}, version="", host="", slots=0, tenant=None, door="", instances=(),
            tenants=(), excluded=(), connectors=(),
        )  # fmt: skip

    def abilities(self, kind: str) -> list[dict[str, Any]]:
        """What a job of a kind may find: one set for each connector that could run it, never a mixture."""
        own = [self.capabilities | one.capabilities for one in self.instances if one.kind == kind]
        return own or [self.capabilities]

    def only(self, instance: str) -> WorkerRecord:
        """The record as it would be if a connector were the only one of its kind."""
        for one in self.instances:
            if one.id == instance:
                capabilities = self.capabilities | one.capabilities
                others = tuple(other for other in self.instances if other.kind != one.kind)
                return msgspec.structs.replace(self, capabilities=capabilities, instances=others)
        return self

    def fits(self, key: LaneKey) -> bool:
        """Whether it may run the jobs of a lane, or those of the tenants that it serves among them."""
        if key.kind not in self.kinds or not self.admitted(key):
            return False
        if not self.instances:
            return matches(key.requires, self.capabilities)
        return any(matches(key.requires, found) for found in self.abilities(key.kind))

    def serves(self, key: LaneKey) -> bool:
        """Whether it fits the jobs of a lane with a connector whose back end is not known to be down."""
        return self.fits(key) and any(
            matches(key.requires, found) and down_of(key.kind, found) is None
            for found in self.abilities(key.kind)
        )

    def admitted(self, key: LaneKey) -> bool:
        """Whether the lane's tenants let it in."""
        owner = key.isolation.partition(":")[2]
        if not all(self.runs_for(tenant) for tenant in (key.tenant, owner) if tenant):
            return False
        return (self.door in CLAIMING and self.tenant is not None) or admits(key.isolation, self.tenant)

    def runs_for(self, tenant: str) -> bool:
        """Whether it runs a tenant's jobs."""
        return tenancy.serves(self, tenant)

    @property
    def tenancy(self) -> Tenancy:
        """Whose jobs it runs."""
        return tenancy.tenancy_said(self)

    def passes_by(self, key: LaneKey) -> bool:
        """Whether a lane may have jobs of tenants that it does not serve, beside those that it may run."""
        return key.isolation == NONE and not key.tenant and tenancy.is_restricted(self)

    def rank(self, key: LaneKey) -> int:
        """0 to 9: how far behind the best it comes that fits; those that name the tenant come first."""
        level, _, owner = key.isolation.partition(":")
        preference = 0
        if key.prefers:
            found = self.abilities(key.kind)
            fitting = [each for each in found if matches(key.requires, each)]
            preference = min(score(key.prefers, each) for each in fitting or found)
        if level != LOOSE:
            return preference
        return preference // 2 + (0 if owner in (self.tenant, *self.tenants) else SHARED_RANK)


class Declaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a worker does not change with its heartbeats; the fields are those of a `WorkerRecord`.

    Args:
        expires_at: when it goes, unless it is renewed.
    """

    id: WorkerId
    revision: RevisionNumber
    kinds: tuple[str, ...]
    capabilities: dict[str, Any]
    version: str
    host: str
    slots: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    started_at: Time
    expires_at: Time
    tenant: str | None = None
    door: str = ""
    instances: tuple[Instance, ...] = ()
    tenants: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    connectors: tuple[Offered, ...] = ()

    def is_due(self, lasts_s: float, lease_s: float, now: datetime) -> bool:
        """Whether it is to be renewed for a heartbeat that lasts so long."""
        return (self.expires_at - now).total_seconds() < lasts_s + LEASES / 2 * lease_s

    def renewed(self, lasts_s: float, lease_s: float, now: datetime) -> Declaration:
        """The same, to outlive a heartbeat that lasts so long."""
        expires_at = now + timedelta(seconds=lasts_s + LEASES * lease_s)
        return msgspec.structs.replace(self, expires_at=expires_at)

    def left_s(self, now: datetime) -> int:
        """Whole seconds after which it goes."""
        return round((self.expires_at - now).total_seconds())

    def with_heartbeat(self, heartbeat: WorkerRecord) -> WorkerRecord:
        """The whole record.

        Raises:
            ValueError: the heartbeat names another revision.
        """
        if heartbeat.revision != self.revision:
            raise ValueError(f"revision {heartbeat.revision} of {self.id} is not {self.revision}")
        return msgspec.structs.replace(
            heartbeat, kinds=self.kinds, capabilities=self.capabilities, version=self.version, host=self.host,
            slots=self.slots, started_at=self.started_at, tenant=self.tenant, door=self.door,
            instances=self.instances, tenants=self.tenants, excluded=self.excluded,
            connectors=self.connectors,
        )  # fmt: skip


def declaration_of(record: WorkerRecord, expires_at: datetime) -> Declaration:
    """What a whole record declares."""
    return Declaration(
        id=record.id, revision=record.revision, kinds=record.kinds, capabilities=record.capabilities,
        version=record.version, host=record.host, slots=record.slots, started_at=record.started_at,
        expires_at=expires_at, tenant=record.tenant, door=record.door, instances=record.instances,
        tenants=record.tenants, excluded=record.excluded, connectors=record.connectors,
    )  # fmt: skip


# --- The buckets


def rest_tenant(worker_id: str) -> str | None:
    """Whose token a worker claims with at a gateway; None for one on NATS."""
    tokens = worker_id.split(".")
    return tokens[1] if tokens[0] in CLAIMING and len(tokens) == 3 else None


def is_deaf(worker_id: WorkerId) -> bool:
    """Whether a worker hears nothing while it has a job: who wishes it to stop waits until it has ended."""
    return worker_id.startswith(f"{EMP}.")


def _is_own(key: Key, record: WorkerRecord | Declaration) -> None:
    if key != (record.id,):
        raise ValueError("it is another worker's")


def _can_be_shown(key: Key, declaration: Declaration) -> None:
    _is_own(key, declaration)
    check_json(declaration.capabilities, "capabilities")  # raises for what could not be written as JSON again
    for instance in declaration.instances:
        check_json(instance.capabilities, "capabilities")


GONE: Final = Gone("PURGE", rolls_up=True, ttl_s=3600)
HEARTBEATS: Final = Form(
    name=subjects.BUCKET_WORKERS, parts=("worker",), is_dotted=True, values=json_values(WorkerRecord),
    belongs=_is_own, gone=GONE,
)  # fmt: skip
"""A heartbeat each, or the whole record of the version before."""
DECLARATIONS: Final = Form(
    name=subjects.BUCKET_CAPABILITIES, parts=("worker",), is_dotted=True, values=json_values(Declaration),
    belongs=_can_be_shown, gone=GONE,
)  # fmt: skip


# --- What a worker may declare


def declarable(capabilities: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """Capabilities as others will read them.

    Raises:
        InvalidError: they are no JSON object of at most so many bytes.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(capabilities))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(
            f"capabilities: expected what JSON can hold: {error}", field="capabilities"
        ) from None
    check_capabilities(plain, most_bytes)
    return plain


def check_capabilities(capabilities: dict[str, Any], most_bytes: int) -> None:
    """Refuse what others cannot read, or is too large.

    Raises:
        InvalidError: a value in them breaks a rule, or they are larger.
    """
    check_json(capabilities, "capabilities")
    size = len(msgspec.json.encode(capabilities))
    if size > most_bytes:
        message = f"capabilities: {size} bytes as JSON, of at most {most_bytes}"
        raise InvalidError(message, field="capabilities")


def new_record(
    *,
    worker_id: WorkerId,
    kinds: tuple[str, ...],
    capabilities: dict[str, Any],
    slots: int,
    lease_s: float,
    tenancy: Tenancy = EVERYBODY,
    instances: tuple[Instance, ...] = (),
    connectors: tuple[Offered, ...] = (),
) -> WorkerRecord:
    """The record of a worker that starts now."""
    now = clock.now()
    return WorkerRecord(
        id=worker_id, kinds=kinds, capabilities=capabilities, revision=Revision(1),
        version=version(), host=socket.gethostname(), slots=slots,
        state="running", fences={}, lease_s=lease_s, started_at=now, at=now,
        instances=instances, connectors=connectors,
        tenant=tenancy.alone, tenants=tenancy.several, excluded=tenancy.excluded,
    )  # fmt: skip
