"""An attempt in the name of a server, as its pusher has it: kept, ended, or left to the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiohttp
import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events.commands import AnyCommand, Complete, ConfirmCancel, Fail, Release, RenewClaim
from switchyard.events.errors import ConflictError, SwitchyardError, UnavailableError, UnwritableError
from switchyard.events.rules.backends import is_with
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.access.outcome_tickets import OutcomeTokens
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.broker.reachability import Reachability
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.leasing import Lease, failed_by, jitter
from switchyard.services.dispatch.limit_tokens import Token, kept_while_running
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.push.fetching import OutputError
from switchyard.services.dispatch.push.report import Done
from switchyard.services.dispatch.renewal import Interruption, judge
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.dispatch.work import Work
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.pusher.calling import Answer, Broken, Request, Said
from switchyard.services.pusher.leasing import Answers, Fits
from switchyard.services.pusher.member import Member
from switchyard.services.pusher.profiles.protocol import Asked, Ref
from switchyard.services.pusher.profiles.stopping import stop
from switchyard.services.pusher.results import Results
from switchyard.services.pusher.slots import Slots
from switchyard.services.records.servers.condition import Outcome
from switchyard.services.records.servers.naming import backend_of
from switchyard.services.records.servers.record import Server
from switchyard.services.settings import Settings

log = structlog.get_logger()

SETTLE_PAUSE_S: Final = 0.5
HEARD_TRIES: Final = 20
HEARD_PAUSE_S: Final = 0.1
CALLED_BACK: Final = "called_back"
"""What a push came to whose attempt was ended by others, as a rule by the server's callback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all pushes of a pusher share.

    Args:
        me: the pusher, who looks after what it leaves to servers.
        callbacks: the URL under which a ticket is reported on.
        tickets: signs those.
        reporter: takes what is heard of attempts while their servers answer.
        passing: sends on to workers what no server here fits, and counts what was refused.
        failed: called with what a server did wrong.
        ended: called with what a push came to, and how long it took in seconds.
    """

    me: WorkerId
    nc: Client
    store: EventStore
    answers: Answers
    reach: Reachability
    picker: Picker
    slots: Slots
    credentials: ServerCredentials
    session: aiohttp.ClientSession
    delegations: Delegations
    tickets: OutcomeTokens
    results: Results
    files: Files
    reporter: Reporter
    settings: Settings
    callbacks: str
    fits: Fits
    passing: Passing
    failed: Callable[[Member, Outcome, int | None, float], None]
    ended: Callable[[str, float], None]


class Attempt:
    """A timed lease, and the slot and places that go with it.

    Args:
        means: the pusher's.
        lease: just granted.
        work: the delivery that it comes from.
        server: in whose name it is.
        slot: the token of its slot.
    """

    def __init__(self, means: Means, lease: Lease, work: Work, server: Server, slot: Token) -> None:
        self._means = means
        self._work = work
        self._server = server
        self._token: Token | None = slot
        self.lease = lease
        self.timeout_s = lease.spec.attempt_timeout_s or means.settings.attempt_timeout_s
        self.task = f"task-{lease.job.id}"
        """What the server knows the job as."""
        self.claims = self._claims_of(lease, slot)

    def _claims_of(self, lease: Lease, slot: Token) -> OutcomeClaims:
        if lease.job.lease is None:
            raise AssertionError("a push has a lease")
        grant = self._work.grant
        places = () if grant is None else tuple(kept_while_running(grant))
        return OutcomeClaims(
            job=lease.job.id, fence=lease.fence, attempt=lease.job.lease.attempt,
            worker=lease.job.lease.worker, tenant=lease.spec.tenant,
            lease_s=self._means.settings.timed_lease_s,
            places=(*places, slot.reply), backend=backend_of(*self._server.key),
            profile=self._server.profile,
        )  # fmt: skip

    async def renew(self) -> Interruption | None:
        """Keep the lease, the slot and the places; why to stop, if so."""
        means, lease, settings = self._means, self.lease, self._means.settings
        try:
            lease.job, why = await judge(means.store, lease.job, lease.fence)
            if why is not None:
                return why
            now = clock.now()
            ends_at = (lease.job.started_at or now) + timedelta(
                seconds=self.timeout_s + settings.cancel_grace_s
            )
            command = RenewClaim(
                now=now, fence=lease.fence,
                expires_at=min(now + timedelta(seconds=settings.timed_lease_s), ends_at),
            )  # fmt: skip
            lease.job, _ = await means.store.transition(lease.job, command, actor=self._actor)
            await means.delegations.keep_places(self.claims, lease.job)
        except UnavailableError as error:
            log.warning("renewal_failed", job=self.lease.job.id, error=str(error))
        except SwitchyardError as error:
            log.info("renewal_refused", job=self.lease.job.id, error=str(error))
            return Interruption.LOST
        return None

    @property
    def ref(self) -> Ref:
        """The attempt as profiles know it."""
        remote_id = self.claims.backend.remote_id
        job = self.lease.job
        return Ref(self._server, job.id, self.lease.fence, remote_id, job.kind)

    def request(self, asked: Asked, headers: Mapping[str, str]) -> Request:
        """A request with all headers that it needs."""
        sent = {**headers, "X-Request-Id": self.task, **asked.headers}
        if self._work.trace:
            sent["traceparent"] = self._work.trace
        return Request(asked.method, asked.url, sent, asked.body, asked.type)

    async def with_outputs(
        self, pushed: Callable[[], Awaitable[Answer]], headers: Mapping[str, str]
    ) -> Answer:
        """An answer whose files that are named by URL are stored; what cannot be fetched is a failure."""
        answer = await pushed()
        if not isinstance(answer, Said) or not isinstance(answer.report, Done) or not answer.report.links:
            return answer
        results, tenant = self._means.results, self.lease.spec.tenant
        try:
            while True:
                try:
                    done = await results.with_outputs(
                        self.ref,
                        tenant,
                        answer.report,
                        headers,
                        self._still_held,
                        erasable=self.lease.spec.erasable,
                        least_s=self.lease.spec.erase_s or 0.0,
                    )
                    return answer._replace(report=done)
                except UnavailableError as error:
                    log.warning("outputs_wait", job=self.lease.job.id, error=str(error))
                    await asyncio.sleep(SETTLE_PAUSE_S)
        except OutputError as error:
            return Broken(error.error, None)
        except SwitchyardError as error:
            code = getattr(error, "code", "invalid_result")
            return Broken(JobError(code, str(error), retryable=False), None)

    async def _still_held(self) -> None:
        """Refuse to store for an attempt that has ended: a webhook may have brought its end and files."""
        job, why = await judge(self._means.store, self.lease.job, self.lease.fence)
        if why is Interruption.LOST:
            raise ConflictError(f"the attempt of {job.id} has ended", code="lease_lost")

    async def complete(self, done: Done) -> str:
        """End it with a result; a word for what that came to, as from `end`."""
        while True:
            try:
                kept, artifacts = await self._means.results.kept(
                    self.lease.job.id,
                    self.lease.fence,
                    self.lease.spec.tenant,
                    done,
                    erasable=self.lease.spec.erasable,
                    least_s=self.lease.spec.erase_s or 0.0,
                )
            except UnavailableError as error:
                log.warning("result_waits", job=self.lease.job.id, error=str(error))
                if await self.renew() is Interruption.LOST:
                    return self.forgotten()
                await asyncio.sleep(SETTLE_PAUSE_S)
            except SwitchyardError as error:
                code = getattr(error, "code", "invalid_result")
                return await self.end(self.fails(JobError(code, str(error), retryable=False)), "not_kept")
            else:
                command = Complete(
                    now=clock.now(), fence=self.lease.fence, result=kept, artifacts=artifacts,
                    usage=done.usage,
                )  # fmt: skip
                return await self.end(command, "succeeded")

    async def leave(self, remote_id: str, headers: dict[str, str]) -> str:
        """Leave the attempt to the server, which calls back."""
        claims = self.claims
        backend = msgspec.structs.replace(claims.backend, remote_id=remote_id)
        self.claims = claims = msgspec.structs.replace(claims, backend=backend)
        while True:
            try:
                await self._means.delegations.delegate(
                    claims, self.lease.job, actor=self._actor, watcher=self._means.me
                )
            except UnavailableError as error:
                log.warning("delegation_waits", job=self.lease.job.id, error=str(error))
                await asyncio.sleep(SETTLE_PAUSE_S)
            except ConflictError as error:
                try:
                    self.lease.job, why = await judge(self._means.store, self.lease.job, self.lease.fence)
                except UnavailableError:
                    why = Interruption.LOST
                if why is Interruption.CANCEL:
                    return await self.cancelled(headers)
                log.info("push_ended_before", job=self.lease.job.id, code=error.code)
                return "called_back"
            else:
                return "accepted"

    async def stop_task(self, headers: dict[str, str]) -> None:
        """Ask the server to stop, where it knows of that."""
        await stop(self._means.session, self.ref, headers)

    def forgotten(self) -> str:
        """The attempt is over: whoever ended it has given its slot back, which may be another's by now."""
        self._token = None
        return CALLED_BACK

    async def cancelled(self, headers: dict[str, str]) -> str:
        """Have the server stop, and confirm it; what the server says afterwards changes nothing."""
        await self.stop_task(headers)
        await self._see_request()
        return await self.end(ConfirmCancel(now=clock.now(), fence=self.lease.fence), "cancelled")

    async def _see_request(self) -> None:
        """Read that the job is to stop, which can be heard before it is in the log."""
        for _ in range(HEARD_TRIES):
            with contextlib.suppress(UnavailableError):
                self.lease.job, why = await judge(self._means.store, self.lease.job, self.lease.fence)
                if why is not None:
                    return
            await asyncio.sleep(HEARD_PAUSE_S)

    # --- Its end

    @property
    def _actor(self) -> str:
        return f"worker:{self.claims.worker}"

    def fails(self, error: JobError) -> AnyCommand:
        """What ends it with a failure."""
        return Fail(now=clock.now(), fence=self.lease.fence, error=error, jitter=jitter())

    def releases(self, *, by_handler: bool = False) -> AnyCommand:
        """What gives it back uncounted."""
        return Release(now=clock.now(), fence=self.lease.fence, by_handler=by_handler, jitter=jitter())

    async def end(self, command: AnyCommand, word: str) -> str:
        """Record the end of the attempt however long the broker is away, and give its places back."""
        means, lease = self._means, self.lease
        while True:
            try:
                if is_with(lease.job, lease.fence, self.claims.backend):
                    job, recorded = await means.delegations.end(self.claims, lease.job, command)
                    if recorded:  # that has given its places back
                        self._token = None
                        return word
                else:
                    job, event = await means.store.transition(
                        lease.job, command, actor=self._actor, trace=self._work.trace
                    )
                    recorded = event is not None
            except UnwritableError as error:
                command = failed_by(error, lease.fence)
            except ConflictError as error:
                log.info("outcome_rejected", job=self.lease.job.id, fence=lease.fence, code=error.code)
                return self.forgotten()
            except UnavailableError as error:
                log.warning("outcome_waits", job=self.lease.job.id, error=str(error))
                await asyncio.sleep(SETTLE_PAUSE_S)
            else:
                if not recorded:
                    return self.forgotten()
                lease.job = job
                self._release_slot()
                if self._work.grant is not None:
                    await means.picker.tokens.end(self._work.grant, started=True)
                return word

    def _release_slot(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            self._means.slots.release(token)
