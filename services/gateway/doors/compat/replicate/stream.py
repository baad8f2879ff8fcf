"""A prediction as it goes on: server-sent events with its lines, its output and its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Final

import msgspec
from aiohttp import web

from switchyard.events.errors import RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import JOBS, NATS, SETTINGS
from switchyard.services.gateway.doors.compat.door import secret_in
from switchyard.services.gateway.doors.compat.jobs import failure_of, output_of, parts_of
from switchyard.services.gateway.doors.compat.lines import lines_of
from switchyard.services.gateway.doors.compat.replicate.views import CANCELED, status_of
from switchyard.services.gateway.http.connections import known
from switchyard.services.gateway.http.identity import acting
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.live.admission import DOOR, LiveDoor
from switchyard.services.gateway.live.messages import Subscribe
from switchyard.services.gateway.live.session import Session
from switchyard.services.visible import redacted

LAST: Final = "Last-Event-ID"
LOOK_S: Final = 0.5
"""How often lines are looked for; an end is noticed at once."""
NAME: Final = "prediction"
ENDED: Final = frozenset({"succeeded", "failed", CANCELED})
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # or a proxy would hold events back
}
_SEQ: Final = re.compile(r"[0-9]{1,18}")
_BREAKS: Final = re.compile(r"\r\n|\r|\n")


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/predictions/{id}/stream`: lines as `logs`, the output as `output`, the end as `done`.

    Raises:
        RejectedError: the token does not count, names a tenant that it may not, or that has no such job.
        UnavailableError: there is no place for another connection, or the broker does not answer.
    """
    door = request.app[DOOR]
    token = secret_in(request)
    if token is None:
        raise UnauthenticatedError(
            "this needs the header Authorization: Bearer <token or key>", code="token_missing"
        )
    principal = acting(request, await door.admit(request, token))
    principal.check(Role.VIEWER)  # in that tenant it may have fewer roles
    known(request)
    job = await request.app[JOBS].current(request.match_info["id"], principal.tenant)
    last = request.headers.get(LAST, "")
    after = int(last) if _SEQ.fullmatch(last) else 0
    response = web.StreamResponse(headers=HEADERS)
    refusal: RejectedError | UnavailableError | None = None
    async with door.place(), door.session(principal, token) as session:
        try:
            await session.subscribe(Subscribe(id=NAME, jobs=(job.id,), progress=False))
        except (RejectedError, UnavailableError) as error:
            refusal = error  # raised outside, or it would come as one of a group
        else:
            await _send(request, response, session, door, _Events(request, job, after))
    if refusal is not None:
        raise refusal
    return response


class _Events:
    """The events of one prediction for one reader.

    Args:
        request: that of the reader.
        job: as it was when the reader came.
        after: the sequence of the last line that the reader has.
    """

    def __init__(self, request: web.Request, job: Job, after: int) -> None:
        self._app = request.app
        self._origin = origin_of(request)
        self._job = job
        self._after = after
        self.is_over = False

    async def new(self, *, is_changed: bool) -> AsyncIterator[bytes]:
        """What the reader lacks.

        Args:
            is_changed: whether something has happened to the job.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if is_changed:
            self._job = await self._app[JOBS].current(self._job.id, self._job.tenant)
        word = status_of(self._job)
        more = True
        while more:  # the lines of a job are stored before its end
            lines, place = await lines_of(
                self._app[NATS], self._job.id, self._after,
                timeout_s=self._app[SETTINGS].request_timeout_s,
            )  # fmt: skip
            if lines:
                yield b"".join(event("logs", line.text + "\n", line.seq) for line in lines)
            self._after = max([self._after, place, *(line.seq for line in lines)])
            more = place > 0
        if word in ENDED:
            self.is_over = True
            yield b"".join(self._last(word))

    def _last(self, word: str) -> Iterator[bytes]:
        for part in parts_of(output_of(self._job, self._origin)):
            text = part if isinstance(part, str) else msgspec.json.encode(part).decode()
            yield event("output", text, self._after)
        if word == "failed":
            yield event("error", failure_of(self._job) or word, self._after)
        reasons = {"failed": '{"reason": "error"}', CANCELED: '{"reason": "canceled"}'}
        yield event("done", reasons.get(word, "{}"), self._after)

    def broken(self, why: str) -> bytes:
        """The event that says why no more is sent."""
        return event("error", redacted(why), self._after)


async def _send(
    request: web.Request, response: web.StreamResponse, session: Session, door: LiveDoor, events: _Events
) -> None:
    transport = request.transport
    if transport is None:
        return  # the peer is gone already
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    written_at = loop.time()

    async def write(block: bytes) -> None:
        nonlocal written_at
        with session.sending(transport.abort):
            await response.write(block)
        written_at = loop.time()

    async def follow() -> None:
        is_changed = True
        while True:
            async for block in events.new(is_changed=is_changed):
                await write(block)
            if events.is_over:
                return
            is_changed = True
            try:
                async with asyncio.timeout(LOOK_S):
                    items = await session.take()
            except TimeoutError:
                is_changed = False
                if loop.time() - written_at >= door.settings.socket_ping_s:
                    await write(b": ping\n\n")
                continue
            if not items:
                await write(events.broken(session.ending.reason if session.ending else "the stream ends"))
                return

    try:
        try:
            await follow()
        except (RejectedError, UnavailableError) as error:
            await write(events.broken(str(error)))
        await response.write_eof()
    except ConnectionError:
        transport.abort()  # the peer is gone; what it did not take would hold the connection open


def event(name: str, data: str, place: int) -> bytes:
    """One event; each line of its data is one of its own. Source: WHATWG HTML, 9.2."""
    lines = "".join(f"data: {line}\n" for line in _BREAKS.split(data))
    return f"event: {name}\nid: {place}\n{lines}\n".encode("utf-8", "replace")
