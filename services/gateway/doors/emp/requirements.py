"""What jobs of the TypeScript generation demand of a worker, in our requirement language.

There, a number means at least, a list that the worker has all of it, an object each of its keys, and another
value the same value. Keys may be dotted paths. `"all"` means no demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from switchyard.events.errors import InvalidError

HARDWARE: Final = "hardware"
MODELS: Final = "models"
ISOLATION: Final = "customer_isolation"
ACCESS: Final = "customer_access"
NEGATIVE: Final = "negative_requirements"
POSITIVE: Final = "positive_requirements"
NO_DEMAND: Final = "all"
ASIDE: Final = frozenset({HARDWARE, MODELS, ISOLATION, NEGATIVE, POSITIVE, "service_type", "timeout_minutes"})
"""Keys that are not compared with a capability of their name."""
FILTERS: Final = frozenset({"component", "workflow"})
"""Keys that may say `all`, too."""


def requires_of(requirements: Mapping[str, Any], service: str, customer: str | None) -> dict[str, Any]:
    """The requirement of a job.

    Args:
        requirements: as its client wrote it.
        service: the job's type, whose models are meant.
        customer: whose job it is, for workers that serve only some.

    Raises:
        InvalidError: a part of it has another form.
    """
    positive = _object(requirements.get(POSITIVE, requirements), POSITIVE)
    clauses = list(_positive(positive, service, customer))
    for key, wanted in _object(requirements.get(NEGATIVE, {}), NEGATIVE).items():
        unwanted = _each(key, wanted) if isinstance(wanted, dict) else iter([_compared(key, wanted)])
        if key == HARDWARE:
            clauses += [{"$not": one} for one in unwanted]
        else:
            clauses.append({"$not": _together(list(unwanted))})
    return _together(clauses)


def _positive(wanted: Mapping[str, Any], service: str, customer: str | None) -> Iterator[dict[str, Any]]:
    for key, value in _object(wanted.get(HARDWARE, {}), HARDWARE).items():
        if value != NO_DEMAND:
            yield _compared(f"{HARDWARE}.{key}", value)
    models = wanted.get(MODELS, NO_DEMAND)
    if isinstance(models, list) and models:
        yield {f"{MODELS}.{service}": {"$all": models}}
    elif models not in (NO_DEMAND, [], None):
        raise InvalidError('requirements.models: a list or "all" was expected', field="requirements.models")
    yield from _isolation(wanted.get(ISOLATION), customer)
    for key, value in wanted.items():
        if key in ASIDE or value is None or (key in FILTERS and value == NO_DEMAND):
            continue
        yield from _each(key, value) if isinstance(value, dict) else iter([_compared(key, value)])


def _isolation(isolation: Any, customer: str | None) -> Iterator[dict[str, Any]]:
    if isolation is None:
        return
    if isolation not in ("strict", "loose", "none"):
        field = f"requirements.{ISOLATION}"
        raise InvalidError(f"{field}: strict, loose or none was expected", field=field)
    if isolation == "strict":
        yield {f"{ACCESS}.isolation": {"$eq": "strict"}}
    if customer:
        allowed = f"{ACCESS}.allowed_customers"
        yield {"$or": [{allowed: {"$exists": False}}, {allowed: {"$all": [customer]}}]}
        yield {"$not": {f"{ACCESS}.denied_customers": {"$any": [customer]}}}


def _each(key: str, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in wanted.items():
        if isinstance(value, dict):
            yield from _each(f"{key}.{name}", value)
        else:
            yield _compared(f"{key}.{name}", value)


def _compared(key: str, wanted: Any) -> dict[str, Any]:
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return {key: {"$gte": wanted}}
    if isinstance(wanted, list):
        return {key: {"$all": wanted}} if wanted else {key: {"$exists": True}}
    return {key: wanted}


def _together(clauses: list[dict[str, Any]]) -> dict[str, Any]:
    if len(clauses) > 1:
        return {"$and": clauses}
    return clauses[0] if clauses else {}


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidError(f"requirements.{name}: an object was expected", field=f"requirements.{name}")
    return value
