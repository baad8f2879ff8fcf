"""Which kinds live workers serve, for all tenants or for their own."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from switchyard.services.records.kinds import NONE, Kinds
from switchyard.services.records.lane_limits import ServedBy, Serving


class Serves(Protocol):
    """What a worker says of itself."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that it runs."""

    @property
    def tenant(self) -> str | None:
        """Whom it is dedicated to; None when it works for several or for all."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whom it works for, where these are several."""


class ServedKinds:
    """Counts the workers of each kind, by the tenants that they work for alone, or None for all.

    One that excludes some counts as one for all: this decides where jobs may wait, not who runs them.
    """

    def __init__(self) -> None:
        self._workers: dict[str, tuple[tuple[str, ...], tuple[str | None, ...]]] = {}
        self._counts: dict[str, Counter[str | None]] = {}

    def learn(self, worker: str, record: Serves | None) -> None:
        """Take in what a worker says of itself, or that it is gone."""
        served = None if record is None else (record.kinds, record.tenants or (record.tenant,))
        known = self._workers.get(worker)
        if served == known:
            return
        if known is not None:
            del self._workers[worker]
            self._add(*known, -1)
        if served is not None:
            self._workers[worker] = served
            self._add(*served, 1)

    def _add(self, kinds: tuple[str, ...], tenants: tuple[str | None, ...], by: int) -> None:
        for kind in set(kinds):
            counts = self._counts.setdefault(kind, Counter())
            for tenant in set(tenants):
                counts[tenant] += by
                if not counts[tenant]:
                    del counts[tenant]
            if not counts:
                del self._counts[kind]

    def serve(self, kind: str, tenant: str | None) -> bool:
        """Whether workers of a tenant alone, or those of all for None, serve a kind."""
        return tenant in self._counts.get(kind, ())


def served_by(kinds: Kinds, served: ServedKinds) -> ServedBy:
    """Who cares for a kind, by its configuration and the workers that live."""

    def find(kind: str, tenant: str) -> Serving:
        defaults = kinds.of(kind)
        everybody = defaults is not NONE or served.serve(kind, None)
        priority = 50 if defaults.priority is None else defaults.priority
        return Serving(everybody, served.serve(kind, tenant), priority)

    return find
