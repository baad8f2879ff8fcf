"""`/v1/quotas`: what a tenant and its API keys may use in a day or a month."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.events.ledger.line import shown
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import BILLING
from switchyard.services.gateway.doors.v1.answers.billing import QuotaAnswer, QuotasAnswer, QuotaUse
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, OPERATE, SEE, TENANT
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import scope
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.intake.budgets import end_of
from switchyard.services.ledger.quotas import Allowed, Quota


async def list_quotas(call: Call[None]) -> web.Response:
    """All quotas of a tenant and its keys, with what was used of each."""
    tenant = _tenant(call)
    found = call.part(BILLING).quotas.all(tenant)
    answers = [await _answer(call, tenant, of, quotas) for of, quotas in found.items()]
    return json_response(QuotasAnswer(quotas=answers))


async def get(call: Call[None]) -> web.Response:
    """The quotas of a tenant or a key, with what was used of each."""
    tenant, of = _tenant(call), call.named("of")
    quotas = call.part(BILLING).quotas.of(tenant, of)
    if not quotas:
        raise NotFoundError(f"tenant {tenant} has no quotas for {of}", field="of")
    return json_response(await _answer(call, tenant, of, quotas))


async def put(call: Call[Quota]) -> web.Response:
    """Set all quotas of a tenant or a key."""
    tenant, of = _tenant(call), call.named("of")
    await call.part(BILLING).quotas.put(tenant, of, call.body)
    return json_response(await _answer(call, tenant, of, call.body.quotas))


async def delete(call: Call[None]) -> web.Response:
    """Let a tenant or a key use any amount."""
    await call.part(BILLING).quotas.delete(_tenant(call), call.named("of"))
    return web.Response(status=204)


def _tenant(call: Call[Any]) -> str:
    return scope(call.caller, call.query, wide=Role.OPERATOR)


async def _answer(call: Call[Any], tenant: str, of: str, quotas: tuple[Allowed, ...]) -> QuotaAnswer:
    budgets, now = call.part(BILLING).budgets, clock.now()
    uses = []
    for one in quotas:
        used = await budgets.used(tenant, of, one.period, now)
        uses.append(
            QuotaUse(
                unit=one.unit, period=one.period, most=one.most, used=shown(used.get(one.unit, 0)),
                ends_at=end_of(one.period, now),
            )
        )  # fmt: skip
    return QuotaAnswer(tenant=tenant, of=of, quotas=uses)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/quotas", handler=list_quotas, summary="List quotas and their use",
        roles=SEE, query=(TENANT,), answers={200: QuotasAnswer},
    ),
    Route(
        method="GET", path="/v1/quotas/{of}", handler=get, summary="Read quotas and their use",
        roles=SEE, query=(TENANT,), answers={200: QuotaAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/quotas/{of}", handler=put, summary="Set quotas",
        roles=OPERATE, query=(TENANT,), body=Quota, answers={200: QuotaAnswer},
        errors=((413, "too_large"),),
    ),
    Route(
        method="DELETE", path="/v1/quotas/{of}", handler=delete, summary="Remove quotas",
        roles=OPERATE, query=(TENANT,), answers={204: None}, errors=NO_SUCH,
    ),
)  # fmt: skip
