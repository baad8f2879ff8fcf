"""The caller, and what its roles allow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from switchyard.events.errors import ForbiddenError

ANYBODY: Final = "*"
"""No tenant has this name."""


class Role(StrEnum):
    """What a token allows; `admin` implies all, and all but `registrar` imply `viewer`."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    REGISTRAR = "registrar"
    ADMIN = "admin"


class _Rights:
    """What a tenant and its roles allow."""

    __slots__ = ()
    tenant: str
    roles: frozenset[Role]

    @property
    def is_admin(self) -> bool:
        """Whether the jobs of every tenant may be seen."""
        return Role.ADMIN in self.roles

    def sees(self, tenant: str | None) -> bool:
        """Whether it may know of what is a tenant's own, such as its workers; None is what all share."""
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
    """

    tenant: str
    actor: str
    roles: frozenset[Role] = frozenset()
    trace: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Principal(_Rights):
    """A caller as its token says, before it asks for anything.

    Args:
        subject: a name for people and logs.
        tenant: whose jobs it sees.
        roles: with those that they imply.
        token_id: the token's `jti`.
        expires_at: seconds since the epoch.
    """

    subject: str
    tenant: str
    roles: frozenset[Role]
    token_id: str
    expires_at: float

    @property
    def actor(self) -> str:
        """The caller's name in the events that it causes."""
        return f"user:{self.subject}"

    def caller(self, trace: str = "") -> Caller:
        """The caller of one request.

        Args:
            trace: its W3C trace context, or "".
        """
        return Caller(self.tenant, self.actor, self.roles, trace)
