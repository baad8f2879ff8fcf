"""What all connections of a gateway at this door share: who is here, and what is held for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.gateway.app_keys import FRESHNESS, JOBS, SETTINGS
from switchyard.services.gateway.doors.emp import names
from switchyard.services.gateway.doors.emp.chunks import Budget
from switchyard.services.gateway.doors.emp.users import Users
from switchyard.services.gateway.live.messages import Item

KNOWN_JOBS: Final = 50_000
KNOWN_PEERS: Final = 10_000


class Here(Protocol):
    """A connection, as others see it; `EmpSession` is one."""

    id: str
    peer: Any
    """What speaks over it, by its role."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Tenant, role and id."""

    def say(self, item: Item) -> None:
        """Queue a message."""

    def end(self, code: int, reason: str) -> None:
        """Close it after what is queued was sent."""


class Known(NamedTuple):
    """What messages about a job need of it."""

    id: str
    type: str
    generation: str
    client: str
    worker: str


def known_of(job: Job) -> Known:
    """The same of a job."""
    labels = job.labels
    generation = labels.get(names.GENERATION, names.PYTHON)
    return Known(
        names.sent_id(job), names.type_of(job), generation, labels.get(names.CLIENT, ""), job.worker or ""
    )


class Hub:
    """The door's connections at this gateway.

    Args:
        app: what all doors share.
    """

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self.settings = app[SETTINGS]
        self.users = Users(self.settings)
        self.jobs = app[JOBS]
        self.budget = Budget(self.settings.emp_chunks_bytes)
        self.sessions: dict[tuple[str, str, str], list[Here]] = {}
        """By tenant, role and id; several where peers share an id."""
        self.listeners: set[Callable[[], object]] = set()
        """Called whenever a connection comes or goes, or what one says of itself changes."""
        self._known: OrderedDict[str, Known] = OrderedDict()
        self.started_at = clock.now()
        self.cursors: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        """Where peers that have gone resume when they come back."""

    # --- Who is here

    def join(self, session: Here) -> list[Here]:
        """Note a connection; those that have its id already."""
        there = self.sessions.setdefault(session.key, [])
        others = list(there)
        there.append(session)
        self.changed()
        return others

    def left_at(self, key: tuple[str, str, str], cursor: str | None) -> None:
        """Remember where a peer resumes."""
        if cursor is not None:
            self.cursors[key] = cursor
            self.cursors.move_to_end(key)
            if len(self.cursors) > KNOWN_PEERS:
                self.cursors.popitem(last=False)

    def leave(self, session: Here) -> None:
        """Forget a connection."""
        there = self.sessions.get(session.key, [])
        if session in there:
            there.remove(session)
            if not there:
                del self.sessions[session.key]
            self.changed()

    def ids(self, tenant: str, role: str) -> list[str]:
        """The ids of a tenant's connections in a role."""
        return [id_ for whose, what, id_ in self.sessions if whose == tenant and what == role]

    def of(self, tenant: str, role: str) -> list[Here]:
        """A tenant's connections in a role."""
        found = (
            there for (whose, what, _), there in self.sessions.items() if (whose, what) == (tenant, role)
        )
        return [session for there in found for session in there]

    def changed(self) -> None:
        """Something is different for monitors."""
        for listener in list(self.listeners):
            listener()

    # --- Jobs

    async def caught_up(self, seq: int) -> None:
        """Wait until the read model holds all events up to one.

        Raises:
            UnavailableError: it does not come so far in time.
        """
        await self.app[FRESHNESS].wait(seq)

    async def find(self, tenant: str, sent: object) -> Job:
        """The job that a client means by an id, as it is now.

        Raises:
            NotFoundError: there is none of this tenant.
            InvalidError: it cannot be an id.
            UnavailableError: the broker does not answer.
        """
        for job_id in names.candidates(tenant, sent):
            try:
                job = await self.jobs.current(job_id, tenant)
            except NotFoundError:
                continue
            self.note(job)
            return job
        raise NotFoundError(f"Job {sent} not found", field="job_id")

    def note(self, job: Job) -> Known:
        """Remember what messages about a job need of it."""
        known = self._known[job.id] = known_of(job)
        self._known.move_to_end(job.id)
        if len(self._known) > KNOWN_JOBS:
            self._known.popitem(last=False)
        return known

    def note_spec(self, job_id: str, spec: JobSpec) -> Known:
        """The same, of what a job's first event says."""
        return self.note(Job(id=JobId(job_id), kind=spec.kind, labels=spec.labels))

    def worked(self, job_id: str, worker: str) -> None:
        """Remember who runs a job, where anything is remembered of it."""
        known = self._known.get(job_id)
        if known is not None:
            self._known[job_id] = known._replace(worker=worker)

    def known(self, job_id: str) -> Known | None:
        """What is remembered of a job."""
        return self._known.get(job_id)

    async def learn(self, job_id: str, tenant: str | None) -> Known:
        """The same, looked up where it is not remembered.

        Raises:
            NotFoundError: there is no such job.
            UnavailableError: the broker does not answer.
        """
        return self._known.get(job_id) or self.note(await self.jobs.current(JobId(job_id), tenant))


HUB: Final = web.AppKey("emp_hub", Hub)
