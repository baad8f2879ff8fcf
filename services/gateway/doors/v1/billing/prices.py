"""`/v1/prices`: what units cost, in versions."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.ledger.prices import PriceVersion
from switchyard.services.gateway.app_keys import BILLING
from switchyard.services.gateway.doors.v1.answers.billing import PriceBookAnswer, PricesAnswer
from switchyard.services.gateway.doors.v1.billing.usage import DAY
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, OPERATE
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.ledger.prices import today


async def list_prices(call: Call[None]) -> web.Response:
    """All versions."""
    versions = call.part(BILLING).prices.versions()
    return json_response(PriceBookAnswer(prices=[_answer(start, versions) for start in versions]))


async def get(call: Call[None]) -> web.Response:
    """The version that begins on a day."""
    start, versions = _start(call), call.part(BILLING).prices.versions()
    if start not in versions:
        raise NotFoundError(f"no prices begin on {start}", field="start")
    return json_response(_answer(start, versions))


async def put(call: Call[PriceVersion]) -> web.Response:
    """Set the prices from a day on."""
    start, prices = _start(call), call.part(BILLING).prices
    is_new = await prices.put(start, call.body)
    return json_response(_answer(start, prices.versions()), status=201 if is_new else 200)


async def delete(call: Call[None]) -> web.Response:
    """Take back a version that has not begun."""
    await call.part(BILLING).prices.delete(_start(call))
    return web.Response(status=204)


def _start(call: Call[Any]) -> date:
    value = call.named("start")
    try:
        found = date.fromisoformat(value) if DAY.fullmatch(value) else None
    except ValueError:
        found = None
    if found is None:
        raise InvalidError("start: a day was expected, as in 2026-01-31", field="start")
    return found


def _answer(start: date, versions: dict[date, PriceVersion]) -> PricesAnswer:
    in_force = max((other for other in versions if other <= today()), default=None)
    return PricesAnswer(start=start.isoformat(), in_force=start == in_force, version=versions[start])


ROUTES: Final = (
    Route(
        method="GET", path="/v1/prices", handler=list_prices, summary="List the price book's versions",
        roles=OPERATE, answers={200: PriceBookAnswer},
    ),
    Route(
        method="GET", path="/v1/prices/{start}", handler=get, summary="Read a version of the price book",
        roles=OPERATE, answers={200: PricesAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/prices/{start}", handler=put, summary="Set the prices from a day on",
        roles=OPERATE, body=PriceVersion, answers={201: PricesAnswer, 200: PricesAnswer},
        errors=((409, "price_in_force"), (413, "too_large"), (422, "limit")),
    ),
    Route(
        method="DELETE", path="/v1/prices/{start}", handler=delete,
        summary="Take back prices that are not in force yet", roles=OPERATE, answers={204: None},
        errors=(*NO_SUCH, (409, "price_in_force")),
    ),
)  # fmt: skip
