"""The caller, and what its roles allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from switchyard.events.errors import ForbiddenError

ANYBODY: Final = "*"
"""No tenant has this name."""


class Role(StrEnum):
    """What a token or key allows; `admin` implies all, and all but `registrar` imply `viewer`."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    REVIEWER = "reviewer"
    TENANT_ADMIN = "tenant-admin"
    OPERATOR = "operator"
    REGISTRAR = "registrar"
    ADMIN = "admin"


_OF_TENANT_ADMIN: Final = frozenset({Role.SUBMITTER, Role.WORKER, Role.REVIEWER, Role.TENANT_ADMIN})


def implied(named: Iterable[Role]) -> frozenset[Role]:
    """Roles with those that they imply."""
    roles = frozenset(named)
    if Role.ADMIN in roles:
        return frozenset(Role)
    if Role.TENANT_ADMIN in roles:
        roles |= _OF_TENANT_ADMIN
    return roles if roles <= {Role.REGISTRAR} else roles | {Role.VIEWER}


class Grant(NamedTuple):
    """What an API key allows beside its roles; None stands for no limit.

    Args:
        key: its id.
        kinds: which kinds of jobs it may submit and claim.
        per_minute: requests that it may make a minute, on average.
        burst: how many of those at once.
        jobs_per_day: jobs that it may submit in one day, by UTC.
    """

    key: str
    kinds: frozenset[str] | None = None
    per_minute: int | None = None
    burst: int = 0
    jobs_per_day: int | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether it allows less than its roles do."""
        return self.kinds is not None or self.per_minute is not None or self.jobs_per_day is not None

    def check_kind(self, kind: str, field: str = "kind") -> None:
        """Let a kind of job pass.

        Raises:
            ForbiddenError: code `kind_not_allowed`.
        """
        if self.kinds is not None and kind not in self.kinds:
            allowed = ", ".join(sorted(self.kinds))
            message = f"{field}: this key is for {allowed} alone"
            raise ForbiddenError(message, code="kind_not_allowed", field=field)


def check_kinds(grant: Grant | None, kinds: Iterable[str]) -> None:
    """Let the kinds of a claim pass.

    Raises:
        ForbiddenError: code `kind_not_allowed`.
    """
    for index, kind in enumerate(kinds if grant is not None else ()):
        if grant is not None:
            grant.check_kind(kind, f"kinds[{index}]")


class _Rights:
    """What a tenant and its roles allow."""

    __slots__ = ()
    tenant: str
    roles: frozenset[Role]
    home: str

    @property
    def is_admin(self) -> bool:
        """Whether the jobs of every tenant may be seen."""
        return Role.ADMIN in self.roles

    def sees(self, tenant: str | None) -> bool:
        """Whether it may know of what is a tenant's own, such as its workers; None is what all share."""
        if self.home:  # who acts for another tenant sees what that one does
            return tenant in (None, self.tenant)
        return tenant in (None, self.tenant) or Role.OPERATOR in self.roles

    def check(self, *roles: Role) -> None:
        """Let a caller with one of the roles pass.

        Raises:
            ForbiddenError: it has none of them.
        """
        if self.roles.isdisjoint(roles):
            had = ", ".join(sorted(self.roles)) or "none"
            wanted = " or ".join(role.value for role in roles)
            raise ForbiddenError(f"this needs a token with role {wanted}; this one has {had}", field="roles")


@dataclass(frozen=True, slots=True)
class Caller(_Rights):
    """Who asks for something, whatever the door: what operations and the events that they cause go by.

    Args:
        tenant: whose jobs it sees.
        actor: its name in the events that it causes, such as `user:alice` or `schedule:nightly`.
        roles: with those that they imply; none for our own processes, which are not asked for any.
        trace: a W3C trace context, or "".
        key: the id of the API key that it came with, or "".
        grant: what that key allows; None without one.
        home: the tenant that it belongs to, where it acts for another one.
        operation: the word for the way by which its jobs come, as the ledger has it, or "".
    """

    tenant: str
    actor: str
    roles: frozenset[Role] = frozenset()
    trace: str = ""
    key: str = ""
    grant: Grant | None = None
    home: str = ""
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Principal(_Rights):
    """A caller as its token or key says, before it asks for anything.

    Args:
        subject: a name for people and logs.
        tenant: whose jobs it sees.
        roles: with those that they imply.
        token_id: the token's `jti`.
        expires_at: seconds since the epoch.
        grant: what its API key allows; None without one.
        named: the roles that it was given by name; None where that is all of them.
        home: the tenant that it belongs to, where it acts for another one.
    """

    subject: str
    tenant: str
    roles: frozenset[Role]
    token_id: str
    expires_at: float
    grant: Grant | None = None
    named: frozenset[Role] | None = None
    home: str = ""

    @property
    def actor(self) -> str:
        """The caller's name in the events that it causes; no token's can begin as a key's."""
        return f"user:{self.subject}" if self.grant is None else f"key:{self.grant.key}"

    @property
    def key(self) -> str:
        """The id of its API key, or ""."""
        return "" if self.grant is None else self.grant.key

    def caller(self, trace: str = "") -> Caller:
        """The caller of one request.

        Args:
            trace: its W3C trace context, or "".
        """
        return Caller(self.tenant, self.actor, self.roles, trace, self.key, self.grant, self.home)

    def acting_for(self, tenant: str) -> Principal:
        """The same caller in another tenant: an operator has there what its named roles give, admin all.

        Raises:
            ForbiddenError: it is neither operator nor admin.
        """
        if tenant == self.tenant:
            return self
        if Role.OPERATOR not in self.roles:
            had = ", ".join(sorted(self.roles)) or "none"
            message = f"tenant: another one is named with role operator or admin; this one has {had}"
            raise ForbiddenError(message, field="tenant")
        roles = self.roles
        if not self.is_admin:
            others = (self.roles if self.named is None else self.named) - {Role.OPERATOR, Role.REGISTRAR}
            roles = frozenset({Role.OPERATOR}) | (implied(others) if others else frozenset())
        return replace(self, tenant=tenant, roles=roles, home=self.home or self.tenant)
