"""What prediction servers say of the tasks that they carry on, in the forms of their own protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from switchyard.events.errors import ConflictError, InvalidError, RejectedError
from switchyard.events.job import Job
from switchyard.events.values import Backend, JobError, Status
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Caller
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.access.server_credentials import ServerCredentials, origins_of
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.delegations import Delegations, Source, actor_of
from switchyard.services.dispatch.push.fetching import Coming, OutputError, fetched
from switchyard.services.dispatch.push.forms import form_of, options_of
from switchyard.services.dispatch.push.report import (
    Done,
    Failed,
    Heard,
    OutputFile,
    Report,
    Running,
    Stopped,
)
from switchyard.services.dispatch.rest.stale import StaleLeaseError
from switchyard.services.gateway.http.uploads import Upload
from switchyard.services.gateway.operations.backends import Backends
from switchyard.services.gateway.operations.outcomes import Outcomes, reference
from switchyard.services.gateway.operations.servers.lines import RepeatedLines
from switchyard.services.records.servers.naming import BACKEND_KIND, backend_of, server_of
from switchyard.services.records.servers.store import Servers
from switchyard.services.settings import Settings

log = structlog.get_logger()

PUSHER_S: Final = 2.0
"""How long a report without a ticket waits for the pusher that is about to leave the attempt to its server:
it knows the slot that the attempt has."""
PAUSE_S: Final = 0.1
LARGE_AT_ONCE: Final = 8
"""Callbacks of more bytes than other bodies may have that are read at the same time."""


class Callbacks:
    """Takes them, at any gateway, again, and late.

    Args:
        backends: takes what is heard of attempts that back ends carry on.
        delegations: leaves an attempt to a server of which is heard before its pusher could.
        servers: the registry.
        credentials: opens those of servers, for files that they keep themselves.
        outcomes: keeps log lines.
        settings: limits.
    """

    def __init__(
        self,
        backends: Backends,
        delegations: Delegations,
        servers: Servers,
        credentials: ServerCredentials,
        outcomes: Outcomes,
        settings: Settings,
    ) -> None:
        self._servers = servers
        self._credentials = credentials
        self._fetching: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._lines = RepeatedLines(outcomes, settings.job_log_lines)
        self._settings = settings
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._backends = backends
        self._delegations = delegations

    def claims(self, token: str) -> OutcomeClaims:
        """What a token says.

        Raises:
            UnauthenticatedError: it is none, or none of a prediction server.
        """
        claims = self._backends.claims(token)
        if claims.backend.kind != BACKEND_KIND:
            raise UnauthenticatedError("the token is no prediction server's", code="outcome_token_invalid")
        return claims

    async def report(self, caller: Caller, claims: OutcomeClaims, raw: bytes) -> Job:
        """Take a callback: the job then. What comes again or after the attempt's end changes nothing.

        Raises:
            InvalidError: it is not in the form of the server's profile.
            NotFoundError: the form is in the options of a server that is gone.
            RejectedError: the job is damaged, or its tenant may keep no more.
            UnavailableError: the broker does not answer.
        """
        heard = await self._heard(claims, raw)
        job = await self.leave(caller, claims, heard.remote_id)
        if heard.lines and job.lease is not None and job.lease.fence == claims.fence:
            await self._lines.keep(job, claims.fence, heard.lines)
        return await self.take(caller, claims, heard.report)

    def most_bytes(self, claims: OutcomeClaims) -> int:
        """How many bytes a callback may have."""
        settings = self._settings
        return settings.push_files_bytes if form_of(claims.profile).has_files else settings.body_bytes

    @contextlib.asynccontextmanager
    async def room(self, claims: OutcomeClaims, size_bytes: int | None) -> AsyncIterator[None]:
        """Where a body is large, or does not say how large, wait until few others are."""
        if self.most_bytes(claims) <= self._settings.body_bytes or (
            size_bytes is not None and size_bytes <= self._settings.body_bytes
        ):
            yield
            return
        async with self._large:
            yield

    async def too_large(self, caller: Caller, claims: OutcomeClaims) -> None:
        """A callback has too many bytes; where the server would send nothing else, the attempt ends of that.

        Raises:
            RejectedError: the job is damaged.
            UnavailableError: the broker does not answer.
        """
        if form_of(claims.profile).has_files:
            message = f"it called back with more than {self.most_bytes(claims)} bytes"
            await self.leave(caller, claims, "")
            await self._backends.fail(caller, claims, JobError("answer_too_large", message))

    async def _heard(self, claims: OutcomeClaims, raw: bytes) -> Heard:
        """What a callback says, as the profile has it, or the server's options."""
        form = form_of(claims.profile)
        if form.read_by is None:
            return form.read(raw, claims)
        key = server_of(claims.worker)
        if key is None:
            raise InvalidError("the ticket names no server")
        found = self._servers.find(*key) or await self._servers.get(*key)
        if found.server.profile != claims.profile:
            raise InvalidError(f"the server is of profile {found.server.profile} now", field="profile")
        return form.read_by(raw, options_of(claims.profile, found.server.options))

    async def take(self, caller: Caller, claims: OutcomeClaims, found: Report) -> Job:
        """Take what a server says of an attempt that is left to it; raises as `report`."""
        match found:
            case Running(progress=progress):
                return await self._backends.seen(caller, claims, progress)
            case Done():
                return await self._succeed(caller, claims, found)
            case Failed(error=error):
                return await self._backends.fail(caller, claims, error)
            case Stopped():
                return await self._backends.stopped(caller, claims)

    async def _succeed(self, caller: Caller, claims: OutcomeClaims, done: Done) -> Job:
        """Take a result and its files; what cannot be kept, and will not come otherwise, is a failure."""
        try:
            done = await self._with_outputs(claims, done)
            for file in done.files:
                opened = partial(_opened, file)
                await self._backends.artifact(claims, file.name, opened, announced=len(file.data))
            names = [file.name for file in done.files] + [one["name"] for one in done.stored]
            return await self._backends.succeed(
                caller, claims, result=done.result, artifacts=names, usage=done.usage
            )
        except StaleLeaseError:
            return await self._delegations.load(claims)
        except OutputError as error:
            log.info("output_not_fetched", job=claims.job, code=error.error.code)
            return await self._backends.fail(caller, claims, error.error)
        except RejectedError as error:
            if not form_of(claims.profile).has_files or error.status in (409, 429):
                raise
            log.info("callback_not_kept", job=claims.job, code=error.code)
            failed = JobError(error.code, error.message, retryable=False)
            return await self._backends.fail(caller, claims, failed)

    async def _with_outputs(self, claims: OutcomeClaims, done: Done) -> Done:
        """A result whose links are fetched and stored, where the server's options do not say otherwise.

        Raises:
            OutputError: one cannot be fetched.
            StaleLeaseError: the attempt has ended.
            RejectedError, UnavailableError: as for `Backends.artifact`.
        """
        if not done.links:
            return done
        headers: Mapping[str, str] = {}
        own: tuple[str, ...] = ()
        key = server_of(claims.worker)
        found = None if key is None else self._servers.find(*key)
        if found is not None and form_of(found.server.profile) is form_of(claims.profile):
            if not options_of(found.server.profile, found.server.options).fetch_outputs:
                return done
            own = origins_of(found.server.endpoints)
            with contextlib.suppress(UnreadableError):
                headers = self._credentials.open(found.server)

        async def keep(coming: Coming) -> dict[str, Any]:
            async def opened() -> Upload:
                return Upload(coming.name, coming.type, None, coming.body)

            announced = coming.size_bytes or 0
            return reference(await self._backends.artifact(claims, coming.name, opened, announced=announced))

        # A server that has waited for long calls back again: that one waits for the first, and finds its end.
        lock = self._fetching.setdefault(claims.fence, asyncio.Lock())
        async with lock:
            await self._backends.check_running(claims)
            return await fetched(done, keep, self._settings, own=own, headers=headers)

    async def attempt(self, caller: Caller, job: Job) -> OutcomeClaims | None:
        """The attempt that a server has, for a report that brings no ticket; None where none has the job.

        One that its pusher has not left to the server yet is left to it: the server would not report
        otherwise. Its slot is known to its pusher alone, and comes back when the lease is over.

        Raises:
            ConflictError: the job is damaged.
            UnavailableError: the broker does not answer.
        """
        if job.lease is None:  # as a replica says that lags: a server can report as soon as it was asked
            job = await self._delegations.newest(job)
        lease = job.lease
        if lease is None:
            return None
        if lease.backend is not None:
            return await self._backends.attempt(job, lease.backend)
        server = server_of(lease.worker)
        if server is None:
            return None
        claims = OutcomeClaims(
            job=job.id, fence=lease.fence, attempt=lease.attempt, worker=lease.worker, tenant=job.tenant,
            lease_s=self._settings.timed_lease_s, places=(), backend=backend_of(*server),
        )  # fmt: skip
        left = await self._left(claims)
        if left is None:
            await self.leave(caller, claims, "")
        return left or claims

    async def _left(self, claims: OutcomeClaims) -> OutcomeClaims | None:
        """The attempt once its pusher has left it to its server, or it is over; None where neither comes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PUSHER_S
        while loop.time() < until:
            job = await self._delegations.load(claims)
            lease = job.lease
            if lease is None or lease.fence != claims.fence or job.status is not Status.RUNNING:
                return claims
            if lease.backend is not None:
                return await self._backends.attempt(job, lease.backend)
            await asyncio.sleep(PAUSE_S)
        return None

    async def leave(self, caller: Caller, claims: OutcomeClaims, remote_id: str) -> Job:
        """Leave the attempt to the server, where its pusher has not heard yet that it is at work; the job."""
        job = await self._delegations.load(claims)
        lease = job.lease
        if job.status is not Status.RUNNING or lease is None or lease.fence != claims.fence:
            return job
        if lease.backend is not None:
            return job
        backend = Backend(claims.backend.kind, claims.backend.id, remote_id)
        left = OutcomeClaims(
            job=claims.job, fence=claims.fence, attempt=claims.attempt, worker=claims.worker,
            tenant=claims.tenant, lease_s=claims.lease_s, places=claims.places, backend=backend,
            profile=claims.profile,
        )  # fmt: skip
        try:
            return await self._delegations.delegate(
                left, job, actor=actor_of(backend), watcher=claims.worker,
                source=Source(caller.trace, caller.key),
            )  # fmt: skip
        except ConflictError as error:
            if error.code == RefusalCode.DAMAGED:
                raise
            # It has ended meanwhile, is to stop, or has been left there by its pusher.
            return job


async def _opened(file: OutputFile) -> Upload:
    return Upload(file.name, file.type, None, _once(file.data))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
