"""What each worker and server is to a job that waits: whether it fits, and what it lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import Clause, explain
from switchyard.services.connectors.derived.needs import lacks
from switchyard.services.connectors.registry import in_words
from switchyard.services.dispatch.models.prospects import NOTHING, Outlook, Shelf, outlook
from switchyard.services.records.back_ends import Down, down_of
from switchyard.services.records.workers import UNREGISTERED, WorkerRecord

SHOWN_WORKERS: Final = 100
SHOWN_VALUES: Final = 5
SHOWN_CHARS: Final = 300
RUNNING: Final = "running"


class LimitUse(NamedTuple):
    """A limit of the job's lane with what is taken of it."""

    name: str
    concurrency: int | None
    running: int
    per_minute: int | None
    starts_left: bool

    @property
    def is_full(self) -> bool:
        """Whether it holds up the next start."""
        return not self.starts_left or (self.concurrency is not None and self.running >= self.concurrency)


class Situation(NamedTuple):
    """What surrounds a waiting job.

    Args:
        key: what its lane is made of.
        ahead: how many jobs of its lane go before it.
        workers: all that are alive.
        limits: those of its lane.
        paused: `lane` or `kind`, where an operator has paused it.
        parents: state by id of the jobs that it waits for.
        now: the time.
        held: why no job starts, where the event log is too full.
        notes: by the id of a prediction server, why it is given nothing, where that is so.
        shelf: what is known of model files that workers may fetch.
    """

    key: LaneKey
    ahead: int
    workers: Sequence[WorkerRecord]
    limits: Sequence[LimitUse] = ()
    paused: Sequence[str] = ()
    parents: Mapping[str, str] = {}
    now: datetime | None = None
    held: str | None = None
    notes: Mapping[str, str] = {}
    shelf: Shelf = NOTHING


class Verdict(StrEnum):
    """What a worker is to a lane, the nearest first; another state of a worker stands for itself."""

    FREE = "free"
    BUSY = "busy"
    PAUSED = "paused"
    BACK_END_DOWN = "back_end_down"
    UNREGISTERED = UNREGISTERED
    DRAINING = "draining"
    DOES_NOT_FIT = "does_not_fit"
    EXCLUDED = "excluded"
    ISOLATION = "isolation"
    OTHER_KIND = "other_kind"


FITS: Final = (
    Verdict.FREE, Verdict.BUSY, Verdict.PAUSED, Verdict.BACK_END_DOWN, Verdict.UNREGISTERED,
)  # fmt: skip


class Judged(NamedTuple):
    """One worker's answer to a lane; `outlook` where files are all that it lacks."""

    record: WorkerRecord
    verdict: str
    message: str
    clauses: tuple[Clause, ...]
    outlook: Outlook | None = None


def verdict_on(record: WorkerRecord, situation: Situation, tenant: str) -> Judged:
    """What a worker is to a job of a tenant."""
    key = situation.key
    if key.kind not in record.kinds:
        return Judged(record, Verdict.OTHER_KIND, f"it does not run {key.kind}", ())
    if tenant in record.excluded:
        return Judged(record, Verdict.EXCLUDED, "it excludes your tenant", ())
    if not (record.admitted(key) and record.runs_for(tenant)):
        return Judged(record, Verdict.ISOLATION, _not_admitted(record, key, tenant), ())
    abilities = record.abilities(key.kind)
    found = [tuple(explain(key.requires, each)) for each in abilities]
    downs = [down_of(key.kind, each) for each in abilities]
    if record.state == RUNNING and (said := _down(key.kind, found, downs)):
        return Judged(record, Verdict.BACK_END_DOWN, said, ())
    if clauses := min(found, key=len):  # of several connectors, the one that is nearest
        clauses = tuple(in_words(key.kind, clause) for clause in clauses)
        message = "; ".join(clause.message for clause in clauses)
        near = outlook(record, key, situation.shelf, (tenant,))
        if near is not None:
            message = f"{message}; {near.message}"
        return Judged(record, Verdict.DOES_NOT_FIT, message, clauses, near)
    if record.state != RUNNING:
        message = situation.notes.get(record.id, f"it fits, but is {record.state}")
        return Judged(record, record.state, message, ())
    why = _said_by_back_ends(record, key.kind)
    if not record.has_free_slot:
        return Judged(
            record, Verdict.BUSY, f"it fits, and all of its {record.slots} slots are taken{why}", ()
        )
    return Judged(record, Verdict.FREE, f"it fits and has a free slot{why}", ())


