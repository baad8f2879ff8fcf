"""Whose jobs a worker runs: those of all tenants, of some, of one alone, or of all but some."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import is_name

MAX_TENANTS: Final = 100
"""How many tenants a worker may name, and how many it may exclude."""
SHOWN_CHARS: Final = 80


class Tenancy(NamedTuple):
    """Whose jobs a worker runs, sorted and each named once.

    Args:
        tenants: those that it serves; none named for all.
        excluded: those that it does not serve; never one of `tenants`.
    """

    tenants: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def alone(self) -> str | None:
        """The one tenant that it is dedicated to."""
        return self.tenants[0] if len(self.tenants) == 1 else None

    @property
    def several(self) -> tuple[str, ...]:
        """The tenants that share it, where it names more than one."""
        return self.tenants if len(self.tenants) > 1 else ()


EVERYBODY: Final = Tenancy()


def tenancy_of(tenants: Iterable[str], excluded: Iterable[str]) -> Tenancy:
    """What is asked for, checked.

    Raises:
        InvalidError: one is no name, there are too many, or one is both served and excluded.
    """
    found = Tenancy(tuple(sorted(set(tenants))), tuple(sorted(set(excluded))))
    for field, names in (("tenants", found.tenants), ("exclude_tenants", found.excluded)):
        for name in names:
            if not is_name(name):
                raise InvalidError(f"{field}: {name[:SHOWN_CHARS]!r} is no tenant's name", field=field)
        if len(names) > MAX_TENANTS:
            raise InvalidError(f"{field}: {len(names)} tenants, of at most {MAX_TENANTS}", field=field)
    if both := [name for name in found.tenants if name in found.excluded]:
        message = f"exclude_tenants: {', '.join(both[:5])} cannot be both served and excluded"
        raise InvalidError(message, field="exclude_tenants")
    return found


class Serves(Protocol):
    """What a worker says of whom it serves, as its record and its declaration hold it."""

    @property
    def tenant(self) -> str | None:
        """The one that it is dedicated to; None where it names none or several."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that share it, where it names more than one."""

    @property
    def excluded(self) -> tuple[str, ...]:
        """Those that it does not serve."""


def serves(worker: Serves, tenant: str) -> bool:
    """Whether a worker runs the jobs of a tenant."""
    if worker.tenant is not None and tenant != worker.tenant:
        return False
    return (not worker.tenants or tenant in worker.tenants) and tenant not in worker.excluded


def tenancy_said(worker: Serves) -> Tenancy:
    """The same in one piece."""
    named = worker.tenants if worker.tenant is None else (worker.tenant,)
    return Tenancy(named, worker.excluded)


def is_restricted(worker: Serves) -> bool:
    """Whether there may be a tenant whose jobs it does not run."""
    return bool(worker.tenant is not None or worker.tenants or worker.excluded)


def is_seen(worker: Serves, sees: Callable[[str | None], bool]) -> bool:
    """Whether a worker may be shown to somebody.

    Args:
        worker: one that excludes a tenant is shown to it, as any other that names none.
        sees: says which tenants' own that is; None stands for what all share.
    """
    return any(map(sees, worker.tenants)) if worker.tenants else sees(worker.tenant)
