"""An attempt under a timed lease: the handler runs, the lease is renewed, reports go, its end is reported."""

from __future__ import annotations

import asyncio
import enum
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson

from switchyard._client.transport import Transport
from switchyard._vigil.vigil import Vigil, every_s
from switchyard._worker.contained import StillRunning
from switchyard._worker.ends import error_of, failed
from switchyard._worker.handler_errors import Release
from switchyard._worker.rest.inputs import fetched
from switchyard._worker.rest.joining import facts_of, part_outcome, planned
from switchyard._worker.rest.left import LeftAttempt
from switchyard._worker.rest.outputs import stored
from switchyard._worker.rest.previews import LeasePreviews
from switchyard._worker.rest.reports import LeaseReports
from switchyard._worker.rest.runners import NotStoppedError, Runner
from switchyard._worker.run import Finished
from switchyard._worker.scratch import remove
from switchyard._worker.traceback import forget
from switchyard.errors import ApiError, ConflictError, ServerError, UnreachableError
from switchyard.events.outcome import TIMEOUT, failure_of, timed_out
from switchyard.events.values import RESULT_ARTIFACT, JobError

log = logging.getLogger("switchyard.worker")

TOKEN_HEADER: Final = "Switchyard-Lease-Token"  # noqa: S105 - the name of a header
TEMPORARY: Final = tempfile.gettempdir()  # asked before a handler can change the answer
PACE_S: Final = 0.2
NO_TIMEOUT_S: Final = 366 * 86_400.0
RESULT_BYTES: Final = 256 * 1024
END_PAUSE_S: Final = 1.0
BUSY_PAUSE_S: Final = 1.0
HELD: Final = frozenset({"attempt_timeout", "delegated"})
"""Conflicts that take no lease away."""
STOPS: Final = "illegal_transition"


class Why(enum.Enum):
    """Why an attempt is stopped."""

    CANCEL = "the job is cancelled"
    LOST = "the lease is gone"
    TIMEOUT = "the attempt took longer than it may"
    DRAIN = "the worker stops"
    FULL = "the worker has no slot left"


