"""`GET /v1/events/stream`: live updates as server-sent events; `docs/live.md` has the messages."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from switchyard.events.errors import InvalidError, RejectedError, UnavailableError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal
from switchyard.services.gateway.doors.v1.live.proofs import job_of, proof_of
from switchyard.services.gateway.http.connections import known
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.query import Query, wrong
from switchyard.services.gateway.http.routes import Lasts, Media, Parameter, Route, plain
from switchyard.services.gateway.live.admission import DOOR, LiveDoor
from switchyard.services.gateway.live.messages import Item, Subscribe, message
from switchyard.services.gateway.live.session import Session
from switchyard.services.intake.faults import MalformedError, from_msgspec

NAME: Final = "stream"
LAST: Final = "Last-Event-ID"
W = TypeVar("W")
LISTS: Final = {"job": "jobs", "kind": "kinds", "tenant": "tenants", "label": "labels", "event": "events"}
FLAGS: Final = ("all", "progress", "logs", "previews")
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
    return await serve(
        request,
        lambda job: wish_of(request, job),
        lambda session, _principal, wish: session.subscribe(wish),
        LISTS,
    )


async def serve(
    request: web.Request,
    asked: Callable[[str], W],
    begin: Callable[[Session, Principal, W], Awaitable[None]],
    names: Mapping[str, str],
) -> web.StreamResponse:
    """Send what a subscription gives until one side ends it.

    Args:
        request: the request.
        asked: reads what is asked for, given the only job that may be followed, or "".
        begin: starts the subscription.
        names: those of the parameters, with those of the fields that they stand for.

    Raises:
        RejectedError: the query or the token is wrong, or what is asked for is not there.
        UnavailableError: there is no place for another connection, or the broker does not answer.
    """
    door = request.app[DOOR]
    proof = proof_of(request, door.tickets)
    if proof is None:
        raise UnauthenticatedError(
            "this needs the header Authorization: Bearer <token or key>, or a ticket", code="token_missing"
        )
    wish = asked(job_of(proof))  # before the ticket is used up
    principal = await door.admit(request, proof)
    known(request)
    response = web.StreamResponse(headers=HEADERS)
    refusal: RejectedError | UnavailableError | None = None
    async with door.place(), door.session(principal, proof) as session:
        try:
            await begin(session, principal, wish)
        except RejectedError as error:
            refusal = of_query(error, None, names)
        except UnavailableError as error:
            refusal = error
        else:
            await send(request, response, session, door)
    if refusal is not None:
        raise refusal
    return response


def wish_of(request: web.Request, job: str = "") -> Subscribe:
    """The subscription that the query and `Last-Event-ID` ask for; everything where it selects nothing.

    Args:
        request: the request.
        job: what stands for everything, if not "".

    Raises:
        RejectedError: a parameter is unknown or its value breaks a rule.
    """
    query = Query(request, *FLAGS, "after", TICKET, repeated=tuple(LISTS), acting=False)
    fields: dict[str, object] = {"type": "subscribe", "id": NAME}
    for name, of_message in LISTS.items():
        if values := query.all(name):
            fields[of_message] = labels_in(values) if name == "label" else values
    for name in FLAGS:
        if (value := query.text(name)) is not None:
            if value not in TRUTH:
                raise wrong(name, value, "true or false")
            fields[name] = TRUTH[value]
    chosen = [name for name in ("job", "kind", "tenant", "all") if fields.get(LISTS.get(name, name))]
    if len(chosen) > 1:
        message = f"{chosen[-1]}: not together with {chosen[0]}"
        raise MalformedError(message, code="invalid_parameter", field=chosen[-1])
    if not chosen and job:
        fields["jobs"] = [job]
    elif not chosen:
        fields["all"] = True
    # A browser that reconnects repeats the query, and with it an older cursor.
    last = request.headers.get(LAST)
    fields["after"] = last or query.text("after")
    try:
        wish = msgspec.convert(fields, Subscribe)
        wish.check()
    except msgspec.ValidationError as error:
        raise of_query(from_msgspec(error), last, LISTS) from None
    except RejectedError as error:
        raise of_query(error, last, LISTS) from None
    return wish


def labels_in(values: list[str]) -> dict[str, str]:
    """The labels that the values of a parameter name.

    Raises:
        MalformedError: one is not `name:value`, or a name has two values.
    """
    labels: dict[str, str] = {}
    for text in values:
        name, colon, value = text.partition(":")
        if not colon or not name:
            raise wrong("label", text, "name:value")
        if name in labels:
            raise wrong("label", text, "one value of each name")
        labels[name] = value
    return labels


def of_query(error: RejectedError, last_event_id: str | None, names: Mapping[str, str]) -> RejectedError:
    """The error of a message as that of the query that stands for it, with the name of its parameter."""
    of_message = (error.field or "").partition("[")[0]
    name = next((name for name, field in names.items() if field == of_message), of_message)
    if name == "after" and last_event_id:
        name = LAST
    error.field = name or None
    if not isinstance(error, InvalidError):
        return error
    rule = error.message.rpartition(": ")[2]
    return MalformedError(f"{name}: {rule}", code="invalid_parameter", field=error.field)


async def send(request: web.Request, response: web.StreamResponse, session: Session, door: LiveDoor) -> None:
    """Send what is queued for a reader, with heartbeats, until one side ends it."""
    transport = request.transport
    if transport is None:
        return  # the peer is gone already
    await response.prepare(request)
    leaving: asyncio.Task[None] | None = None

    def give_up() -> None:
        nonlocal leaving
        leaving = asyncio.create_task(_leave(response, transport, session))

    try:
        while True:
            try:
                async with asyncio.timeout(door.settings.socket_ping_s):
                    items = await session.take()
            except TimeoutError:
                blocks = [_heartbeat(session)]
            else:
                blocks = _blocks(items)
            if not blocks:
                break
            with session.sending(give_up):
                for block in blocks:
                    await response.write(block)
        await (leaving or _leave(response, transport, session))
    except ConnectionError:
        transport.abort()  # the peer is gone; what it did not take would hold the connection open
    finally:
        if leaving is not None:
            leaving.cancel()


async def _leave(response: web.StreamResponse, transport: asyncio.Transport, session: Session) -> None:
    """Send the reason for the end, and wait until the reader has taken it, for as long as it may linger."""
    if session.ending is None:
        return
    last = message("end", code=session.ending.code, reason=session.ending.reason)
    breaking = asyncio.get_running_loop().call_later(session.ending.linger_s, transport.abort)
    transport.set_write_buffer_limits(high=0)  # the wait for room is one for an empty buffer now
    try:
        await response.write(_event(last))
        await response.write_eof()
    finally:
        transport.set_write_buffer_limits()
        breaking.cancel()


def _event(item: Item) -> bytes:
    place = b"" if item.cursor is None else b"id: %b\n" % item.cursor.encode()
    return b"event: %b\n%bdata: %b\n\n" % (item.type.encode(), place, item.body)


def _blocks(items: list[Item]) -> list[bytes]:
    """What is written, in order: a preview by itself, as it is for all readers, the others together."""
    blocks: list[bytes] = []
    for is_preview, some in itertools.groupby(items, lambda item: item.shown is not None):
        if is_preview:
            blocks += [item.shown.event for item in some if item.shown is not None]
        else:
            blocks.append(b"".join(map(_event, some)))
    return blocks


def _heartbeat(session: Session) -> bytes:
    """A comment, with the place to resume at.

    Source: WHATWG HTML, 9.2: an id without data moves the place and is no event.
    """
    cursor = session.cursor()
    return b": ping\n\n" if cursor is None else b": ping\nid: %b\n\n" % cursor.encode()


ROUTES: Final = (
    Route(
        method="GET", path="/v1/events/stream", handler=plain(event_stream),
        summary="Follow events as server-sent events",
        query=(
            *(Parameter(name, "boolean") for name in FLAGS), Parameter("after"),
            Parameter(TICKET), *(Parameter(name, repeated=True) for name in LISTS),
        ),
        headers=(LAST,), answers={200: Media("text/event-stream")},
        errors=((404, "not_found"), (429, "too_many_previews")), lasts=Lasts.CONNECTION,
    ),
)  # fmt: skip
