"""The document door: its paths, who calls, and refusals as clients of Ilios read them: `docs/ilios.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.doors.ilios.keys import offer
from switchyard.services.gateway.doors.ilios.refusals import RefusalAnswer, refusal, refused_status
from switchyard.services.gateway.doors.ilios.routes import BATCH, CONVERT, DOCUMENTS, ROUTES, SIGNED, USAGE
from switchyard.services.gateway.http.doors import Beside, Door
from switchyard.services.gateway.http.identity import DOORKEEPER, secret_of
from switchyard.services.gateway.http.query import ALL_TENANTS, TENANT, wrong
from switchyard.services.gateway.http.routes import Route
from switchyard.services.settings.older import ilios as older_ilios

NEVER: Final = float("inf")
VISITOR: Final = "ilios"


class IliosDoor(Door):
    """Documents that are converted, as Ilios has them."""

    name = "ilios"
    prefixes = (CONVERT, BATCH, DOCUMENTS, USAGE)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Make keys of those that the settings name, and have addresses signed.

        Raises:
            InvalidError: one of them cannot be a key, or a variable of Ilios is set that means nothing here.
            UnavailableError: the broker does not answer.
        """
        if app[SETTINGS].ilios and (wrong_ones := older_ilios.faults()):
            raise InvalidError(f"the document door cannot open: {'; '.join(wrong_ones)}; unset what is named")
        await offer(app)
        return ()

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Whose key it is; nobody's is needed where the door is open, and for addresses that are signed.

        Raises:
            HTTPNotFound: the settings do not open the door.
            UnauthenticatedError: nobody's, or it does not count.
            MalformedError: it asks for all tenants at once, which no route here answers.
        """
        settings = request.app[SETTINGS]
        if not settings.ilios:
            raise web.HTTPNotFound
        if ALL_TENANTS in request.query.getall(TENANT, ()):
            raise wrong(TENANT, ALL_TENANTS, "the name of one tenant")
        if route is not None and route.path == SIGNED:
            return None
        if not settings.ilios_open or secret_of(request) is not None:
            return await request.app[DOORKEEPER].let_in(request)
        visitor = Principal(VISITOR, settings.ilios_tenant, implied((Role.SUBMITTER,)), "", NEVER)
        request.app[DOORKEEPER].count(request, visitor)
        return visitor

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """Which of `KEYS` open a route; none is needed for an address that is signed."""
        return {} if route.path == SIGNED else super().keys(route)

    def refused_status(self, status: int) -> int:
        """A broken rule is a 400."""
        return refused_status(status)

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as clients of Ilios read it."""
        return refusal(error, request)
