"""What can be watched: the one page that another kind of thing adds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.services.access.principal import ANYBODY, Principal
from switchyard.services.gateway.live.messages import Watch

FILTERS: Final = ("ids", "kinds", "labels", "priorities")


@dataclass(frozen=True, slots=True)
class Thing:
    """One of what is watched, as it is now.

    Args:
        id: unlike any other's; what `removed` names.
        body: what readers see of it, as JSON; the same bytes for the same state, at every gateway.
        kinds: by which a filter finds it.
        labels: likewise; values within others are found by names with dots.
        priority: likewise.
    """

    id: str
    body: bytes
    kinds: Collection[str] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None


class Source(Protocol):
    """A kind of things that can be watched."""

    name: str
    """What a client asks for."""
    filters: frozenset[str]
    """Those of `FILTERS` that it knows."""

    def scope(self, principal: Principal, tenant: str | None) -> str | None:
        """Whose things a reader sees: a tenant's, or None for all; `tenant` is what it asked for.

        Raises:
            ForbiddenError: it may not see them.
        """

    async def run(self, changed: Callable[[], None]) -> None:
        """Report whenever something may have changed, until cancelled; also through outages of the broker.

        It runs while somebody watches.
        """

    async def things(self, scope: str | None) -> Mapping[str, Thing]:
        """All that there is in a scope, by id.

        Raises:
            UnavailableError: that is not known now.
        """


def scope_of(principal: Principal, tenant: str | None, own: str | None) -> str | None:
    """The scope that a reader asks for; `own` is what it sees when it names none.

    Raises:
        ForbiddenError: it names another tenant, or all, and is no operator.
    """
    if tenant is None:
        return own
    if tenant == principal.tenant:
        return tenant
    if not principal.sees(tenant):
        raise ForbiddenError("only the role operator sees what is other tenants'", field="tenant")
    return None if tenant == ANYBODY else tenant


def check_filters(source: Source, wish: Watch) -> None:
    """Refuse a filter that the source does not know.

    Raises:
        InvalidError: there is one.
    """
    for name in FILTERS:
        if getattr(wish, name) is not None and name not in source.filters:
            known = ", ".join(sorted(source.filters)) or "none"
            raise InvalidError(f"{source.name} have no filter {name}; known: {known}", field=name)


def key_of(wish: Watch) -> tuple[object, ...]:
    """A filter as a key: the same for two that select the same in another order."""
    values = (getattr(wish, name) for name in FILTERS)
    return tuple(None if value is None else frozenset(_pairs(value)) for value in values)


def _pairs(value: Any) -> Any:
    return value.items() if isinstance(value, Mapping) else value


def selects(wish: Watch, thing: Thing) -> bool:
    """Whether a filter lets a thing pass: every part of it does, by any of its values; labels by all."""
    if wish.ids is not None and thing.id not in wish.ids:
        return False
    if wish.kinds is not None and not any(kind in thing.kinds for kind in wish.kinds):
        return False
    if wish.priorities is not None and thing.priority not in wish.priorities:
        return False
    return all(_has(thing.labels, name, value) for name, value in (wish.labels or {}).items())


def _has(labels: Mapping[str, Any], name: str, wanted: str) -> bool:
    found: Any = labels.get(name)
    if found is None:
        found = labels
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    several = found if isinstance(found, list | tuple) else (found,)
    return any(_text(each) == wanted for each in several)


def _text(value: Any) -> str | None:
    """A value as a filter names it; None for one that has no such form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