class Lease:
    """A claimed job; implements `switchyard._worker.context.Surroundings`.

    Args:
        transport: to the gateway.
        claimed: the answer to the claim, or an attempt as it was found at its back end.
        lease_s: for which each renewal asks.
        grace_s: how long a plain handler has to stop.
        vigil: what renews it while the event loop is blocked.
    """

    def __init__(
        self,
        transport: Transport,
        claimed: dict[str, Any],
        *,
        lease_s: float,
        grace_s: float,
        vigil: Vigil | None = None,
    ) -> None:
        lease, job = claimed["lease"], claimed["job"]
        self.id: str = lease["id"]
        self.kind: str = job["kind"]
        self.facts = facts_of(lease, job)
        self._timeout_s: float = lease.get("timeout_s", NO_TIMEOUT_S)  # the version before does not say
        self._payload: dict[str, Any] = job["payload"] or {}
        self._transport = transport
        self._headers = {TOKEN_HEADER: lease["token"]}
        self._lease_s = self._beat_s = lease_s
        self._grace_s = grace_s
        self._at_backend = LeftAttempt(job["id"], self._call, claimed if "backend" in claimed else None)
        self._note_left()
        self.fence: int = lease["fence"]
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + self._lease_s
        self._vigil = vigil
        self._renewed_at = time.monotonic()
        self._until = self._renewed_at + self._timeout_s + grace_s
        self._why: Why | None = None
        self._is_begun = self._goes_on = False
        self._work: asyncio.Task[tuple[str, dict[str, Any]] | None] | None = None
        self._wake = asyncio.Event()
        self._reports = LeaseReports(self.facts.job_id, self._wake.set, self._obey)
        self.progress, self.log = self._reports.progress, self._reports.log
        self._previews = LeasePreviews(self.facts.job_id, self._wake.set)
        self.preview, self.previews_dropped = self._previews.take, self._previews.drop
        self._scratch: Path | None = None
        self.left: StillRunning | None = None
        """What runs beyond the attempt, if its handler did not stop."""

    # --- What the handler asks for

    @property
    def scratch(self) -> Path:
        """A directory of this attempt's own, made when first asked for."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="switchyard-", dir=TEMPORARY))
        return self._scratch

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Write an input file to `to`.

        Raises:
            Fatal: code `file_not_found`.
            ClientError: it cannot be had now.
        """
        return await fetched(self._transport, self.facts.tenant, file_id, to)

    async def delegate(self, kind: str, backend: str, remote_id: str, lease_s: float | None) -> None:
        """Say which back end has the work, and what that calls it."""
        await self._at_backend.delegate(kind, backend, remote_id, lease_s)
        self._note_left()
        if self._vigil is not None:
            self._vigil.holds(self)

    @property
    def is_left(self) -> bool:
        """Whether the attempt goes on at its back end, whatever becomes of this worker."""
        return self._at_backend.lease_s is not None

    def _note_left(self) -> None:
        """What is left to a back end has a longer lease, and is renewed as often."""
        if self._at_backend.lease_s is not None:
            self._lease_s = self._at_backend.lease_s

    async def let_go(self) -> bool:
        """Have others look after it where this worker stops or fails; False where it is to be stopped."""
        if not self.is_left or self._why not in (None, Why.DRAIN):
            return False
        if self._why is Why.DRAIN:
            await self._at_backend.let_go()
        return True

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        """Store an artifact within the lease.

        Raises:
            ClientError: it cannot be stored.
        """
        return await stored(self._call, name, data, media_type)

    async def outcome(self, part_id: str) -> dict[str, Any]:
        """How a part ended.

        Raises:
            ClientError: it cannot be read now.
        """
        return await part_outcome(self._transport, self._headers, self.id, self.facts.tenant, part_id)

    # --- The attempt

    def interrupt(self, why: Why) -> None:
        """Stop the handler; the first reason stands, except that a lost lease outdoes all others."""
        if self._why is None:
            self._why = why
            log.info("attempt of job %s is stopped: %s", self.facts.job_id, why.value)
            if self._work is not None and self._is_begun:
                self._work.cancel()
        elif why is Why.LOST:
            self._why = why

    async def run(self, runner: Runner) -> None:
        """Run the handler or connector to its end and report it, unless the lease is gone."""
        timer = self._loop.call_later(self._timeout_s, self.interrupt, Why.TIMEOUT)
        try:
            if self._vigil is not None:
                self._vigil.holds(self)
            is_found = self._at_backend.remote_id is not None
            if is_found or (self._vigil is not None and self._vigil.was_blocked()):
                # The answer to the claim may be older than the lease is long; what was found may be to stop.
                await self._renew_once()
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew())
                reporting = group.create_task(self._report())
                self._work = group.create_task(self._handled(runner))
                await asyncio.wait([self._work])
                reporting.cancel()
                await asyncio.wait([reporting])
                # It may have been stopped before its first step.
                end = self._interrupted() if self._work.cancelled() else self._work.result()
                if end is not None:
                    await self._reports.flush(self._call)
                    await self._end(*end)
                renewing.cancel()
        finally:
            timer.cancel()
            self._previews.close()
            if self._vigil is not None:
                self._vigil.ended(self)
            if self._scratch is not None:
                await asyncio.to_thread(remove, self._scratch)

    async def _handled(self, runner: Runner) -> tuple[str, dict[str, Any]] | None:
        """Run the handler; the call that its end amounts to, or None when the lease is gone."""
        try:
            self._is_begun = True
            if self._why is not None:
                await self._at_backend.drop(runner, self._payload, self, self._grace_s)
                return self._interrupted()
            done = await self._at_backend.run(runner, self._payload, self, self._grace_s)
            if done.join is not None:
                return await planned(self.save, done.join, done.usage)
            body = await self._outcome(done)
        except asyncio.CancelledError as error:
            if self._why is None:
                raise
            if isinstance(error, StillRunning):
                self.left = error
            self._goes_on = isinstance(error, NotStoppedError)
            return self._interrupted()
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; it is this attempt's failure
            try:
                if isinstance(error, Release | UnreachableError):
                    await asyncio.sleep(BUSY_PAUSE_S)  # what is given back may come again at once
                return None if self._why is Why.LOST else failed(self.facts.job_id, error)
            finally:
                forget(error)
        if self._why is Why.LOST:
            return None
        if done.checks is None:
            return "succeed", body
        return "propose", {**body, "checks": done.checks}

    async def _outcome(self, done: Finished) -> dict[str, Any]:
        """What is reported to the gateway; a result that may not fit into a request is sent by itself."""
        names = [reference["name"] for reference in done.artifacts]
        described = {"result": done.result, "artifacts": names, "usage": done.usage}
        result = orjson.dumps(done.result)
        if len(result) > RESULT_BYTES:
            await self._save_result(result)
            described |= {"result": None, "artifacts": list(dict.fromkeys([*names, RESULT_ARTIFACT]))}
        return described

    async def _save_result(self, result: bytes) -> None:
        """Store a large one; what a back end has done is not lost because no gateway answers now."""
        while True:
            try:
                await self.save(RESULT_ARTIFACT, result, media_type="application/json")
            except (UnreachableError, ServerError) as error:
                if not self.is_left:
                    raise
                log.warning("the result of job %s waits: %s", self.facts.job_id, error)
                await asyncio.sleep(END_PAUSE_S)
            else:
                return

    def _interrupted(self) -> tuple[str, dict[str, Any]] | None:
        match self._why:
            case Why.DRAIN if self.is_left:
                return None  # its back end carries it on, for others to look after
            case Why.CANCEL if self.left is not None or self._goes_on:
                return None  # nobody may say that it has stopped: the job is cancelled by force
            case Why.CANCEL | Why.DRAIN | Why.FULL:
                return "release", {}
            case Why.TIMEOUT:
                reason = (
                    Why.TIMEOUT.value
                    if self._timeout_s >= NO_TIMEOUT_S
                    else timed_out(self._timeout_s).message
                )
                still = "" if self.left is None else "; its code did not stop, and still runs"
                return "fail", error_of(JobError(TIMEOUT, reason + still))
            case _:
                return None

    async def _end(self, verb: str, body: dict[str, Any]) -> None:
        """Report the end as long as the lease lasts; the same call may be sent again."""
        while True:
            try:
                await self._call(verb, json=body)
            except ConflictError:
                log.warning("job %s: the lease was gone before its end was reported", self.facts.job_id)
            except UnreachableError as error:
                if self._may_wait():
                    log.warning("the end of job %s waits: %s", self.facts.job_id, error)
                    await asyncio.sleep(END_PAUSE_S)
                    continue
                log.warning("the end of job %s was not reported: %s", self.facts.job_id, error)
            except ApiError as error:
                log.warning("the end of job %s was refused: %s", self.facts.job_id, error)
                if verb in ("succeed", "propose", "part"):
                    refused = failure_of(error.code, error, retryable=error.status >= 500)
                    verb, body = "fail", error_of(refused)
                    continue
            return

    def _may_wait(self) -> bool:
        """Whether its end may yet be reported: what a back end has done others find when this one stops."""
        if self.is_left:
            return self._why not in (Why.LOST, Why.DRAIN) and time.monotonic() < self._until
        return self._why is not Why.LOST and self._loop.time() < self._ends_at

    # --- Beside the handler

    async def _renew(self) -> None:
        """Renew three times within a lease or more, until cancelled or the lease is gone."""
        while self._why is not Why.LOST:
            await asyncio.sleep(every_s(self._beat_s))
            if not await self._renew_once():
                return

    async def _renew_once(self) -> bool:
        """Whether there may be something to renew later."""
        asked_at = time.monotonic()
        try:
            if self._has_ended():
                return False
            async with asyncio.timeout_at(max(self._ends_at, self._loop.time() + self._beat_s)):
                answer = orjson.loads(await self._call("renew", json={"lease_s": self._lease_s}))
        except TimeoutError:
            return (
                not self._has_ended()
            )  # meanwhile the loop may have been blocked, and the vigil have renewed
        except ConflictError as error:
            if error.code == "attempt_timeout":
                self.interrupt(Why.TIMEOUT)
            return False
        except (ApiError, UnreachableError) as error:
            log.warning("lease %s was not renewed: %s", self.id, error)
        else:
            self.prolonged(asked_at, cancel=answer["cancel_requested"])
            if self._vigil is not None:
                self._vigil.renewed(self, asked_at)
        return True

    def _has_ended(self) -> bool:
        """Whether it has ended by its time, whatever the gateway would say; that stops the handler.

        What is at a back end goes on, and others may look after it: there the gateway alone says so.
        """
        if self._vigil is not None:
            self._vigil.read()
        if self.is_left or self._loop.time() < self._ends_at:
            return False
        self.interrupt(Why.LOST)
        return True

    def prolonged(self, asked_at: float, *, cancel: bool) -> None:
        """It was renewed by a request of that time."""
        self._renewed_at = max(self._renewed_at, asked_at)
        self._ends_at = max(self._ends_at, self._loop.time() - time.monotonic() + asked_at + self._lease_s)
        self._obey({"cancel_requested": cancel})

    def over(self, *, is_timeout: bool) -> None:
        """It is gone, or the attempt's time is over."""
        self.interrupt(Why.TIMEOUT if is_timeout else Why.LOST)

    def described(self) -> dict[str, Any]:
        """What the vigil gets to know of it."""
        return {
            "job": self.facts.job_id, "headers": self._headers, "renewed_at": self._renewed_at,
            "until": self._until, "lease_s": self._lease_s,
        }  # fmt: skip

    def _obey(self, answer: dict[str, Any]) -> None:
        if answer["cancel_requested"]:
            self.interrupt(Why.CANCEL)

    async def _report(self) -> None:
        """Send what the handler reports, until cancelled: at once when idle, then five times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._reports.flush(self._call)
            await self._previews.flush(self._call)
            await asyncio.sleep(PACE_S)

    async def _call(self, verb: str, *, headers: dict[str, str] | None = None, **options: Any) -> bytes:
        """A call under the lease; one that finds it gone stops the handler."""
        try:
            return await self._transport.call(
                "POST",
                f"/v1/leases/{self.id}/{verb}",
                headers={**self._headers, **(headers or {})},
                **options,
            )
        except ConflictError as error:
            if error.code not in HELD:
                self.interrupt(Why.CANCEL if verb == "delegate" and error.code == STOPS else Why.LOST)
            raise
