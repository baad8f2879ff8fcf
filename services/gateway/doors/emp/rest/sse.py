"""`GET /api/jobs/{id}/progress`: a job as server-sent events, in the TypeScript generation's words."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from aiohttp import web

from switchyard.events.errors import RejectedError
from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.clients.following import Following
from switchyard.services.gateway.doors.emp.hub import HUB
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.doors.emp.users import VISITOR
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.live.index import LiveEvent, Progress
from switchyard.services.gateway.live.messages import Item

LAST: Final = "Last-Event-ID"
ENDED: Final = "ended"
NO_CONTENT: Final = 204
HEADERS: Final = {
    "Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no",
}  # fmt: skip
LAST_TYPES: Final = frozenset({"job_completed", "job_failed"})


class Reader:
    """Follows one job.

    Args:
        session: its connection.
    """

    pings: ClassVar[bool] = False

    def __init__(self, session: EmpSession) -> None:
        self.following = Following(session)
        self.limit_bytes = 0

    async def begin(self) -> None:
        """Nothing is to be said."""

    async def received(self, message: Mapping[str, Any]) -> None:
        """Nothing can come."""
        del message
        raise RejectedError("nothing can be sent here")

    async def end(self) -> None:
        """Nothing is left to do."""

    def event(self, event: LiveEvent) -> None:
        """Send what it is, in its turn."""
        self.following.event(event)

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """The message for it."""
        return self.following.progress(job_id, progress)

    def missed(self) -> None:
        """The job's state is sent again when the reader comes back."""


async def progress(call: Call[None]) -> web.StreamResponse:
    """Send what happens to a job until it has ended; a reader that comes back after that is answered 204."""
    request, hub = call.request, call.part(HUB)
    job = await hub.find(call.caller.tenant, call.named("id"))
    if job.status in FINAL and request.headers.get(LAST) == ENDED:
        return web.Response(status=NO_CONTENT)
    door = call.part(DOOR)
    made = functools.partial(EmpSession, request=request, role="reader", id_=names.sent_id(job))
    async with door.place(), door.session_of(*request[VISITOR], made) as session:
        response = web.StreamResponse(headers=HEADERS)
        try:
            await _sent(request, response, session, job)
        except ConnectionError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            session.stop()
        return response


async def _sent(request: web.Request, response: web.StreamResponse, session: EmpSession, job: Job) -> None:
    reader = Reader(session)
    session.peer = reader
    session.spawn(reader.following.run())
    await reader.following.follow(job, names.TYPESCRIPT)
    await response.prepare(request)
    session.say(wire.item_ts("connected", job_id=names.sent_id(job)))
    job = await session.hub.jobs.current(job.id, job.tenant)  # it may have ended meanwhile
    session.spawn(reader.following.final(job))
    ping_s = session.hub.settings.socket_ping_s

    def give_up() -> None:
        if request.transport is not None:
            request.transport.abort()

    while True:
        try:
            async with asyncio.timeout(ping_s):
                items = await session.take()
        except TimeoutError:
            block = b": ping\n\n"
            is_over = False
        else:
            block = b"".join(map(_event, items))
            is_over = not items or any(map(_is_last, items))
        with session.sending(give_up):
            await response.write(block)
        if is_over:
            break
    await response.write_eof()


def _is_last(item: Item) -> bool:
    is_cancel = item.type == "job_status_changed" and b'"new_status":"cancelled"' in item.body
    return item.type in LAST_TYPES or is_cancel


def _event(item: Item) -> bytes:
    place = b"id: " + ENDED.encode() + b"\n" if _is_last(item) else b""
    return place + b"data: " + item.body + b"\n\n"
