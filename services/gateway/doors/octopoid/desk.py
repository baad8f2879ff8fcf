"""What one request at Octopoid's door needs: who calls, for which scope, and the parts it works with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from nats.aio.client import Client

from switchyard.events.errors import InvalidError
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.event_store import EventStore
from switchyard.services.gateway.app_keys import JOBS, LEASES, NATS
from switchyard.services.gateway.doors.octopoid.kept.cards import Cards
from switchyard.services.gateway.doors.octopoid.keys.scopes import ScopeKeys
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.leases import Leases
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records.entries.documents import Documents
from switchyard.services.settings import Settings

MAX_LISTED: Final = 500
DEFAULT_LISTED: Final = 50
MAX_CHARS: Final = 200
SYSTEM: Final = "octopoid"
"""The worker that moves tasks that nobody has claimed."""
_JOINT: Final = "__"
_REST: Final = "rest."

KEYS: Final = web.AppKey("octopoid_keys", ScopeKeys)
DOCUMENTS: Final = web.AppKey("octopoid_documents", Documents)
CARDS: Final = web.AppKey("octopoid_cards", Cards)
SCOPE: Final = web.RequestKey("octopoid_scope", str)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a request needs.

    Args:
        caller: whose tenant is the scope.
        scope: as its clients name it.
        documents: what a scope has beside jobs.
        jobs: the jobs that tasks are.
        leases: those of agents.
        nc: an open connection.
        cards: what lists of tasks go by.
    """

    caller: Caller
    scope: str
    documents: Documents
    jobs: Jobs
    leases: Leases
    nc: Client
    cards: Cards

    @property
    def tenant(self) -> str:
        """The scope's."""
        return self.caller.tenant

    @property
    def store(self) -> EventStore:
        """The log."""
        return self.jobs.store

    @property
    def submitter(self) -> Submitter:
        """Takes new jobs."""
        return self.jobs.submitter

    @property
    def settings(self) -> Settings:
        """Limits."""
        return self.jobs.settings

    @property
    def read_model(self) -> ReadModel:
        """The read model of this host."""
        return self.jobs.read_model

    @property
    def freshness(self) -> Freshness:
        """Waits for the read model."""
        return self.jobs.freshness


def desk_of(call: Call[Any]) -> Desk:
    """What a request of a scope needs."""
    return Desk(
        call.caller, call.request[SCOPE], call.part(DOCUMENTS), call.part(JOBS), call.part(LEASES),
        call.part(NATS), call.part(CARDS),
    )  # fmt: skip


def page_of(call: Call[Any], limit: int = DEFAULT_LISTED) -> tuple[int, int]:
    """Offset and limit of a list; this limit where none is asked for.

    Raises:
        InvalidError: one is no whole number.
    """
    values = []
    for name, default, most in (("offset", 0, 10**9), ("limit", limit, MAX_LISTED)):
        text = call.query.text(name)
        text = str(default) if text is None else text
        if not text.isascii() or not text.isdecimal() or len(text) > len(str(10**9)):
            raise InvalidError(f"{name}: a whole number was expected", field=name)
        values.append(min(int(text), most))
    return values[0], values[1]


def words(call: Call[Any], name: str) -> list[str] | None:
    """The values of a filter, separated by commas; None without the filter."""
    text = call.query.text(name)
    return text.split(",") if text else None


def now() -> str:
    """This moment, as Octopoid writes times."""
    return shown(clock.now()) or ""


def shown(at: datetime | None) -> str | None:
    """A time as Octopoid writes it: in UTC, to the millisecond, with a Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short(text: str | None) -> str | None:
    """Such a time to the second, with a blank and no zone, as Octopoid has those of its database."""
    return None if text is None else text[:19].replace("T", " ")


# --- Names of Octopoid's agents as workers and reviewers, from which they can be read back


def holder_of(orchestrator: str, agent: str) -> str:
    """A worker's name: both, with what may not stand in one written as `_` and two hex digits.

    Raises:
        InvalidError: they are too long.
    """
    name = _escaped(orchestrator) + _JOINT + _escaped(agent)
    if len(name) > MAX_CHARS:
        rule = f"with orchestrator_id {len(name)} characters as a worker's name, of at most {MAX_CHARS}"
        raise InvalidError(f"agent_name: {rule}", field="agent_name")
    return name


def parties_of(worker: str | None) -> tuple[str | None, str | None]:
    """Orchestrator and agent of a worker or reviewer; one that came by another door is the agent."""
    if worker is None:
        return None, None
    name = worker.rpartition(".")[2] if worker.startswith(_REST) else worker
    orchestrator, joint, agent = name.partition(_JOINT)
    return (_read(orchestrator), _read(agent)) if joint else (None, worker)


def is_system(worker: str | None) -> bool:
    """Whether nobody's agent, but this gateway or another holds the task, to move it."""
    return worker is not None and worker.endswith(f".{SYSTEM}")


def _escaped(text: str) -> str:
    def code(found: re.Match[str]) -> str:
        return "".join(f"_{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass"))

    return re.sub(r"[^A-Za-z0-9-]", code, text)


def _read(name: str) -> str:
    data = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), name.encode())
    return data.decode("utf-8", "replace")
