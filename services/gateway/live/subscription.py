"""What one subscription asks for, and how far its reader has been brought."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from switchyard.events.errors import ForbiddenError
from switchyard.services.gateway.live.index import ANY, Key, LiveEvent, Pairs
from switchyard.services.gateway.live.messages import Subscribe

if TYPE_CHECKING:
    from switchyard.services.gateway.live.replay import Start
    from switchyard.services.gateway.live.session import Session


class Reader(Protocol):
    """Whose connection it is; the gateway's principal is one."""

    @property
    def tenant(self) -> str:
        """The tenant whose jobs may be seen."""

    @property
    def is_admin(self) -> bool:
        """Whether the jobs of every tenant may be seen."""


class Subscription:
    """What one subscription asks for, and how far its reader has been brought.

    Args:
        session: the connection that it belongs to.
        request: what the client sent.
    """

    def __init__(self, session: Session, request: Subscribe) -> None:
        self.session = session
        self.request = request
        self.id = request.id
        self.position = 0
        self.generation = 0
        self.caught_up = False
        self._begun: Start | None = None
        self.events = None if request.events is None else frozenset(request.events)
        self.jobs = None if request.jobs is None else frozenset(request.jobs)
        self.labels: Pairs | None = None if request.labels is None else frozenset(request.labels.items())
        self.scopes = self._scopes(session.reader)
        self.keys = self._keys(session.reader)
        # Everything that it may see: None where that is not limited.
        self.tenant = None if session.reader.is_admin else session.reader.tenant
        self.replay: asyncio.Task[None] | None = None

    def _keys(self, reader: Reader) -> tuple[Key, ...]:
        request = self.request
        if request.jobs:
            return tuple(("job", job_id) for job_id in dict.fromkeys(request.jobs))
        if self.labels:
            return tuple(("label", scope, *min(self.labels)) for scope in self.scopes)
        if request.kinds:
            scope = ANY if reader.is_admin else reader.tenant
            return tuple(("kind", scope, kind) for kind in dict.fromkeys(request.kinds))
        if request.tenants:
            return tuple(("tenant", tenant) for tenant in self.scopes)
        return (("all",),) if reader.is_admin else (("tenant", reader.tenant),)

    def _scopes(self, reader: Reader) -> tuple[str, ...]:
        """The tenants whose jobs it may get.

        Raises:
            ForbiddenError: it names one whose jobs its reader does not see.
        """
        for index, tenant in enumerate(self.request.tenants or ()):
            if tenant != reader.tenant and not reader.is_admin:
                raise ForbiddenError(
                    "only the role admin sees the jobs of other tenants", field=f"tenants[{index}]"
                )
        if self.request.tenants:
            return tuple(dict.fromkeys(self.request.tenants))
        return (ANY,) if reader.is_admin else (reader.tenant,)

    def begin(self, start: Start) -> None:
        """Go on from where its reader has come to."""
        self.position = start.position
        self.generation = self.session.feed.generation
        self._begun = start

    def cursor(self) -> str:
        """Where its reader can resume; until something has come since, by the reader's own cursor."""
        begun, feed = self._begun, self.session.feed
        if feed.generation == self.generation and begun is not None and begun.position == self.position:
            return begun.cursor or feed.cursor(self.position)
        return feed.cursor(self.position)

    def selects(self, job_id: str, tenant: str, kind: str, labels: Pairs | None) -> bool:
        """Whether it asks for this job; what `Index.find` answers for all subscriptions at once."""
        if self.labels is not None and (labels is None or not self.labels <= labels):
            return False
        return self.might_select(job_id, tenant, kind)

    def might_select(self, job_id: str, tenant: str, kind: str) -> bool:
        """Whether it asks for this job if that has the labels."""
        # Whose jobs these are was looked up; an event that cannot be read may not say.
        if self.jobs is not None:
            return job_id in self.jobs
        if self.tenant is not None and tenant != self.tenant:
            return False
        request = self.request
        if request.kinds is not None:
            return kind in request.kinds
        return request.tenants is None or tenant in request.tenants

    def wants(self, event: LiveEvent) -> bool:
        """Whether the reader is to get this event and has not got it yet."""
        return event.seq > self.position and (self.events is None or event.name in self.events)
