"""Tickets: what a page opens one live connection with, so that no token or key stands in a URL.

A ticket is signed by the gateways, names its holder, and ends within minutes; any gateway takes it, and the
first connection that it opens uses it up: its id then stands in the bucket `tickets` until it has expired.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import jwt
import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.access.browsers.standing import Holder, Standing
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import MAX_CHARS
from switchyard.services.access.lease_tickets import ALGORITHM, keys_of
from switchyard.services.access.principal import Principal
from switchyard.services.broker.bucket import Bucket, Codec, Form
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.ids import new_id

PURPOSE: Final = b"switchyard ticket of a live connection"
DEFAULT_S: Final = 60.0
MOST_S: Final = 300.0
USED: Final = Form(name=subjects.BUCKET_TICKETS, parts=("ticket",), values=Codec[bytes](bytes, bytes))
"""Whatever stands under a ticket's id has used it."""


class TicketClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a ticket says.

    Args:
        id: its own.
        holder: who was given it.
        tenant: for whom its holder acts.
        until: when it ends, in seconds since 1970.
        job: the only job that may be followed with it; "" for all that its holder sees.
    """

    id: str
    holder: Holder
    tenant: str
    until: float
    job: str = ""


class Ticket(NamedTuple):
    """A ticket that has been presented.

    Args:
        text: as it was signed.
        claims: what it says.
    """

    text: str
    claims: TicketClaims


class LiveTickets:
    """Gives tickets, and lets each be used once.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        standing: knows which tokens and keys count.
        timeout_s: how long the broker may take.
    """

    def __init__(self, nc: Client, publisher: Publisher, standing: Standing, *, timeout_s: float) -> None:
        self.standing = standing
        self._used = Bucket(nc, USED, publisher, timeout_s=timeout_s)

    def sign(self, principal: Principal, holder: Holder, *, lasts_s: float, job: JobId | None) -> Ticket:
        """A new ticket.

        Args:
            principal: the caller, in the tenant that it acts for.
            holder: the same.
            lasts_s: seconds within which it has to be used.
            job: the only job that may be followed with it; None for all.
        """
        until = min(clock.time_s() + lasts_s, principal.expires_at)
        claims = TicketClaims(new_id(), holder, principal.tenant, until, job or "")
        return Ticket(jwt.encode(msgspec.to_builtins(claims), self._keys()[0], algorithm=ALGORITHM), claims)

    def read(self, text: str) -> Ticket:
        """What a ticket says.

        Raises:
            UnauthenticatedError: codes `ticket_invalid` and `ticket_expired`.
        """
        ticket = Ticket(text, self._verified(text))
        if not ticket.claims.until > clock.time_s():
            raise UnauthenticatedError("the ticket has expired; ask for another", code="ticket_expired")
        return ticket

    async def principal(self, ticket: Ticket) -> Principal:
        """Who holds a ticket now, whether or not its own time is over.

        Raises:
            UnauthenticatedError: the token or key behind it counts no more, or its signature does not.
            ForbiddenError: its holder may act for that tenant no more.
            UnavailableError: the broker does not answer.
        """
        claims = self._verified(ticket.text)
        return (await self.standing.principal(claims.holder)).acting_for(claims.tenant)

    async def use(self, ticket: Ticket) -> None:
        """Use a ticket up, at every gateway.

        Raises:
            UnauthenticatedError: code `ticket_used`, it was used before.
            UnavailableError: the broker does not answer, or has no room.
        """
        left_s = math.ceil(max(1.0, ticket.claims.until - clock.time_s())) + 1
        try:
            await self._used.put(ticket.claims.id, b"1", revision=0, ttl_s=left_s)
        except VersionConflictError:
            message = "the ticket was used before; ask for another"
            raise UnauthenticatedError(message, code="ticket_used") from None
        except AckLostError as error:
            raise UnavailableError("the broker does not acknowledge that the ticket is used") from error

    def _verified(self, text: str) -> TicketClaims:
        for key in self._keys() if len(text) <= MAX_CHARS else ():
            try:
                return msgspec.convert(jwt.decode(text, key, algorithms=[ALGORITHM]), TicketClaims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
                break
        raise UnauthenticatedError("the ticket is none that was signed here", code="ticket_invalid")

    def _keys(self) -> tuple[bytes, ...]:
        return keys_of(self.standing.verifier.secrets, PURPOSE)
