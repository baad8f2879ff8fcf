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


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, as its token says.

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

    @property
    def is_admin(self) -> bool:
        """Whether the jobs of every tenant may be seen."""
        return Role.ADMIN in self.roles

    def sees(self, tenant: str | None) -> bool:
        """Whether it may know of what is a tenant's own, such as its workers; None is what all share."""
        return tenant in (None, self.tenant) or Role.OPERATOR in self.roles

    def check(self, role: Role) -> None:
        """Let a caller with the role pass.

        Raises:
            ForbiddenError: it does not have it.
        """
        if role not in self.roles:
            had = ", ".join(sorted(self.roles))
            raise ForbiddenError(
                f"this needs a token with role {role.value}; this one has {had}", field="roles"
            )
