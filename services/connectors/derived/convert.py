"""What a document needs of the worker that converts it: the engine that its job names.

A worker declares, as `convert.engines`, the engines that may be asked now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from switchyard.events.requirements.matching import Clause
from switchyard.services.connectors.derived.needs import Derivation, Needs

ENGINES: Final = "convert.engines"
NAMES: Final = frozenset({"local", "mistral", "docling"})


def needs_of(payload: Mapping[str, Any]) -> Needs:
    """What a payload needs; nothing where it names no engine that there is."""
    engine = payload.get("engine")
    if not isinstance(engine, str) or engine not in NAMES:
        return Needs()
    return Needs(({ENGINES: {"$has": engine}},))


def words_of(clause: Clause) -> str | None:
    """The engine that a worker lacks, by name."""
    if clause.path != ENGINES or clause.operator != "$has" or not isinstance(clause.wanted, str):
        return None
    return f"the engine {clause.wanted}"


DERIVATION: Final = Derivation(needs_of, words_of)
