"""`POST /v1/tickets`: what a page opens one live connection with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.errors import ForbiddenError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.access.browsers.standing import Holder
from switchyard.services.access.browsers.tickets import DEFAULT_S, MOST_S
from switchyard.services.gateway.app_keys import JOBS
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.parts import EMPTY, NO_SUCH, READ
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response
from switchyard.services.gateway.http.identity import secret_of
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.gateway.live.admission import DOOR

PRIVATE: Final = {"Cache-Control": "no-store"}


class TicketRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST, which may be empty.

    Args:
        expires_s: seconds within which it has to be used.
        job: the only job that may be followed with it.
    """

    expires_s: Annotated[float, Meta(ge=1, le=MOST_S)] = DEFAULT_S
    job: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class TicketAnswer(Answer, frozen=True, kw_only=True):
    """A ticket; it is shown this once."""

    ticket: str
    expires_at: datetime
    tenant: str
    job: str | None


async def create(call: Call[TicketRequest]) -> web.Response:
    """A ticket of the caller's."""
    principal, asked, tickets = call.request[PRINCIPAL], call.body, call.part(DOOR).tickets
    if asked.job is not None:
        tenant = None if principal.is_admin else principal.tenant
        await call.part(JOBS).last_seq(asked.job, tenant)
    secret = secret_of(call.request) or ""
    job = None if asked.job is None else JobId(asked.job)
    ticket = tickets.sign(
        principal, holder_of(tickets.standing.holder(principal, secret)), lasts_s=asked.expires_s, job=job
    )
    answer = TicketAnswer(
        ticket=ticket.text, tenant=principal.tenant, job=asked.job,
        expires_at=datetime.fromtimestamp(ticket.claims.until, UTC),
    )  # fmt: skip
    return json_response(answer, headers=PRIVATE)


def holder_of(holder: Holder | None) -> Holder:
    """The holder, who has to be one.

    Raises:
        ForbiddenError: who calls came by neither a token nor an API key, so nothing could take it back.
    """
    if holder is None:
        message = "this is given to who calls with a token or an API key, so that it ends with that"
        raise ForbiddenError(message, code="not_for_this_key")
    return holder


ROUTES: Final = (
    Route(
        method="POST", path="/v1/tickets", handler=create, summary="Get a ticket for a live connection",
        roles=READ, body=TicketRequest, empty=EMPTY, answers={200: TicketAnswer},
        errors=(*NO_SUCH, (403, "not_for_this_key")),
    ),
)  # fmt: skip
