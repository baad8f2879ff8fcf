"""`GET /v1/events/stream`: live updates as server-sent events; `docs/live.md` has the messages."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from events.errors import InvalidError, RejectedError, UnavailableError
from services.gateway.connections import known
from services.gateway.live_door import DOOR, LiveDoor, bearer
from services.gateway.live_messages import Item, Subscribe, message
from services.gateway.live_session import Session
from services.gateway.problems import MalformedError, UnauthenticatedError, from_msgspec

NAME: Final = "stream"
LISTS: Final = {"job": "jobs", "kind": "kinds", "tenant": "tenants", "event": "events"}
FLAGS: Final = ("all", "progress", "logs")
TRUTH: Final = {"true": True, "1": True, "": True, "false": False, "0": False}
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # or a proxy would hold events back
}


async def event_stream(request: web.Request) -> web.StreamResponse:
    """Send the events that the query asks for until one side ends it.

    Raises:
        RejectedError: the query, the cursor or the token is wrong, or a job is not there.
        UnavailableError: there is no place for another connection, or the broker does not answer.
    """
    door = request.app[DOOR]
    token = bearer(request)
    if token is None:
        raise UnauthenticatedError(
            "this needs the header Authorization: Bearer <token>", code="token_missing"
        )
    principal = door.admit(token)
    known(request)
    wish = wish_of(request)
    response = web.StreamResponse(headers=HEADERS)
    refusal: RejectedError | UnavailableError | None = None
    async with door.place(), door.session(principal, token) as session:
        try:
            await session.subscribe(wish)
        except (RejectedError, UnavailableError) as error:
            refusal = error
        else:
            await _send(request, response, session, door)
    if refusal is not None:
        raise refusal
    return response


def wish_of(request: web.Request) -> Subscribe:
    """The subscription that the query and `Last-Event-ID` ask for; everything where it selects nothing.

    Raises:
        RejectedError: a parameter is unknown or its value breaks a rule.
    """
    fields: dict[str, object] = {"type": "subscribe", "id": NAME}
    for name in dict.fromkeys(request.query):
        values = request.query.getall(name)
        if name in LISTS:
            fields[LISTS[name]] = values
        elif name in FLAGS:
            if values[-1] not in TRUTH:
                raise InvalidError(f"true or false is expected, not {values[-1][:80]!r}", field=name)
            fields[name] = TRUTH[values[-1]]
        elif name == "after":
            fields["after"] = values[-1]
        else:
            raise MalformedError(f"there is no parameter {name}", field=name)
    # A browser that reconnects repeats the query, and with it an older cursor.
    if last := request.headers.get("Last-Event-ID"):
        fields["after"] = last
    if not any(fields.get(name) for name in ("jobs", "kinds", "tenants", "all")):
        fields["all"] = True
    try:
        return msgspec.convert(fields, Subscribe)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None


async def _send(request: web.Request, response: web.StreamResponse, session: Session, door: LiveDoor) -> None:
    transport = request.transport
    if transport is None:
        return  # the peer is gone already
    await response.prepare(request)
    try:
        while True:
            try:
                async with asyncio.timeout(door.settings.socket_ping_s):
                    items = await session.take()
            except TimeoutError:
                body = _heartbeat(session)
            else:
                body = b"".join(map(_event, items))
            if not body:
                break
            with session.sending(transport.abort):
                await response.write(body)
        if session.ending is not None:
            last = message("end", code=session.ending.code, reason=session.ending.reason)
            with session.sending(transport.abort):
                await response.write(_event(last))
                await response.write_eof()
    except ConnectionError:
        transport.abort()  # the peer is gone; what it did not take would hold the connection open


def _event(item: Item) -> bytes:
    place = b"" if item.cursor is None else b"id: %b\n" % item.cursor.encode()
    return b"event: %b\n%bdata: %b\n\n" % (item.type.encode(), place, item.body)


def _heartbeat(session: Session) -> bytes:
    """A comment, with the place to resume at.

    Source: WHATWG HTML, 9.2: an id without data moves the place and is no event.
    """
    cursor = session.cursor()
    return b": ping\n\n" if cursor is None else b": ping\nid: %b\n\n" % cursor.encode()
