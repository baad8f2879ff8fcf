"""What is done with an attempt that a back end carries on: it is left there, renewed, and ended by its fence.

Workers, pushers and gateways all call this. Nobody holds such an attempt: whoever sees the back end at work
prolongs its lease, whoever hears of its end records that, and what comes late or twice changes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

import structlog

from switchyard.events.commands import AnyCommand, Delegate, LoseBackend, RenewDelegated
from switchyard.events.errors import ConflictError, UnavailableError
from switchyard.events.job import Job, decide
from switchyard.events.numbers import later
from switchyard.events.rules.backends import is_with
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services import clock
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.index import Index, Noted
from switchyard.services.dispatch.backends.stale import current
from switchyard.services.dispatch.limit_tokens import Tokens, grant_of
from switchyard.services.dispatch.places import PLACE_MARGIN_S, places_are_ours
from switchyard.services.dispatch.renewal import Interruption, judge
from switchyard.services.event_store import EventStore
from switchyard.services.settings import Settings

log = structlog.get_logger()

NOTE_MARGIN_S: Final = 60.0


class Source(NamedTuple):
    """Where a report comes from.

    Args:
        trace: a W3C trace context, or "".
        key: the id of the API key that it came with, or "".
        actor: who reports; "" for the back end itself, or whoever watches it.
    """

    trace: str = ""
    key: str = ""
    actor: str = ""


HERE: Final = Source()
NOBODY: Final = WorkerId("")


class Delegations:
    """Attempts of back ends, as the log has them.

    Args:
        store: the log.
        tokens: keeps and gives back their places under limits.
        index: notes which attempts are where.
        settings: the times.
    """

    def __init__(self, store: EventStore, tokens: Tokens, index: Index, settings: Settings) -> None:
        self._store = store
        self._tokens = tokens
        self._index = index
        self._settings = settings

    # --- Left

    async def delegate(
        self,
        claims: OutcomeClaims,
        before: Job,
        *,
        actor: str,
        watcher: WorkerId | None = None,
        source: Source = HERE,
    ) -> Job:
        """Leave an attempt to a back end, or note what that calls the work; again changes nothing.

        Args:
            claims: the attempt, its back end, and seconds from one sign of life to the next.
            before: the job as last known.
            actor: who leaves it.
            watcher: the worker that looks after it; others find it when that worker is gone. None where
                nobody is to find it: the back end calls back.
            source: where this comes from.

        Raises:
            ConflictError: the lease is gone, the job is to stop, or it has another back end or another id.
            UnavailableError: the broker does not answer; it may have been recorded.
        """
        now = clock.now()
        command = Delegate(
            now=now, fence=claims.fence, backend=claims.backend,
            expires_at=now + timedelta(seconds=claims.lease_s),
            attempt_timeout_s=self._settings.attempt_timeout_s,
        )  # fmt: skip
        if watcher is not None:
            decide(before, command)  # what is refused is not noted
            await self._index.note(claims, watcher, self._note_s(before))
        job, _ = await self._store.transition(
            before, command, actor=actor, trace=source.trace, key=source.key
        )
        is_held = before.lease is not None and before.lease.expires_at is None
        if is_held or job.seq != before.seq:
            await self.keep_places(claims, job, ours=is_held or places_are_ours(before))
        return job

    def _note_s(self, job: Job) -> float:
        """How long an entry is of use: no lease goes beyond the attempt's time."""
        now = clock.now()
        timeout_s = job.attempt_timeout_s or self._settings.attempt_timeout_s
        ends_at = later(job.started_at or now, timeout_s)
        return max(0.0, (ends_at - now).total_seconds()) + NOTE_MARGIN_S

    async def keep_places(self, claims: OutcomeClaims, job: Job, *, ours: bool = True) -> None:
        """Keep the places of an attempt under limits for as long as its lease lasts."""
        lease = job.lease
        if not ours or not claims.places or lease is None or lease.fence != claims.fence:
            return
        if lease.expires_at is not None:
            left_s = max(0.0, (lease.expires_at - clock.now()).total_seconds())
            await self._tokens.reserve(grant_of(claims.places), left_s + PLACE_MARGIN_S)

    async def note(self, claims: OutcomeClaims, job: Job) -> None:
        """Note an attempt, with its places, whose holder may come back to another gateway without them.

        Raises:
            UnavailableError: the broker does not answer, or has no room.
        """
        await self._index.note(claims, NOBODY, self._note_s(job))

    # --- Heard of

    async def load(self, claims: OutcomeClaims) -> Job:
        """The job, at least as it was when the lease was granted.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._store.load(claims.job, at_least=claims.fence)

    async def seen(self, claims: OutcomeClaims, before: Job, *, source: Source = HERE) -> Job:
        """The back end is at work: prolong the lease when half of its time is over.

        Raises:
            ConflictError: the job is damaged.
            UnavailableError: the broker does not answer.
        """
        now = clock.now()
        command = RenewDelegated(
            now=now, fence=claims.fence, backend=claims.backend,
            expires_at=now + timedelta(seconds=claims.lease_s),
            attempt_timeout_s=self._settings.attempt_timeout_s,
        )  # fmt: skip
        job, _ = await self._said(claims, before, command, source)
        if job.seq != before.seq:
            await self.keep_places(claims, job, ours=places_are_ours(before))
        return job

    async def look(
        self, claims: OutcomeClaims, before: Job, *, seen: bool
    ) -> tuple[Job, Interruption | None]:
        """Look how an attempt stands, as who watches it does again and again.

        Args:
            claims: the attempt.
            before: the job as last known.
            seen: whether the back end was seen at work since the last look.

        Returns:
            The job, and why to watch no more, if so: the job is to stop, or the attempt has ended.

        Raises:
            ConflictError: the job is damaged.
            UnavailableError: the broker does not answer; nothing is known.
        """
        job, why = await judge(self._store, before, claims.fence)
        if why is None and not is_with(job, claims.fence, claims.backend):
            why = Interruption.LOST
        if why is Interruption.LOST:
            return job, why
        if seen:
            job = await self.seen(claims, job)
        await self.keep_places(claims, job, ours=places_are_ours(job))
        return job, why

    async def end(
        self, claims: OutcomeClaims, before: Job, command: AnyCommand, *, source: Source = HERE
    ) -> tuple[Job, bool]:
        """Record how the attempt ended: the job then, and whether that was recorded, which it is once.

        Raises:
            ConflictError: the job is damaged.
            UnwritableError: the command holds a value that no reader could read.
            UnavailableError: the broker does not answer.
        """
        job, recorded = await self._said(claims, before, command, source)
        if recorded and claims.places and places_are_ours(before):  # else they may be another's by now
            await self._tokens.end(grant_of(claims.places), started=True)
        if recorded:
            await self.forget(claims)
        return job, recorded

    def lost(self, claims: OutcomeClaims) -> LoseBackend:
        """What ends the attempt when the back end is gone or knows nothing of it; nobody is to blame."""
        settings = self._settings
        return LoseBackend(
            now=clock.now(), fence=claims.fence, backend=claims.backend, blamed=False,
            poison_after=settings.poison_losses, innocent_max=settings.innocent_losses,
        )  # fmt: skip

    async def forget(self, claims: OutcomeClaims) -> None:
        """Take the entry of an attempt away that has ended, if there is one."""
        try:
            await self._index.forget(claims)
        except UnavailableError as error:
            log.info("backend_entry_left", job=claims.job, error=str(error))  # whoever meets it takes it away

    async def _said(
        self, claims: OutcomeClaims, before: Job, command: AnyCommand, source: Source
    ) -> tuple[Job, bool]:
        """The job after what was said of it, and whether that was recorded.

        It counts while the attempt is with that back end, and is passed over afterwards.
        """
        if before.damage is None and not is_with(before, claims.fence, claims.backend):
            before = await self.newest(before)
            if before.damage is None and not is_with(before, claims.fence, claims.backend):
                return before, False
        try:
            job, event = await self._store.transition(
                before, command, actor=source.actor or actor_of(claims.backend), trace=source.trace,
                key=source.key,
            )  # fmt: skip
        except ConflictError as error:
            if error.code == RefusalCode.DAMAGED:
                raise
            return await self.load(claims), False  # it has ended meanwhile
        return job, event is not None

    async def newest(self, job: Job) -> Job:
        """The job as the log's leader has it: a replica that lags does not know yet who has an attempt.

        Raises:
            UnavailableError: the broker does not answer.
        """
        seq = await self._store.leaders_seq(job.id)
        return job if seq <= job.seq else await self._store.load(job.id, at_least=seq)

    # --- Found again

    async def of(self, backend: Backend) -> list[Noted]:
        """What is noted for a back end, whether or not it is so.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._index.of(backend)

    async def noted(self, job: JobId, fence: Fence, backend: Backend) -> OutcomeClaims | None:
        """An attempt as it was noted for a back end; None where it was not.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._index.find(backend, job)
        return None if found is None or found.claims.fence != fence else found.claims

    async def current(self, noted: Noted) -> Job | None:
        """The job of an entry whose attempt is with its back end now; None where it is not.

        An entry of which nothing will come is taken away.

        Raises:
            UnavailableError: the broker does not answer.
        """
        job = await current(self._index, self._store, noted)
        # Else its worker is about to leave it there.
        return job if job is not None and job.damage is None and noted.is_left(job) else None

    async def take(self, noted: Noted, job: Job, watcher: WorkerId) -> bool:
        """Look after an attempt whose watcher is gone; False where somebody else was faster.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._index.take(noted, watcher, self._note_s(job))

    async def let_go(self, claims: OutcomeClaims, watcher: WorkerId) -> None:
        """Look after an attempt no more, though it has not ended: anybody may at once.

        Raises:
            UnavailableError: the broker does not answer.
        """
        noted = await self._index.find(claims.backend, claims.job)
        if noted is not None and noted.claims.fence == claims.fence and noted.watcher == watcher:
            await self._index.take(noted, NOBODY, self._note_s(await self.load(claims)))


def actor_of(backend: Backend) -> str:
    """A back end's name in the events that it causes."""
    return f"backend:{backend.kind}.{backend.id}"
