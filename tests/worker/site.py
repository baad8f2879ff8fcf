"""A broker, a log and workers of this process, with a connector that does what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pydantic

from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.values import JobSpec
from switchyard.services.connectors.protocol import Attempt, Outcome
from switchyard.services.ids import new_id
from tests import site
from tests.site import DEADLINE_S as DEADLINE_S  # noqa: PLC0414 -- of all who use this site

Handler = Callable[[Attempt], Awaitable[Any]]


class AnyPayload(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class TestConnector:
    """Runs `handler`; notes what it started, in order."""

    __test__ = False
    payload_model: type[pydantic.BaseModel] = AnyPayload

    def __init__(
        self, handler: Handler, kind: str = "simulate", *, name: str | None = None, slots: int | None = None
    ) -> None:
        self.id = name or kind
        self.kind = kind
        self.slots = slots
        self.handler = handler
        self.started: list[Any] = []
        self.stopped: list[str] = []
        self.extra: dict[str, Any] = {}

    def capabilities(self) -> dict[str, Any]:
        return {self.kind: True} | self.extra

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def run(self, attempt: Attempt) -> Outcome:
        self.started.append(attempt.payload.get("n"))
        try:
            return Outcome(await self.handler(attempt))
        finally:
            self.stopped.append(attempt.job_id)

    async def close(self) -> None:
        return


class Site(site.Site):
    """What a test of workers needs, on one broker."""

    @property
    def url(self) -> str:
        """The address of the broker."""
        return self.nats_url

    async def submit(self, n: Any = None, *, kind: str = "simulate", **fields: Any) -> str:
        """Append `submitted`; the job's id."""
        fields.setdefault("payload", {"n": n})
        key = LaneKey(kind, fields.get("requires", {}), fields.get("prefers", {}))
        spec = JobSpec(kind=kind, tenant="acme", lane=lane_id(key), **fields)
        await self.lanes.ensure(key, spec.lane, spec.priority)
        command = Submit(now=datetime.now(UTC), job=spec)
        job, _ = await self.store.transition(Job(id=new_id()), command, actor="user:ann")
        return job.id


@asynccontextmanager
async def open_site(url: str, **settings: Any) -> AsyncIterator[Site]:
    """A site whose leases and graces are short."""
    values = {"lease_s": 1.5, "drain_grace_s": 0.2, "cancel_grace_s": 1.0} | settings
    async with site.opened(Site, url, **values) as found:
        yield found
