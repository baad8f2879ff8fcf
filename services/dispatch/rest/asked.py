"""What a worker asks for: the body, the worker that it names, and whose jobs that takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services.access.principal import Caller
from switchyard.services.records import tenancy
from switchyard.services.records.tenancy import MAX_TENANTS, Tenancy
from switchyard.services.records.workers import EMP, REST

MAX_KINDS: Final = 100
MAX_HELD: Final = 10_000
MAX_FOUND: Final = 100

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
WorkerName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]


class WorkerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker says of itself whenever it asks for something.

    Args:
        kinds: those of the jobs; all that are declared, where a revision is named.
        revision: what stands for capabilities that were sent before.
        lease_s: seconds of its leases.
        slots: those that are declared, where a revision is named, else 1.
        tenant: whose jobs an admin's worker takes alone; it takes any without.
        tenants: the same for several.
        exclude_tenants: whose jobs it never takes.
    """

    door: ClassVar[str] = REST
    """Through which the worker comes."""

    worker: WorkerName
    kinds: Annotated[list[Name], Meta(min_length=1, max_length=MAX_KINDS)] | None = None
    capabilities: dict[str, Any] | None = None
    revision: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    lease_s: Annotated[float, Meta(ge=1)] | None = None
    slots: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    tenant: Name | None = None
    tenants: Annotated[list[Name], Meta(min_length=1, max_length=MAX_TENANTS)] | None = None
    exclude_tenants: Annotated[list[Name], Meta(max_length=MAX_TENANTS)] | None = None


class ClaimRequest(WorkerRequest, frozen=True, forbid_unknown_fields=True):
    """The body of a claim; `wait_s` is how long a job is waited for."""

    wait_s: Annotated[float, Meta(ge=0)] = 0.0


class EmpRequest(ClaimRequest, frozen=True, forbid_unknown_fields=True):
    """The claim of a worker of emp-redis."""

    door: ClassVar[str] = EMP


class AttemptsRequest(WorkerRequest, frozen=True, forbid_unknown_fields=True):
    """The body of a question for attempts that are at a back end.

    Args:
        held: the fences of those that the worker has in hand; it is given no others that are its own.
        most: how many it takes at a time.
    """

    held: Annotated[list[Annotated[int, Meta(ge=1, le=2**63 - 1)]], Meta(max_length=MAX_HELD)] = []
    most: Annotated[int, Meta(ge=1, le=MAX_FOUND)] = 16


def worker_id(caller: Caller, asked: WorkerRequest) -> str:
    """The worker's name among all workers: never another tenant's, nor that of a worker on NATS."""
    return f"{asked.door}.{caller.tenant}.{asked.worker}"


def tenancy_asked(caller: Caller, asked: WorkerRequest) -> Tenancy | None:
    """Whose jobs a claim is for; None where an admin does not say, whose worker is for every tenant.

    Raises:
        ForbiddenError: it names tenants that are not the caller's own.
        InvalidError: what it names contradicts itself, or leaves nobody.
    """
    if asked.tenant is not None and asked.tenants is not None:
        raise InvalidError("tenants: expected without tenant", field="tenants")
    named = asked.tenants or ([] if asked.tenant is None else [asked.tenant])
    excluded = asked.exclude_tenants or []
    if caller.is_admin and not caller.home:
        if not named and asked.exclude_tenants is None:
            return None
        return tenancy.tenancy_of(named, excluded)
    if set(named) - {caller.tenant}:
        field = "tenant" if asked.tenants is None else "tenants"
        raise ForbiddenError(f"{field}: naming another tenant needs role admin", field=field)
    return tenancy.tenancy_of([caller.tenant], excluded)
