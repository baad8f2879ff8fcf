"""Fair shares: which tenant's turn it is, where tenants share the workers of a kind by weight."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

WEIGHT: Final = 1


class FairShare:
    """Stride scheduling over the tenants that have jobs waiting.

    Each start moves its tenant's pass on by one part of its weight; the lowest pass goes next. A tenant that
    comes back from idleness starts at the present, so it can save nothing up. Each worker counts for itself
    from a place of its own drawing: the shares of many add up to those of one.

    Args:
        weights: gives the weights of a kind's tenants; 1 for those not named.
    """

    def __init__(self, weights: Callable[[str], dict[str, int]]) -> None:
        self._weights = weights
        self._passes: dict[tuple[str, str], float] = {}
        self._present: dict[str, float] = {}

    def order(self, kind: str, tenants: Iterable[str]) -> list[str]:
        """The tenants in the order of their turns."""
        return sorted(tenants, key=lambda tenant: self._pass(kind, tenant))

    def started(self, kind: str, tenant: str) -> None:
        """Count a start."""
        reached = self._pass(kind, tenant)
        self._present[kind] = max(reached, self._present.get(kind, 0.0))
        self._passes[kind, tenant] = reached + self._stride(kind, tenant)

    def _pass(self, kind: str, tenant: str) -> float:
        present = self._present.get(kind, 0.0)
        known = self._passes.get((kind, tenant))
        if known is None:
            known = present + random.random() * self._stride(kind, tenant)  # noqa: S311 - spreads workers, guards nothing
            self._passes[kind, tenant] = known
        return max(known, present - self._stride(kind, tenant))

    def _stride(self, kind: str, tenant: str) -> float:
        return 1.0 / self._weights(kind).get(tenant, WEIGHT)
