"""`/v1/kinds`: defaults for the jobs of a kind."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.subjects import NAME
from switchyard.services.gateway.app_keys import KINDS
from switchyard.services.gateway.doors.v1.answers.operation import KindAnswer, KindsAnswer, kind_answer
from switchyard.services.gateway.doors.v1.parts import ADMIN, NO_SUCH
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.records.kinds import KindDefaults


async def list_kinds(call: Call[None]) -> web.Response:
    """The kinds that have defaults of their own, by name."""
    found = call.part(KINDS).all()
    return json_response(KindsAnswer(kinds=[kind_answer(kind, found[kind]) for kind in found]))


async def get(call: Call[None]) -> web.Response:
    """The defaults of a kind."""
    kind = _kind(call)
    defaults = call.part(KINDS).all().get(kind)
    if defaults is None:
        raise NotFoundError(f"kind {kind} has no defaults of its own", field="kind")
    return json_response(kind_answer(kind, defaults))


async def put(call: Call[KindDefaults]) -> web.Response:
    """Set all defaults of a kind."""
    kind = _kind(call)
    await call.part(KINDS).put(kind, call.body)
    return json_response(kind_answer(kind, call.body))


async def delete(call: Call[None]) -> web.Response:
    """Leave the kind to Switchyard's own defaults."""
    kind = _kind(call)
    if kind not in call.part(KINDS).all():
        raise NotFoundError(f"kind {kind} has no defaults of its own", field="kind")
    await call.part(KINDS).delete(kind)
    return web.Response(status=204)


def _kind(call: Call[Any]) -> str:
    kind = call.named("kind")
    if NAME.fullmatch(kind) is None:
        raise InvalidError(f"kind: a name that matches {NAME.pattern} was expected", field="kind")
    return kind


ROUTES: Final = (
    Route(
        method="GET", path="/v1/kinds", handler=list_kinds, summary="List kinds with defaults",
        roles=ADMIN, answers={200: KindsAnswer},
    ),
    Route(
        method="GET", path="/v1/kinds/{kind}", handler=get, summary="Read a kind's defaults",
        roles=ADMIN, answers={200: KindAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/kinds/{kind}", handler=put, summary="Set a kind's defaults",
        roles=ADMIN, body=KindDefaults, answers={200: KindAnswer}, errors=((422, "limit"),),
    ),
    Route(
        method="DELETE", path="/v1/kinds/{kind}", handler=delete, summary="Remove a kind's defaults",
        roles=ADMIN, answers={204: None}, errors=NO_SUCH,
    ),
)  # fmt: skip
