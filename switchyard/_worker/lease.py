"""An attempt under a timed lease: the handler runs, the lease is renewed, reports go, its end is reported."""

from __future__ import annotations

import asyncio
import enum
import logging
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from switchyard._client import files
from switchyard._client.transport import CONNECT_S, Body, Transport
from switchyard._vigil.vigil import Vigil, every_s
from switchyard._worker.contained import StillRunning
from switchyard._worker.context import Facts
from switchyard._worker.ends import error_of, failed
from switchyard._worker.handler_errors import Fatal, Release
from switchyard._worker.rest.runners import Runner
from switchyard._worker.run import Finished
from switchyard._worker.scratch import remove
from switchyard._worker.traceback import forget
from switchyard.errors import ApiError, ConflictError, NotFoundError, UnreachableError
from switchyard.events.outcome import TIMEOUT, failure_of, timed_out
from switchyard.events.values import RESULT_ARTIFACT, JobError

log = logging.getLogger("switchyard.worker")

TOKEN_HEADER: Final = "Switchyard-Lease-Token"  # noqa: S105 - the name of a header
TEMPORARY: Final = tempfile.gettempdir()  # asked before a handler can change the answer
PACE_S: Final = 0.2
MAX_LINES: Final = 10_000
LINES_AT_ONCE: Final = 500
NO_TIMEOUT_S: Final = 366 * 86_400.0
RESULT_BYTES: Final = 256 * 1024
END_PAUSE_S: Final = 1.0
BUSY_PAUSE_S: Final = 1.0


class Why(enum.Enum):
    """Why an attempt is stopped."""

    CANCEL = "the job is cancelled"
    LOST = "the lease is gone"
    TIMEOUT = "the attempt took longer than it may"
    DRAIN = "the worker stops"


