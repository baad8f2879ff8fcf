"""A whole API in one file: its paths, its own way to say who calls, and refusals in its own words."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import JOBS
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.intake.request import JobRequest

STAFF = {"ann": frozenset({Role.VIEWER, Role.SUBMITTER}), "bob": frozenset({Role.VIEWER})}


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted."""

    word: str


class Ticket(msgspec.Struct, frozen=True):
    """What the customer is given."""

    number: str
    state: str


async def order(call: Call[Order]) -> web.Response:
    """Make a job of kind `noop`."""
    asked = JobRequest(kind="noop", labels={"word": call.body.word})
    job, _ = await call.part(JOBS).submit(call.caller, asked, msgspec.json.encode(asked), None)
    return json_response(Ticket(job.id, job.status.value), status=201)


async def look(call: Call[None]) -> web.Response:
    """How far it is."""
    job = await call.part(JOBS).current(call.named("number"), call.caller.tenant)
    return json_response(Ticket(job.id, job.status.value))


SHOP = (
    Route(
        method="POST", path="/tiny/orders", handler=order, summary="Order",
        roles=(Role.SUBMITTER,), body=Order, answers={201: Ticket},
    ),
    Route(
        method="GET", path="/tiny/orders/{number}", handler=look, summary="Look",
        roles=(Role.VIEWER,), answers={200: Ticket},
    ),
)  # fmt: skip


class TinyDoor(Door):
    """Orders; whoever says a name of the staff in `X-Name` may come in."""

    name = "tiny"
    prefixes = ("/tiny", "/v1/tiny")

    def routes(self) -> Sequence[Route]:
        return SHOP

    async def identify(self, request: web.Request, _: Route | None) -> Principal:
        name = request.headers.get("X-Name", "")
        if name not in STAFF:
            raise UnauthenticatedError("who are you?")
        return Principal(name, "acme", STAFF[name], "", float("inf"))

    def refuse(self, error: BaseException, _: web.Request) -> web.Response:
        problem = problem_of(error)
        return web.Response(text=f"no: {problem.detail}", status=problem.status, headers=problem.headers)
