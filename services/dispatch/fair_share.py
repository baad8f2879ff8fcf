"""Fair shares: which tenant's turn it is, where tenants share the workers of a kind by weight."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

WEIGHT: Final = 1
PASSES: Final = 10_000


class FairShare:
    """Stride scheduling over the tenants that have jobs waiting.

    Each start moves its tenant's pass on by one part of its weight; the lowest pass goes next. A tenant that
    comes back from idleness starts at the present, so it can save nothing up. Each worker counts for itself
    from a place of its own drawing: the shares of many add up to those of one.

    Args:
        weights: gives the weights of a kind's tenants; 1 for those not named.
        passes: how many are kept. The one that was used longest ago goes first; its tenant then starts at the
            present, so that it loses or gains a turn or two.
    """

    def __init__(self, weights: Callable[[str], dict[str, int]], *, passes: int = PASSES) -> None:
        self._weights = weights
        self._most = passes
        self._passes: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._present: dict[str, float] = {}

    def order(self, kind: str, tenants: Iterable[str]) -> list[str]:
        """The tenants in the order of their turns."""
        return sorted(tenants, key=lambda tenant: self._pass(kind, tenant))

    def started(self, kind: str, tenant: str) -> None:
        """Count a start."""
        reached = self._pass(kind, tenant)
        self._present[kind] = max(reached, self._present.get(kind, 0.0))
        self._passes[kind, tenant] = reached + self._stride(kind, tenant)
        self._passes.move_to_end((kind, tenant))

    def _pass(self, kind: str, tenant: str) -> float:
        present = self._present.get(kind, 0.0)
        known = self._passes.get((kind, tenant))
        if known is None:
            known = present + random.random() * self._stride(kind, tenant)  # noqa: S311 - spreads workers, guards nothing
            self._passes[kind, tenant] = known
            if len(self._passes) > self._most:
                self._passes.popitem(last=False)
        return max(known, present - self._stride(kind, tenant))

    def _stride(self, kind: str, tenant: str) -> float:
        return 1.0 / self._weights(kind).get(tenant, WEIGHT)