class Lease:
    """A claimed job; implements `switchyard._worker.context.Surroundings`.

    Args:
        transport: to the gateway.
        claimed: the answer to the claim.
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
        self.facts = Facts(job["id"], job["tenant"], lease["attempt"], lease["worker"], job["feedback"])
        self._timeout_s: float = lease.get("timeout_s", NO_TIMEOUT_S)  # the version before does not say
        self._payload: dict[str, Any] = job["payload"] or {}
        self._transport = transport
        self._headers = {TOKEN_HEADER: lease["token"]}
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + lease_s
        self._vigil = vigil
        self._renewed_at = time.monotonic()
        self._until = self._renewed_at + self._timeout_s + grace_s
        self._why: Why | None = None
        self._work: asyncio.Task[tuple[str, dict[str, Any]] | None] | None = None
        self._progress: dict[str, Any] | None = None
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._wake = asyncio.Event()
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

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        """Replace the unsent progress."""
        self._progress = {"fraction": fraction, "stage": stage, "message": message, "eta_s": eta_s}
        self._wake.set()

    def log(self, line: str) -> None:
        """Queue a line; one too many is only counted."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._left_out += 1
        self._wake.set()

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Write an input file to `to`.

        Raises:
            Fatal: code `file_not_found`.
            ClientError: it cannot be had now.
        """
        path = f"/v1/files/{quote(file_id, safe='')}"
        params = {"tenant": self.facts.tenant}
        try:
            async with self._transport.open("HEAD", path, params=params) as answer:
                disposition = answer.content_disposition
                described = {
                    "name": (disposition and disposition.filename) or file_id,
                    "type": answer.headers.get("Content-Type", "application/octet-stream"),
                    "size_bytes": int(answer.headers["Content-Length"]),
                    "sha256": answer.headers["ETag"].strip('"'),
                }
            await files.download(self._transport, quote(file_id, safe=""), to, params=params)
        except NotFoundError as error:
            message = f"there is no file {file_id}; it may have expired"
            raise Fatal(message, code="file_not_found") from error
        return {"id": file_id, **described}

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        """Store an artifact within the lease.

        Raises:
            ClientError: it cannot be stored.
        """
        headers = {"Content-Type": media_type}
        again = isinstance(data, Path | bytes)  # an iterator can be read only once
        body: Body
        match data:
            case bytes():
                body = data
            case Path():
                path = data
                headers["Content-Length"] = str((await asyncio.to_thread(path.stat)).st_size)

                def body() -> AsyncIterator[bytes]:
                    return files.read(path)

            case _:
                stream = data

                def body() -> AsyncIterator[bytes]:
                    return stream

        timeout = aiohttp.ClientTimeout(total=files.TRANSFER_S, sock_connect=CONNECT_S)
        stored: dict[str, Any] = orjson.loads(
            await self._call(
                "artifacts", params={"name": name}, body=body, headers=headers, again=again, timeout=timeout
            )
        )
        return stored

    # --- The attempt

    def interrupt(self, why: Why) -> None:
        """Stop the handler; the first reason stands, except that a lost lease outdoes all others."""
        if self._why is None:
            self._why = why
            log.info("attempt of job %s is stopped: %s", self.facts.job_id, why.value)
            if self._work is not None:
                self._work.cancel()
        elif why is Why.LOST:
            self._why = why

    async def run(self, runner: Runner) -> None:
        """Run the handler or connector to its end and report it, unless the lease is gone."""
        timer = self._loop.call_later(self._timeout_s, self.interrupt, Why.TIMEOUT)
        try:
            if self._vigil is not None:
                self._vigil.holds(self)
                if self._vigil.was_blocked():  # the answer to the claim may be older than the lease is long
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
                    await self._flush()
                    await self._end(*end)
                renewing.cancel()
        finally:
            timer.cancel()
            if self._vigil is not None:
                self._vigil.ended(self)
            if self._scratch is not None:
                await asyncio.to_thread(remove, self._scratch)

    async def _handled(self, runner: Runner) -> tuple[str, dict[str, Any]] | None:
        """Run the handler; the call that its end amounts to, or None when the lease is gone."""
        try:
            if self._why is not None:
                return self._interrupted()
            done = await runner.run(self._payload, self, grace_s=self._grace_s)
            body = await self._outcome(done)
        except asyncio.CancelledError as error:
            if self._why is None:
                raise
            if isinstance(error, StillRunning):
                self.left = error
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
            await self.save(RESULT_ARTIFACT, result, media_type="application/json")
            described |= {"result": None, "artifacts": list(dict.fromkeys([*names, RESULT_ARTIFACT]))}
        return described

    def _interrupted(self) -> tuple[str, dict[str, Any]] | None:
        match self._why:
            case Why.CANCEL if self.left is not None:
                return None  # nobody may say that it has stopped: the job is cancelled by force
            case Why.CANCEL | Why.DRAIN:
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
                if self._why is not Why.LOST and self._loop.time() < self._ends_at:
                    log.warning("the end of job %s waits: %s", self.facts.job_id, error)
                    await asyncio.sleep(END_PAUSE_S)
                    continue
                log.warning("the end of job %s was not reported: %s", self.facts.job_id, error)
            except ApiError as error:
                log.warning("the end of job %s was refused: %s", self.facts.job_id, error)
                if verb in ("succeed", "propose"):
                    refused = failure_of(error.code, error, retryable=error.status >= 500)
                    verb, body = "fail", error_of(refused)
                    continue
            return

    # --- Beside the handler

    async def _renew(self) -> None:
        """Renew three times within a lease or more, until cancelled or the lease is gone."""
        while self._why is not Why.LOST:
            await asyncio.sleep(every_s(self._lease_s))
            if not await self._renew_once():
                return

    async def _renew_once(self) -> bool:
        """Whether there may be something to renew later."""
        asked_at = time.monotonic()
        try:
            if self._has_ended():
                return False
            async with asyncio.timeout_at(self._ends_at):
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
        """Whether it has ended by its time, whatever the gateway would say; that stops the handler."""
        if self._vigil is not None:
            self._vigil.read()
        if self._loop.time() < self._ends_at:
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
            "until": self._until,
        }  # fmt: skip

    def _obey(self, answer: dict[str, Any]) -> None:
        if answer["cancel_requested"]:
            self.interrupt(Why.CANCEL)

    async def _report(self) -> None:
        """Send what the handler reports, until cancelled: at once when idle, then five times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()
            await asyncio.sleep(PACE_S)

    async def _flush(self) -> None:
        """Send what there is; reports lost in an outage are not sent again."""
        progress, self._progress = self._progress, None
        try:
            if progress is not None:
                self._obey(orjson.loads(await self._call("progress", json=progress, again=False)))
            while self._lines:
                lines = [self._lines.popleft() for _ in range(min(LINES_AT_ONCE, len(self._lines)))]
                if self._left_out and not self._lines:
                    lines.append(f"… {self._left_out} lines were left out")
                    self._left_out = 0
                self._obey(orjson.loads(await self._call("logs", json={"lines": lines}, again=False)))
        except (ApiError, UnreachableError) as error:
            log.warning("reports of job %s were lost: %s", self.facts.job_id, error)

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
            if error.code != "attempt_timeout":
                self.interrupt(Why.LOST)
            raise
