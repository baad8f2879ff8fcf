"""Timed leases in the names of servers: what a pusher holds while it pushes, and leaves to the server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Claim
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services import clock
from switchyard.services.broker.puller import Puller
from switchyard.services.broker.reachability import Reachability
from switchyard.services.dispatch.leasing import Leasing
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.places import PLACE_MARGIN_S
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.event_store import EventStore
from switchyard.services.records.lanes import demand_of
from switchyard.services.records.workers import AVOID_S, WorkerRecord
from switchyard.services.settings import Settings

Fits = Callable[[LaneKey, str], bool]


class Answers(Puller[Work]):
    """Answers deliveries; a job that was not delivered has none."""

    async def answer(self, delivery: Work, kind: bytes, *, delay_s: float = 0.0) -> None:
        """As `Puller.answer`."""
        if delivery.reply:
            await super().answer(delivery, kind, delay_s=delay_s)


def answers_of(nc: Client, settings: Settings) -> Answers:
    """What answers the deliveries of a pusher."""
    return Answers(
        nc, subjects.WORK, parse_work, timeout_s=settings.request_timeout_s, stray=lambda _: None,
        refused=lambda: None,
    )  # fmt: skip


class ServerLeasing(Leasing):
    """Takes one timed lease for a server; the rules for a delivery are those of every worker.

    Args:
        work: what was found.
        tokens: keep its places under limits.
        fits: whether another server than the one named, which has room, may run the jobs of a lane.
        passing: sends on to workers what the server does not fit, for all servers of the pusher.
    """

    def __init__(
        self,
        nc: Client,
        store: EventStore,
        answers: Answers,
        reach: Reachability,
        settings: Settings,
        *,
        work: Work,
        tokens: Tokens,
        fits: Fits,
        passing: Passing,
    ) -> None:
        super().__init__(nc, store, answers, reach, settings, passing)
        self._work = work
        self._tokens = tokens
        self._fits = fits
        self._lease_s = settings.timed_lease_s
        self._attempt_s = settings.attempt_timeout_s
        self._grace_s = settings.cancel_grace_s

    async def begin(self, job: Job, record: WorkerRecord) -> AnyCommand:
        """Keep the places for the lease, then claim."""
        lease_s = min(self._lease_s, (job.attempt_timeout_s or self._attempt_s) + self._grace_s)
        if self._work.grant is not None:
            await self._tokens.reserve(self._work.grant, lease_s + PLACE_MARGIN_S)
        now = clock.now()
        return Claim(
            now=now, worker=record.id, revision=Revision(0), expires_at=now + timedelta(seconds=lease_s)
        )

    async def _another_fits(self, job: Job, spec: JobSpec, worker: WorkerId) -> bool:
        """Whether the job was queued lately and another server that has room may take it."""
        queued_at = job.queued_at or clock.now()
        if (clock.now() - queued_at).total_seconds() > AVOID_S:
            return False
        return self._fits(demand_of(spec, job.lane), worker)
