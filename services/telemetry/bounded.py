"""Names that users choose, as values of a label: so many, and `other` for those that come later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from switchyard.services.telemetry.names import OTHER

NONE: Final = "none"


class Bounded:
    """The first `most` names keep their own; a counter cannot change its label afterwards.

    Args:
        most: how many names.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """The name, or what stands for it."""
        if name in self._known:
            return name
        if not name:
            return NONE
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


def largest(counts: Mapping[tuple[str, str], float], most: int) -> dict[tuple[str, ...], float]:
    """The counts by kind and state: the kinds with the most jobs by name, and all others together."""
    totals: dict[str, float] = {}
    for (kind, _), count in counts.items():
        totals[kind] = totals.get(kind, 0) + count
    named = set(sorted(totals, key=lambda kind: (-totals[kind], kind))[:most])
    shown: dict[tuple[str, ...], float] = {}
    for (kind, state), count in counts.items():
        key = (kind or NONE) if kind in named else OTHER, state
        shown[key] = shown.get(key, 0) + count
    return shown
