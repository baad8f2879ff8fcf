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

from switchyard._client import live
from switchyard._client import previews as _previews
from switchyard._client.areas.all import AsyncAreas
from switchyard._client.areas.lists import Listing, query_of
from switchyard._client.bulk import Bulk, Lines
from switchyard._client.connection import find
from switchyard._client.files import AsyncFiles
from switchyard._client.pages import EventPage, JobPage
from switchyard._client.transport import CONNECT_S, Transport
from switchyard._client.watch import AsyncWatching
from switchyard.errors import JobDamagedError, JobFailedError, NotEndedError
from switchyard.events.encoding.preview import Preview
from switchyard.models import BulkAnswer, Event, Identity, Job, LiveMessage, Options, Resync, Transition

TIMEOUT_S: Final = 30.0
RETRIES: Final = 8
WAIT_S: Final = 25.0  # one long request; below what proxies between us may allow
FINAL_EVENTS: Final = frozenset({"succeeded", "accepted", "cancelled", "expired", "dead"})
REPAIRS: Final = frozenset({"repaired", "archived"})  # what may follow damage, and may itself not apply

_JOB: Final = msgspec.json.Decoder(Job)


class AsyncClient(AsyncAreas, AsyncWatching, AsyncFiles):
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
        super().__init__(self._transport)

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
        tenant: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Submit a job.

        Args:
            kind: which handler runs it.
            payload: any JSON object.
            idempotency_key: the same key and request give the same job; one is made if there is none.
            tenant: whose job it is to be, for callers who may act for others.
            options: as `docs/api.md` describes them; times are `datetime` with a zone.

        Raises:
            InvalidValueError: a part cannot be sent, such as a number that is not finite; nothing is sent.
        """
        body = {"kind": kind, "payload": payload or {}, **options}
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        params = {} if tenant is None else {"tenant": tenant}
        raw = await self._transport.call("POST", "/v1/jobs", params=params, json=body, headers=headers)
        return _JOB.decode(raw)

    async def again(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Submit once more what a job runs with, seeds and all; only its times are not taken over."""
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _JOB.decode(await self._transport.call("POST", _path(job_id, "/again"), headers=headers))

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

    async def list(self, **which: Unpack[Listing]) -> AsyncGenerator[Job, None]:
        """Jobs, newest first, page after page; each in brief, unless `full` is given.

        Args:
            which: those that are wanted: see `Listing`.
        """
        params, headers = query_of(which)
        cursor: str | None = ""
        while cursor is not None:
            asked = [*params, ("cursor", cursor)] if cursor else params
            raw = await self._transport.call("GET", "/v1/jobs", params=asked, headers=headers)
            page = msgspec.json.decode(raw, type=JobPage)
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
        if not (job := await self.wait(job_id, timeout_s=timeout_s)).succeeded:
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
        raw = await self._transport.call("POST", _path(job_id, "/repair"), json=body, again=False)
        return _JOB.decode(raw)

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """What happened to a job, oldest first, after a sequence."""
        following: int | None = after
        while following is not None:
            raw = await self._transport.call("GET", _path(job_id, "/events"), params={"after": following})
            page = msgspec.json.decode(raw, type=EventPage)
            for event in page.events:
                yield event
            following = page.after

    async def preview(self, job_id: str) -> Preview | None:
        """The last image that the job's running attempt has shown within a minute, if it has."""
        return await _previews.last(self._transport, _path(job_id, "/preview"))

    async def explain(self, job_id: str) -> dict[str, Any]:
        """Why a job waits, or ended as it did."""
        found: dict[str, Any] = orjson.loads(await self._transport.call("GET", _path(job_id, "/explain")))
        return found

    async def backend_attempts(
        self,
        kind: str,
        backend: str,
        *,
        worker: str,
        kinds: Sequence[str],
        held: Sequence[int] = (),
        **said: Any,
    ) -> dict[str, Any]:
        """Look after attempts at a back end whose worker is gone, for a token of role `worker`.

        Args:
            kind: that of the back end.
            backend: its id.
            worker: who looks after them from now on.
            kinds: those of the jobs.
            held: the fences of the attempts that this worker has in hand; what is not named is given again.
            said: what else a claim says of a worker, and `most`; as in `docs/api.md`.

        Returns:
            `attempts`, each with `lease`, `job`, `backend` and `lease_s`, and `more`.
        """
        path = f"/v1/backends/{quote(kind, safe='')}/{quote(backend, safe='')}/attempts"
        body = {"worker": worker, "kinds": list(kinds), "held": list(held), **said}
        found: dict[str, Any] = orjson.loads(await self._transport.call("POST", path, json=body))
        return found

    # --- Live

    async def stream(
        self,
        *,
        jobs: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tenants: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        events: Sequence[str] = (),
        progress: bool = True,
        logs: bool = False,
        previews: bool = False,
        after: str | int | None = None,
    ) -> AsyncGenerator[LiveMessage, None]:
        """Live messages without end; a lost connection resumes without a gap or a duplicate of transitions.

        Args:
            jobs: the jobs, or
            kinds: the kinds, or
            tenants: the tenants to hear of; all of one's own tenant where none of them is given.
            labels: only jobs that were submitted with all of these; not together with `jobs`.
            events: only transitions of these names.
            progress: whether progress is wanted.
            logs: whether log lines are wanted.
            previews: whether previews are wanted, which takes `jobs`; the latest alone for who is slow.
            after: the `cursor` of a message or the `seq` of a job, to continue from; else only what is new.
        """
        chosen = {"jobs": jobs, "kinds": kinds, "tenants": tenants, "events": events}
        selection: dict[str, Any] = {name: list(given) for name, given in chosen.items() if given}
        if not selection.keys() & {"jobs", "kinds", "tenants"}:
            selection["all"] = True
        selection |= {"progress": progress, "logs": logs}
        if labels:
            selection["labels"] = dict(labels)
        if previews:  # a gateway of the version before does not know the word
            selection["previews"] = True
        async with aclosing(live.stream(self._transport, selection, after)) as messages:
            async for message in messages:
                yield message

    async def follow(
        self, job_id: str, *, logs: bool = False, previews: bool = False
    ) -> AsyncGenerator[LiveMessage, None]:
        """All messages of a job from its first event until it has ended; transitions whole and in order.

        Args:
            job_id: that of the job.
            logs: whether log lines are wanted too, from now on.
            previews: whether previews are wanted too.

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
        async with aclosing(
            self.stream(jobs=[job_id], logs=logs, previews=previews, after=cursor)
        ) as messages:
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
