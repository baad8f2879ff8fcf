"""What a worker says of itself, as a claim has it: job types as kinds, sizes in words as numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import InvalidError
from switchyard.services.access.principal import Caller
from switchyard.services.dispatch.rest.asked import MAX_KINDS, EmpRequest, WorkerName, worker_id
from switchyard.services.gateway.doors.emp import names

SHOWN_CHARS: Final = 40
GIB: Final = 1024**3
_SIZE: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*(k|m|g|t)?i?b?\s*", re.IGNORECASE)
_IN_GB: Final = {"": 1 / GIB, "k": 1 / 1024**2, "m": 1 / 1024, "g": 1, "t": 1024}
APART: Final = frozenset({"connector_statuses", "job_id"})
"""What a status has among the capabilities and is none: it changes with every look."""


class Card(NamedTuple):
    """What a worker offers.

    Args:
        types: by kind, the type of jobs as the worker knows it.
        capabilities: what jobs find.
    """

    types: dict[str, str]
    capabilities: dict[str, Any]


def card_of(said: object) -> Card:
    """The card of a worker with these capabilities.

    Raises:
        InvalidError: they are no object, or name no job types.
    """
    if not isinstance(said, dict):
        raise InvalidError("capabilities: an object was expected", field="capabilities")
    named = said.get("supported_job_types")
    if not isinstance(named, list) or not 0 < len(named) <= MAX_KINDS:
        rule = f"a list of 1 to {MAX_KINDS} job types was expected"
        raise InvalidError(f"supported_job_types: {rule}", field="supported_job_types")
    types: dict[str, str] = {}
    for each in named:
        if not isinstance(each, str):
            raise InvalidError("supported_job_types: texts were expected", field="supported_job_types")
        types.setdefault(names.kind_of(each), each)
    found = {name: value for name, value in said.items() if name not in APART}
    return Card(types, _with_sizes(found))


def _with_sizes(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the memory as a number, where jobs of either generation look for it."""
    found = dict(said)
    size_gb = size_in_gb(found.get("memory"))
    if size_gb is not None:
        for group, name in (("ram", "total_gb"), ("hardware", "ram_gb")):
            known = found.get(group, {})
            if isinstance(known, dict) and name not in known:
                found[group] = {**known, name: size_gb}
    return found


def size_in_gb(said: object) -> float | int | None:
    """A size such as `16GB` in GiB; None for what is none."""
    match = _SIZE.fullmatch(said) if isinstance(said, str) else None
    if match is None:
        return None
    size = float(match[1]) * _IN_GB[(match[2] or "").lower()]
    return int(size) if size.is_integer() else round(size, 3)


def name_of(id_: str) -> str:
    """What a worker is called among ours: its id where that can be a name, else what is like it."""
    try:
        return msgspec.convert(id_, WorkerName)
    except msgspec.ValidationError:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", id_).strip("-_")[:SHOWN_CHARS]
        return f"{plain or 'worker'}-{hashlib.sha256(id_.encode()).hexdigest()[:12]}"


def request_of(id_: str, card: Card, *, lease_s: float, wait_s: float) -> EmpRequest:
    """The claim of a worker for one job."""
    return EmpRequest(
        worker=name_of(id_), kinds=sorted(card.types), capabilities=card.capabilities, lease_s=lease_s,
        slots=1, wait_s=wait_s,
    )  # fmt: skip


def full_id(caller: Caller, id_: str) -> str:
    """A worker's name among all workers."""
    return worker_id(caller, EmpRequest(worker=name_of(id_)))
