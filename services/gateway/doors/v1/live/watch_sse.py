"""`GET /v1/watch/{what}`: a state and its changes as server-sent events; `docs/live.md` has the messages."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from switchyard.services.gateway.doors.v1.live.sse import LAST, NAME, labels_in, of_query, serve
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.query import Query, wrong
from switchyard.services.gateway.http.routes import Lasts, Media, Parameter, Route, plain
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.live.messages import Watch
from switchyard.services.intake.faults import from_msgspec

REPEATED: Final = {"id": "ids", "kind": "kinds", "label": "labels", "priority": "priorities"}


async def watch_stream(request: web.Request) -> web.StreamResponse:
    """Send a snapshot of what the path names, and its changes, until one side ends it.

    Raises:
        RejectedError: the query or the token is wrong, or there is no such thing to watch.
        UnavailableError: there is no place for another connection, or what there is is not known now.
    """
    door = request.app[DOOR]
    return await serve(
        request,
        lambda _job: wish_of(request),
        lambda session, principal, wish: session.watch(wish, lambda: door.boards.view(principal, wish)),
        REPEATED,
    )


def wish_of(request: web.Request) -> Watch:
    """What the path, the query and `Last-Event-ID` ask for.

    Raises:
        RejectedError: a parameter is unknown or its value breaks a rule.
    """
    query = Query(request, "after", "tenant", TICKET, repeated=tuple(REPEATED), acting=False)
    what = request.match_info["what"]
    fields: dict[str, object] = {"type": "watch", "id": NAME, "what": what, "tenant": query.text("tenant")}
    for name, of_message in REPEATED.items():
        values = query.all(name)
        if values and name == "label":
            fields[of_message] = labels_in(values)
        elif values and name == "priority":
            fields[of_message] = list(map(_priority, values))
        elif values:
            fields[of_message] = values
    # A browser that reconnects repeats the query, and with it an older revision.
    last = request.headers.get(LAST)
    fields["after"] = last or query.text("after")
    try:
        return msgspec.convert(fields, Watch)
    except msgspec.ValidationError as error:
        raise of_query(from_msgspec(error), last, REPEATED) from None


def _priority(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 3):
        raise wrong("priority", text, "a whole number of 0 to 100")
    return int(text)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/watch/{what}", handler=plain(watch_stream),
        summary="Watch workers, queues or batches as server-sent events",
        query=(
            Parameter("after"), Parameter("tenant"), Parameter(TICKET), Parameter("id", repeated=True),
            Parameter("kind", repeated=True), Parameter("label", repeated=True),
            Parameter("priority", "integer", repeated=True),
        ),
        headers=(LAST,), answers={200: Media("text/event-stream")},
        errors=((404, "not_found"),), lasts=Lasts.CONNECTION,
    ),
)  # fmt: skip
