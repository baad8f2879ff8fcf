"""From a request's headers to its caller: who it is, for which tenant it acts, and how often it may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import hdrs, web

from switchyard.events.subjects import NAME
from switchyard.services.access.authenticator import SCHEME
from switchyard.services.access.errors import RateLimitedError, UnauthenticatedError
from switchyard.services.access.identify import Identifiers
from switchyard.services.access.principal import Principal
from switchyard.services.access.rates import Rate, Rates, burst_of, headers
from switchyard.services.gateway.http.connections import known
from switchyard.services.gateway.http.query import ALL_TENANTS, TENANT, wrong
from switchyard.services.intake.faults import MalformedError

H_KEY: Final = "X-API-Key"
TICKET: Final = "ticket"
"""The parameter in which a page brings what it was given to open one thing with."""
RATE_HEADERS: Final = web.RequestKey("rate_headers", Mapping)
"""What is left of a caller's limits, for the answer."""


class Doorkeeper:
    """Finds out who calls.

    Args:
        identifiers: what knows tokens and keys.
        requests_of: how many requests a tenant may make a minute; None for any number.
        rates: what each has asked so far.
    """

    def __init__(
        self, identifiers: Identifiers, requests_of: Callable[[str], int | None], rates: Rates
    ) -> None:
        self.identifiers = identifiers
        self._requests_of = requests_of
        self._rates = rates

    async def let_in(self, request: web.Request, secret: str | None = None) -> Principal:
        """The caller of a request, which is from now on one of its limits' requests.

        Args:
            request: its body is not read.
            secret: its token or key, where that does not stand in a header.

        Raises:
            UnauthenticatedError: it brings none, or none that counts.
            ForbiddenError: it names a tenant that it may not name.
            RateLimitedError: it asks too often.
            UnavailableError: nobody can say now.
        """
        if secret is None and (secret := secret_of(request)) is None:
            raise UnauthenticatedError(
                "this needs the header Authorization: Bearer <token or key>", code="token_missing"
            )
        found = await self.identifiers.identify(secret)
        known(request)
        self.count(request, found)
        return acting(request, found)

    def count(self, request: web.Request, principal: Principal) -> None:
        """Count a request of a caller, and keep for its answer what is left.

        Raises:
            RateLimitedError: it asks too often.
        """
        rates = list(self._rates_of(principal))
        if not rates:
            return
        left = self._rates.take(rates)
        request[RATE_HEADERS] = headers(left)
        spent = max(left, key=lambda one: one.wait_s)
        if spent.wait_s > 0:
            rate = spent.rate
            whose = "this key" if rate.name == "key" else f"tenant {rate.of}"
            message = f"{whose} may make {rate.per_minute} requests a minute, {rate.burst} of them at once"
            raise RateLimitedError(message, limit=rate.name, retry_after_s=spent.wait_s)

    def _rates_of(self, principal: Principal) -> list[Rate]:
        rates = []
        grant = principal.grant
        if grant is not None and grant.per_minute is not None:
            rates.append(Rate("key", grant.key, grant.per_minute, grant.burst))
        tenant = principal.home or principal.tenant
        most = self._requests_of(tenant)
        if most is not None:
            rates.append(Rate("tenant", tenant, most, burst_of(most)))
        return rates


DOORKEEPER: Final = web.AppKey("doorkeeper", Doorkeeper)


def secret_of(request: web.Request, what: str = "token or key") -> str | None:
    """The token or key of a request; None where no header has one.

    Raises:
        UnauthenticatedError: `Authorization` has another form.
        MalformedError: two headers hold two.
    """
    header, by_name = request.headers.get(hdrs.AUTHORIZATION), request.headers.get(H_KEY)
    secret = None
    if header is not None:
        if header[: len(SCHEME)].lower() != SCHEME:
            raise UnauthenticatedError(f"the Authorization header must be: Bearer <{what}>")
        secret = header[len(SCHEME) :].strip()
    if by_name is None:
        return secret
    if secret is not None and secret != by_name.strip():
        raise MalformedError(f"{H_KEY}: Authorization holds another token or key", field=H_KEY)
    return by_name.strip()


def acting(request: web.Request, principal: Principal) -> Principal:
    """The caller in the tenant that the request names with `?tenant=`, or in its own.

    `*`, for all tenants, is left to the routes that know of it.

    Raises:
        ForbiddenError: the caller may not name another tenant.
        MalformedError: the parameter is no name, or is given more than once.
    """
    named = request.query.getall(TENANT, [])
    if not named or ALL_TENANTS in named:
        return principal
    if len(named) > 1:
        raise MalformedError(f"{TENANT} is given more than once", code="invalid_parameter", field=TENANT)
    if named[0] == principal.tenant:
        return principal
    found = principal.acting_for(named[0])  # whoever may not learns nothing of names
    if NAME.fullmatch(named[0]) is None:
        raise wrong(TENANT, named[0], f"a name that matches {NAME.pattern}")
    return found
