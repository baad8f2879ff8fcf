"""One job on its way to one server, under a timed lease in the server's name: step by step to its end.

| the server | the attempt |
|---|---|
| answers with a result or a failure | ends with that |
| answers that it is at work | is left to it: it calls back |
| is full | is given back uncounted; the server rests |
| cannot have taken it | is given back uncounted; the server has failed |
| may have taken it, and says nothing more | fails and may be retried, unless a callback comes in a moment |
| is not well any more | the same, at once |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Final

import msgspec
import structlog

from switchyard.events.errors import InvalidError, UnavailableError
from switchyard.events.outcome import timed_out
from switchyard.events.rules.backends import is_with
from switchyard.events.values import JobError
from switchyard.services import clock
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.broker.jetstream import ACK
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.limit_tokens import Token
from switchyard.services.dispatch.push.report import Done, Failed, Running, Stopped
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.renewal import Interruption, judge
from switchyard.services.dispatch.work import Work
from switchyard.services.pusher.attempt import CALLED_BACK, Attempt, Means
from switchyard.services.pusher.calling import (
    Answer,
    Broken,
    Full,
    NotTaken,
    Reading,
    Said,
    Unknown,
    get,
    hidden_in,
    push,
)
from switchyard.services.pusher.group import Group
from switchyard.services.pusher.leasing import ServerLeasing
from switchyard.services.pusher.member import Member
from switchyard.services.pusher.profiles.inputs import InputFiles
from switchyard.services.pusher.profiles.news import News
from switchyard.services.pusher.profiles.protocol import Task
from switchyard.services.pusher.profiles.registry import profile_of
from switchyard.services.records.servers.condition import Outcome
from switchyard.services.records.servers.naming import worker_of
from switchyard.services.records.servers.record import Server

log = structlog.get_logger()

DOUBT_S: Final = 5.0
"""How long a callback is waited for after the connection broke on which a task may have been taken."""
DOUBT_PAUSE_S: Final = 0.5
OTHERS: Final = 3
"""How many servers are tried for a slot before a job goes back."""
GONE: Final = JobError("server_lost", "the server is not well any more, and was sent the task before")


class Push:
    """A job that was found for a server.

    Args:
        means: the pusher's.
        group: the one that the server is in.
        member: the server, which counts this push as running.
        work: the job's delivery.
    """

    def __init__(self, means: Means, group: Group, member: Member, work: Work) -> None:
        self._means = means
        self._group = group
        self.member = member
        self._work = work
        self._wake = asyncio.Event()
        self._interruption: Interruption | None = None
        self._is_dead = False
        self.job_id = ""
        self._attempt: Attempt
        self._loop = asyncio.get_running_loop()

    @property
    def _server(self) -> Server:
        return self.member.found.server

    def interrupt(self, why: Interruption) -> None:
        """End it before the server has answered."""
        if self._interruption is None or why is Interruption.LOST:
            self._interruption = why
        self._wake.set()

    def server_died(self) -> None:
        """Wait for the server no longer."""
        self._is_dead = True
        self._wake.set()

    # --- From a delivery to a lease

    async def run(self) -> None:
        """Push, and see the attempt to its end or leave it to the server."""
        means, work = self._means, self._work
        began = time.monotonic()
        token = None if self._interruption is not None else await self._take_slot()
        if token is None:
            self.member.given_up()
            await means.picker.give_back(work)
            return
        lease = None
        try:
            server = self._server
            record = msgspec.structs.replace(self._group.record, id=worker_of(*server.key))
            leasing = ServerLeasing(
                means.nc, means.store, means.answers, means.reach, means.settings,
                work=work, tokens=means.picker.tokens, fits=means.fits, passing=means.passing,
            )  # fmt: skip
            lease = await leasing.take(work, record)
        finally:
            if lease is None:
                self.member.given_up()
                means.slots.release(token)
                if work.grant is not None:
                    await means.picker.tokens.end(work.grant, started=False)
        if lease is None:
            return
        await means.answers.answer(work, ACK)
        self._attempt, self.job_id = Attempt(means, lease, work, server, token), lease.job.id
        word = await self._under_lease()
        means.ended(word, time.monotonic() - began)

    async def _take_slot(self) -> Token | None:
        """A slot of the server, or of another one like it; None where there is none."""
        tried: frozenset[tuple[str, ...]] = frozenset()
        for _ in range(OTHERS):
            token = await self._means.slots.take(self._server)
            if token is not None:
                return token
            lacking = self.member
            lacking.lacks(self._loop.time())
            await self._means.slots.wait(self._server)
            tried |= {self._server.key}
            other = self._group.choose(tried)
            if other is None:
                self._group.changed(lacking)
                return None
            now_s = self._loop.time()
            lacking.running -= 1
            lacking.given_up()
            other.running += 1
            other.sent(now_s)
            self.member = other
            self._group.changed(lacking)
            self._group.changed(other)
        return None

    # --- Under the lease

    async def _under_lease(self) -> str:
        """Post the task, and do what its answer demands; a word for what it came to."""
        means, attempt = self._means, self._attempt
        try:
            payload = await resolved_payload(means.store, means.files, attempt.lease.spec)
            headers = means.credentials.open(self._server)
        except FatalError as error:
            self.member.given_up()
            return await attempt.end(
                attempt.fails(JobError(error.code, error.message, retryable=False)), "unresolved"
            )
        except UnreadableError:
            self._failed(Outcome.CREDENTIALS, None, 0.0)
            return await attempt.end(attempt.releases(), "credentials_unreadable")
        except UnavailableError as error:
            log.warning("push_given_up", job=self.job_id, error=str(error))
            self.member.given_up()
            return await attempt.end(attempt.releases(), "unavailable")
        began = time.monotonic()
        try:
            answer = await self._asked(payload, headers)
        except FatalError as error:
            self.member.given_up()
            failed = JobError(error.code, error.message, retryable=False)
            return await attempt.end(attempt.fails(failed), "unresolved")
        except (InvalidError, KeyError) as error:  # of its profile, which another version knows
            log.warning("push_profile_unknown", server=self._server.id, error=str(error))
            self._failed(Outcome.PROFILE, None, 0.0)
            return await attempt.end(attempt.releases(), Outcome.PROFILE.value)
        except UnavailableError as error:
            log.warning("push_given_up", job=self.job_id, error=str(error))
            self.member.given_up()
            return await attempt.end(attempt.releases(), "unavailable")
        if isinstance(answer, Interruption):
            self.member.given_up()
            return await self._interrupted(answer, headers)
        return await self._answered(answer, time.monotonic() - began, headers)

    async def _asked(self, payload: dict[str, Any], headers: dict[str, str]) -> Answer | Interruption:
        """The server's answer, or why it is waited for no longer; the lease is kept meanwhile."""
        means, settings, attempt = self._means, self._means.settings, self._attempt
        profile = profile_of(self._server)
        claims = msgspec.structs.replace(attempt.claims, profile=profile.ticket(attempt.ref))
        ticket = means.tickets.sign(claims)
        task = Task(
            attempt.ref, payload, f"{means.callbacks}/{ticket}", attempt.timeout_s,
            InputFiles(means.files, attempt.lease.spec.tenant),
        )  # fmt: skip
        asked = await profile.request(task)
        if self._is_dead:  # it has been sent nothing
            return NotTaken(Outcome.TIMEOUT)
        request = attempt.request(asked, headers)
        news = News(means.reporter, attempt.lease.job, settings)
        most_bytes = settings.push_answer_bytes
        reading = Reading(
            most_bytes, settings.push_files_bytes, hidden_in(request.headers, ticket), news,
            lambda url, most: get(means.session, url, headers, most, total_s=settings.push_connect_s),
        )  # fmt: skip

        def pushed() -> Awaitable[Answer]:
            return push(
                means.session, request, lambda answer: profile.judged(task, answer, reading),
                connect_s=settings.push_connect_s,
                total_s=min(asked.total_s or attempt.timeout_s, attempt.timeout_s), most_bytes=most_bytes,
            )  # fmt: skip

        asking = asyncio.create_task(attempt.with_outputs(pushed, headers))
        try:
            return await self._kept_until(asking)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            news.close()

    async def _kept_until(self, asking: asyncio.Task[Answer]) -> Answer | Interruption:
        asking.add_done_callback(lambda _: self._wake.set())
        every_s = self._means.settings.timed_lease_s / 3
        due_s = self._loop.time() + every_s
        while True:
            left_s = max(0.0, due_s - self._loop.time())
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if asking.done():
                return asking.result()
            if self._interruption is not None:
                return self._interruption
            if self._is_dead:
                return Unknown(GONE, Outcome.TIMEOUT)
            if self._loop.time() >= due_s:
                due_s = self._loop.time() + every_s
                if (why := await self._attempt.renew()) is not None:
                    return why

    # --- What came of it

    async def _answered(self, answer: Answer, took_s: float, headers: dict[str, str]) -> str:
        now_s, attempt = self._loop.time(), self._attempt
        match answer:
            case Said(report=report):
                self.member.took(now_s)
                if answer.rest_s is not None:
                    self.member.rest(now_s, answer.rest_s)
                match report:
                    case Running():
                        return await attempt.leave(answer.remote_id, headers)
                    case Done():
                        return await attempt.complete(report)
                    case Failed(error=error):
                        return await attempt.end(attempt.fails(error), "failed")
                    case Stopped():
                        return await attempt.end(attempt.releases(by_handler=True), "stopped")
            case Full(rest_s=rest_s):
                self.member.rest(now_s, rest_s)
                return await attempt.end(attempt.releases(), "full")
            case NotTaken(outcome=outcome, status=status):
                self._failed(outcome, status, took_s)
                log.info("push_not_taken", job=self.job_id, server=self._server.id, outcome=outcome.value)
                return await attempt.end(attempt.releases(), outcome.value)
            case Broken(error=error, outcome=outcome, status=status):
                if outcome is None:
                    self.member.took(now_s)
                    return await attempt.end(attempt.fails(error), "refused")
                self._failed(outcome, status, took_s)
                return await attempt.end(attempt.fails(error), outcome.value)
            case Unknown(error=error, outcome=outcome):
                self._failed(outcome, None, took_s)
                return await self._doubt(error, outcome)

    def _failed(self, outcome: Outcome, status: int | None, took_s: float) -> None:
        self.member.failed(self._loop.time())
        self._means.failed(self.member, outcome, status, took_s)

    async def _doubt(self, error: JobError, outcome: Outcome) -> str:
        """Wait a moment for a callback, where one may come; without one the attempt has failed."""
        until, attempt = self._loop.time() + DOUBT_S, self._attempt
        started_at = attempt.lease.job.started_at or clock.now()
        if (clock.now() - started_at).total_seconds() >= attempt.timeout_s:
            return await attempt.end(attempt.fails(timed_out(attempt.timeout_s)), outcome.value)
        if not profile_of(attempt.ref.server).calls_back(attempt.ref):
            until = 0.0
        while self._loop.time() < until and self._interruption is None and not self._is_dead:
            await asyncio.sleep(DOUBT_PAUSE_S)
            try:
                attempt.lease.job, why = await judge(
                    self._means.store, attempt.lease.job, attempt.lease.fence
                )
            except UnavailableError:
                continue
            if why is Interruption.LOST:
                return attempt.forgotten()
            if is_with(attempt.lease.job, attempt.lease.fence, attempt.claims.backend):
                return CALLED_BACK  # it is at work, as it says
        return await attempt.end(attempt.fails(error), outcome.value)

    async def _interrupted(self, why: Interruption, headers: dict[str, str]) -> str:
        attempt = self._attempt
        match why:
            case Interruption.LOST:
                return attempt.forgotten()
            case Interruption.CANCEL:
                return await attempt.cancelled(headers)
            case _:
                await attempt.stop_task(headers)
                return await attempt.end(attempt.releases(), "drained")
