"""One timed lease: the rules for a delivery are those of every worker, what it begins with is a claim's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

from nats.aio.client import Client

from switchyard.events.commands import AnyCommand, Claim
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.puller import Puller
from switchyard.services.broker.reachability import Reachability
from switchyard.services.dispatch.leasing import DeclinedError, Leasing
from switchyard.services.dispatch.limit_tokens import Grant
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.places import PLACE_MARGIN_S
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.idempotency import Intent, Key
from switchyard.services.dispatch.work import Work
from switchyard.services.event_store import EventStore
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings

Offer = Callable[[Job], Awaitable[bool]]
"""Whether a worker takes a job that fits it; asked once, for less than a delivery may stay unanswered."""


def attempt_s(job: Job, settings: Settings) -> float:
    """Seconds that an attempt of the job may take."""
    return job.attempt_timeout_s or settings.attempt_timeout_s


def places_of(grant: Grant | None) -> tuple[str, ...]:
    """The places under limits of a grant, as a lease names them."""
    return () if grant is None else tuple(token.reply for token in grant.tokens if not token.is_start)


class Answers(Puller[Work]):
    """Answers deliveries; a job that was not delivered has none."""

    async def answer(self, delivery: Work, kind: bytes, *, delay_s: float = 0.0) -> None:
        """Answer it."""
        if delivery.reply:
            await super().answer(delivery, kind, delay_s=delay_s)


class Parts(NamedTuple):
    """What the claims of a gateway share."""

    nc: Client
    store: EventStore
    publisher: Publisher
    answers: Answers
    reach: Reachability
    claims: Claims
    settings: Settings
    lacking: Lacking
    passing: Passing


class TimedLeasing(Leasing):
    """Takes one timed lease.

    Args:
        parts: those of the gateway.
        found: the job.
        lease_s: seconds of the lease.
        key: the claim's idempotency key, if it has one.
        by: the id of the API key that the worker came with, or "".
        offer: asks for the worker's word; None where none is needed.
    """

    def __init__(
        self,
        parts: Parts,
        found: Work,
        lease_s: float,
        key: Key | None,
        by: str,
        offer: Offer | None = None,
    ) -> None:
        super().__init__(parts.nc, parts.store, parts.answers, parts.reach, parts.settings, parts.passing)
        self._parts = parts
        self.lacking = parts.lacking
        self._grant = found.grant
        self._lease_s = lease_s
        self._key = key
        self._offer = offer
        self._is_reserved = False
        self.has_passed_on = False
        self.is_unfit = False
        self.api_key = by
        self.intent: Intent | None = None

    async def pass_on(self, work: Work, worker: WorkerId, tenant: str, demand: LaneKey) -> bool:
        """Give the job to another claim of this gateway that waits and whose worker fits, else to others."""
        self.is_unfit = True
        self.has_passed_on = self._parts.claims.pass_on(work, tenant, demand)
        return self.has_passed_on or await super().pass_on(work, worker, tenant, demand)

    async def begin(self, job: Job, record: WorkerRecord) -> AnyCommand:
        """Keep the places for the lease, write down the key's intent, then claim.

        Raises:
            DeclinedError: the worker does not take the job.
            VersionConflictError: another claim with the same key is under way.
        """
        offer, self._offer = self._offer, None
        if offer is not None and not await offer(job):
            raise DeclinedError
        settings = self._parts.settings
        lease_s = min(self._lease_s, attempt_s(job, settings) + settings.cancel_grace_s)
        if not self._is_reserved and self._grant is not None:
            await self._parts.claims.tokens.reserve(self._grant, lease_s + PLACE_MARGIN_S)
        self._is_reserved = True
        now = clock.now()
        expires_at = now + timedelta(seconds=lease_s)  # of the attempt's time nothing goes to other writers
        self.intent = Intent(
            "" if self._key is None else self._key.request,
            record.id, record.revision, job.id, job.seq, expires_at, places_of(self._grant),
        )  # fmt: skip
        if self._key is not None:
            await self._key.write(self._parts.publisher, self.intent)
        return Claim(now=now, worker=record.id, revision=record.revision, expires_at=expires_at)
