"""What a live connection is opened with: a token or key in a header, or a ticket in the URL."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from switchyard.services.access.browsers.tickets import LiveTickets, Ticket
from switchyard.services.gateway.http.identity import TICKET, secret_of
from switchyard.services.gateway.live.admission import Proof
from switchyard.services.intake.faults import MalformedError

TOKEN_PROTOCOL: Final = "bearer."  # noqa: S105 -- the word before a token, not a token


def proof_of(request: web.Request, tickets: LiveTickets) -> Proof | None:
    """What a request shows who calls by; None where it shows nothing.

    Raises:
        UnauthenticatedError: the ticket or the header is none.
        MalformedError: it brings two things, or two tickets.
    """
    secret = secret_of(request) or _token_among_protocols(request)
    given = request.query.getall(TICKET, [])
    if not given:
        return secret
    if secret is not None or len(given) > 1:
        other = "another one" if secret is None else "a token or key"
        raise MalformedError(f"{TICKET}: not together with {other}", code="invalid_parameter", field=TICKET)
    return tickets.read(given[0])


def job_of(proof: Proof) -> str:
    """The only job that may be followed; "" where there is no such bound."""
    return proof.claims.job if isinstance(proof, Ticket) else ""


def _token_among_protocols(request: web.Request) -> str | None:
    """The token of a browser, which can set no header but this."""
    for offered in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        if offered.strip().startswith(TOKEN_PROTOCOL):
            return offered.strip().removeprefix(TOKEN_PROTOCOL)
    return None
