"""The client for asyncio."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, Unpack
from urllib.parse import quote

import aiohttp
import msgspec
import orjson

from switchyard._client import files as _files
from switchyard._client import live
from switchyard._client.bulk import Bulk, Lines
from switchyard._client.connection import find
from switchyard._client.keys import AsyncKeys
from switchyard._client.transport import CONNECT_S, Transport
from switchyard.errors import JobDamagedError, JobFailedError, NotEndedError
from switchyard.models import BulkAnswer, Event, File, Identity, Job, LiveMessage, Options, Resync, Transition

TIMEOUT_S: Final = 30.0
RETRIES: Final = 8
WAIT_S: Final = 25.0  # one long request; below what proxies between us may allow
FINAL_EVENTS: Final = frozenset({"succeeded", "accepted", "cancelled", "expired", "dead"})
REPAIRS: Final = frozenset({"repaired", "archived"})  # what may follow damage, and may itself not apply

_JOB: Final = msgspec.json.Decoder(Job)


class _JobPage(msgspec.Struct):
    jobs: list[Job]
    cursor: str | None


class _FilePage(msgspec.Struct):
    files: list[File]
    cursor: str | None


class _EventPage(msgspec.Struct):
    events: list[Event]
    after: int | None


class AsyncClient:
    """A gateway, as a program sees it; use it with `async with`.

    Requests that may be repeated are: reads, cancellations, and submissions and uploads, which carry an
    idempotency key. They are sent again when the connection fails and after 429, 502, 503 and 504, as
    `Retry-After` says.

    Args:
        url: that of the gateway; SWITCHYARD_URL, or what `switchyard up` left in the data directory.
        token: that of the caller, or an API key; SWITCHYARD_TOKEN, or from the data directory too.
        data_dir: the data directory; SWITCHYARD_DATA_DIR or `.switchyard`.
        timeout_s: for one try of a request.
        retries: how often a request is sent again, or a stream or transfer resumed, without progress.

    Raises:
        ConfigurationError: no URL or no token is known.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        data_dir: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self._transport = Transport(find(url, token, data_dir), timeout_s=timeout_s, retries=retries)
        self.keys = AsyncKeys(self._transport)

    @property
    def url(self) -> str:
        """The address of the gateway."""
        return self._transport.connection.url

    async def __aenter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def whoami(self) -> Identity:
        """Whom the token or key stands for, as the gateway has found out."""
        return msgspec.json.decode(await self._transport.call("GET", "/v1/whoami"), type=Identity)

    async def submit(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Submit a job.

        Args:
            kind: which handler runs it.
            payload: any JSON object.
            idempotency_key: the same key and request give the same job; one is made if there is none.
            options: as `docs/api.md` describes them; times are `datetime` with a zone.

        Raises:
            InvalidValueError: a part cannot be sent, such as a number that is not finite; nothing is sent.
        """
        body = {"kind": kind, "payload": payload or {}, **options}
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _JOB.decode(await self._transport.call("POST", "/v1/jobs", json=body, headers=headers))

    async def submit_many(self, lines: Lines) -> AsyncGenerator[BulkAnswer, None]:
        """Submit many jobs over one connection; an answer per job, in order, while others are still sent.

        Args:
            lines: jobs as `{"kind", "payload", ...}`, taken as fast as the gateway answers. A job without
                `idempotency_key` gets one, so that a lost connection loses and doubles nothing.
        """
        async with aclosing(Bulk(self._transport, lines).run()) as answers:
            async for answer in answers:
                yield answer

    async def get(self, job_id: str, *, at: datetime | int | None = None) -> Job:
        """A job as it is, or as it was at a time or sequence."""
        when = at.astimezone(UTC).isoformat() if isinstance(at, datetime) else at
        params = {} if when is None else {"at": str(when)}
        return _JOB.decode(await self._transport.call("GET", _path(job_id), params=params))

    async def list(
        self,
        *,
        state: str | Sequence[str] = (),
        kind: str | Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        key: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
        min_seq: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs, newest first, page after page.

        Args:
            state: one or several.
            kind: one or several.
            labels: all must hold.
            key: the id of the API key that submitted them.
            created_after: from then on.
            created_before: until then.
            page_size: jobs per request, 1 to 500.
            min_seq: a `Job.seq` that the list must know of.
        """
        params = [("limit", str(page_size))]
        params += [("state", one) for one in _several(state)] + [("kind", one) for one in _several(kind)]
        params += [("label", f"{name}:{value}") for name, value in (labels or {}).items()]
        params += [("key", key)] if key is not None else []
        for name, time in (("created_after", created_after), ("created_before", created_before)):
            if time is not None:
                params.append((name, time.astimezone(UTC).isoformat()))
        headers = {} if min_seq is None else {"Switchyard-Min-Seq": str(min_seq)}
        cursor: str | None = ""
        while cursor is not None:
            asked = [*params, ("cursor", cursor)] if cursor else params
            raw = await self._transport.call("GET", "/v1/jobs", params=asked, headers=headers)
            page = msgspec.json.decode(raw, type=_JobPage)
            for job in page.jobs:
                yield job
            cursor = page.cursor

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """The job at its end; the gateway answers when it comes.

        Raises:
            NotEndedError: it has not ended in time; it continues.
            JobDamagedError: it does not end by itself.
        """
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            left_s = WAIT_S if until is None else max(0.0, min(WAIT_S, until - loop.time()))
            limits = aiohttp.ClientTimeout(total=left_s + self._transport.timeout_s, sock_connect=CONNECT_S)
            raw = await self._transport.call(
                "GET", _path(job_id), params={"wait": f"{left_s:.3f}"}, timeout=limits
            )
            job = _whole(_JOB.decode(raw))
            if job.ended:
                return job
            if until is not None and loop.time() >= until:
                raise NotEndedError(f"job {job_id} has not ended after {timeout_s:g} s; it is {job.state}")

    async def result(self, job_id: str, *, timeout_s: float | None = None) -> Any:
        """The result, when the job has ended; one that is stored as a file is read.

        Raises:
            JobFailedError: it ended otherwise.
            JobDamagedError: it does not end by itself.
            NotEndedError: it has not ended in time.
            GoneError: it was archived without its result.
        """
        job = await self.wait(job_id, timeout_s=timeout_s)
        if not job.succeeded:
            raise JobFailedError(job)
        return orjson.loads(await self._transport.call("GET", _path(job_id, "/result")))

    async def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """End a job; one that runs is asked to stop, and its state is `cancelling` until it has."""
        body = {"reason": reason} if reason else {}
        return _JOB.decode(await self._transport.call("POST", _path(job_id, "/cancel"), json=body))

    async def archive(self, job_id: str) -> Job:
        """Put a job away that has ended: a summary stays, its history and result go for good.

        Raises:
            ConflictError: it has not ended.
        """
        return _JOB.decode(await self._transport.call("DELETE", _path(job_id)))

    async def repair(
        self,
        job_id: str,
        *,
        to: Literal["queued", "dead", "cancelled"] | None = None,
        reason: str | None = None,
    ) -> Job:
        """Give a damaged job a state again.

        Args:
            job_id: that of the job.
            to: the state; without one it continues in the state before the damage where it can.
            reason: why; it stands in the event.

        Raises:
            ConflictError: it is not damaged, or cannot be repaired to that state.
        """
        body = {name: value for name, value in (("to", to), ("reason", reason)) if value}
        return _JOB.decode(
            await self._transport.call("POST", _path(job_id, "/repair"), json=body, again=False)
        )

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """What happened to a job, oldest first, after a sequence."""
        following: int | None = after
        while following is not None:
            raw = await self._transport.call("GET", _path(job_id, "/events"), params={"after": following})
            page = msgspec.json.decode(raw, type=_EventPage)
            for event in page.events:
                yield event
            following = page.after

    async def explain(self, job_id: str) -> dict[str, Any]:
        """Why a job waits, or ended as it did."""
        found: dict[str, Any] = orjson.loads(await self._transport.call("GET", _path(job_id, "/explain")))
        return found

    # --- Live

    async def stream(
        self,
        *,
        jobs: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tenants: Sequence[str] = (),
        events: Sequence[str] = (),
        progress: bool = True,
        logs: bool = False,
        after: str | int | None = None,
    ) -> AsyncGenerator[LiveMessage, None]:
        """Live messages without end; a lost connection resumes without a gap or a duplicate of transitions.

        Args:
            jobs: the jobs, or
            kinds: the kinds, or
            tenants: the tenants to hear of; all of one's own tenant where none of them is given.
            events: only transitions of these names.
            progress: whether progress is wanted.
            logs: whether log lines are wanted.
            after: the `cursor` of a message or the `seq` of a job, to continue from; else only what is new.
        """
        chosen = {"jobs": jobs, "kinds": kinds, "tenants": tenants, "events": events}
        selection: dict[str, Any] = {name: list(given) for name, given in chosen.items() if given}
        if not selection.keys() & {"jobs", "kinds", "tenants"}:
            selection["all"] = True
        selection |= {"progress": progress, "logs": logs}
        async with aclosing(live.stream(self._transport, selection, after)) as messages:
            async for message in messages:
                yield message

    async def follow(self, job_id: str, *, logs: bool = False) -> AsyncGenerator[LiveMessage, None]:
        """All messages of a job from its first event until it has ended; transitions whole and in order.

        Args:
            job_id: that of the job.
            logs: whether log lines are wanted too, from now on.

        Raises:
            JobDamagedError: it does not end by itself; what happened before has been given.
        """
        cursor = 0
        async for event in self.events(job_id):
            cursor = event.seq
            yield Transition(event=event, cursor=str(cursor))
            if event.type in FINAL_EVENTS:
                job = await self.get(job_id)
                if job.seq == event.seq and _whole(job).ended:
                    return
        job = await self.get(job_id)
        # What has come since is given first.
        known = job.damage.seq if job.damage is not None else job.seq
        if known <= cursor and _whole(job).ended:
            return
        async with aclosing(self.stream(jobs=[job_id], logs=logs, after=cursor)) as messages:
            async for message in messages:
                yield message
                if isinstance(message, Resync) and _whole(await self.get(job_id)).ended:
                    return  # its end may be among what is missing
                if not isinstance(message, Transition):
                    continue
                event = message.event
                if event.unreadable is not None or event.type in REPAIRS:
                    if _whole(await self.get(job_id)).ended:
                        return
                elif event.type in FINAL_EVENTS:
                    return

    # --- Files

    async def upload(
        self,
        source: _files.Source,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        ttl_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Store a file.

        Args:
            source: a path, the bytes, or an async iterator of blocks.
            name: that of the file; that of the path by default.
            media_type: as in `Content-Type`.
            ttl_s: how long it is kept.
            idempotency_key: the same key and bytes give the same file; one is made if there is none.
        """
        return await _files.upload(
            self._transport, source,
            name=name, media_type=media_type, ttl_s=ttl_s, idempotency_key=idempotency_key,
        )  # fmt: skip

    async def download(self, file_id: str, to: Path | str) -> Path:
        """Write a file's bytes to a path, which appears when they are all there and right."""
        return await _files.download(self._transport, file_id, Path(to))

    async def files(self) -> AsyncGenerator[File, None]:
        """The tenant's files, newest first."""
        cursor: str | None = ""
        while cursor is not None:
            params = {"cursor": cursor} if cursor else {}
            raw = await self._transport.call("GET", "/v1/files", params=params)
            page = msgspec.json.decode(raw, type=_FilePage)
            for file in page.files:
                yield file
            cursor = page.cursor

    async def delete_file(self, file_id: str) -> None:
        """Remove a file."""
        await self._transport.call("DELETE", f"/v1/files/{quote(file_id, safe='')}", again=False)


def _path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"


def _whole(job: Job) -> Job:
    """The job, of which more is to come or which has ended.

    Raises:
        JobDamagedError: nothing more happens to it by itself, though it has not succeeded.
    """
    if job.damage is not None and not job.succeeded:
        raise JobDamagedError(job)
    return job


def _several(words: str | Sequence[str]) -> Sequence[str]:
    return [words] if isinstance(words, str) else words