def _said_by_back_ends(record: WorkerRecord, kind: str) -> str:
    """Why its back ends of a kind take less than they could, where its connectors declare that."""
    said = [each.get(kind) for each in record.abilities(kind)]
    found = {why for each in said if isinstance(each, dict) and isinstance(why := each.get("why"), str)}
    return f"; {kind}: {', '.join(sorted(found))[:SHOWN_CHARS]}" if found else ""


def _down(kind: str, found: Sequence[tuple[Clause, ...]], downs: Sequence[Down | None]) -> str:
    """What is said where all connectors that fit, or may fit, have a back end that is down; else ""."""
    fitting = [down for clauses, down in zip(found, downs, strict=True) if not clauses]
    if fitting:
        shown = [f"its {down}" for down in fitting if down is not None]
        return f"it fits, but {'; '.join(shown[:SHOWN_VALUES])}" if len(shown) == len(fitting) else ""
    # What such a server has is not known as long as it was not seen up.
    for clauses, down in zip(found, downs, strict=True):
        if down is not None and all(one.missing and one.path.startswith(f"{kind}.") for one in clauses):
            return f"its {down}, and what it has is not known"
    return ""


def _not_admitted(record: WorkerRecord, key: LaneKey, tenant: str) -> str:
    """Why a worker that runs the kind stays out of a lane; those that share it are not named."""
    if record.tenant is not None:
        return f"it is dedicated to tenant {record.tenant}"
    if not record.runs_for(tenant):
        return "it serves other tenants alone"
    return f"the job is isolated: {key.isolation}"


ORDER: Final = tuple(Verdict)


def nearness(verdict: Judged) -> tuple[int, int, str]:
    """By which verdicts are sorted: who fits best comes first."""
    place = ORDER.index(verdict.verdict) if verdict.verdict in ORDER else len(ORDER)
    return place, len(verdict.clauses), verdict.record.id


def view(verdict: Judged) -> dict[str, Any]:
    """A verdict as an answer shows it."""
    failed: list[dict[str, Any]] = msgspec.to_builtins(verdict.clauses)
    return {
        "id": verdict.record.id,
        "verdict": verdict.verdict,
        "message": verdict.message,
        "failed": failed,
        "slots": verdict.record.slots,
        "running": len(verdict.record.fences),
    }


def nearest_miss(verdicts: Sequence[Judged]) -> dict[str, Any] | None:
    """The one clause whose change would let the most workers in, as long as no worker fits."""
    if any(verdict.verdict in FITS for verdict in verdicts):
        return None
    groups: dict[tuple[str, str, str], list[Judged]] = defaultdict(list)
    for verdict in verdicts:
        if len(verdict.clauses) == 1:
            clause = verdict.clauses[0]
            groups[clause.path, clause.operator, lacks(clause)].append(verdict)
    if not groups:
        return None
    (path, operator, words), members = max(groups.items(), key=lambda group: (len(group[1]), group[0]))
    clauses = [member.clauses[0] for member in members]
    wanted = clauses[0].wanted
    found = [] if words else [clause.found for clause in clauses if not clause.missing]
    change = _change(operator, found) if len(found) == len(clauses) else None
    count = f"{len(members)} worker{'s' if len(members) > 1 else ''}"
    shown = f"{path} {_SIGNS.get(operator, operator)} {_json(wanted)}" if path else "the alternatives"
    would = f"were {_SIGNS.get(operator, operator)} {_json(change)}"
    would = "were not required" if change is None else would
    return {
        "workers": [member.record.id for member in members[:SHOWN_WORKERS]],
        "path": path,
        "operator": operator,
        "wanted": wanted,
        "found": found[:SHOWN_VALUES],
        "change_to": change,
        "message": f"{count} would fit {words or f'if {shown} {would}'}",
    }


_SIGNS: Final = {"$eq": "=", "$ne": "≠", "$gt": ">", "$gte": "≥", "$lt": "<", "$lte": "≤"}


def _change(operator: str, found: Sequence[Any]) -> Any:
    """The operand with which all of these values would do, if there is one."""
    comparable = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
    match operator:
        case "$gte" if comparable:
            return min(found)
        case "$lte" if comparable:
            return max(found)
        case "$eq" if all(value == found[0] for value in found) and not isinstance(found[0], (list, dict)):
            return found[0]
        case _:
            return None


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
