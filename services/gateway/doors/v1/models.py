"""`/v1/models`: the catalogue of model files, and what workers fetch of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.access.principal import Role
from switchyard.services.connectors.supply import Report
from switchyard.services.gateway.app_keys import CATALOGUE, SUPPLY
from switchyard.services.gateway.doors.v1.answers.models import (
    ModelAnswer,
    ModelPage,
    OrderAnswer,
    ReplyAnswer,
    model_answer,
)
from switchyard.services.gateway.doors.v1.parts import ADMIN, NO_SUCH, PAGED, SEE, WORK, page_limit
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.gateway.operations.models.catalogue import ModelRequest
from switchyard.services.records.models.store import Found
from switchyard.services.records.workers import REST

NAMED: Final = SEE
"""All who submit see which files there are."""


async def list_models(call: Call[None]) -> web.Response:
    """A page of the catalogue, by folder and name."""
    page, cursor = call.part(CATALOGUE).page(call.caller, call.query.text("cursor") or "", page_limit(call))
    answers = [model_answer(found, whole=_is_admin(call)) for found in page]
    return json_response(ModelPage(models=answers, cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A file of the catalogue."""
    return _answer(call, await call.part(CATALOGUE).get(call.caller, *_place(call)))


async def put(call: Call[ModelRequest]) -> web.Response:
    """Enter a file, or put another description in its place."""
    found, is_new = await call.part(CATALOGUE).put(call.caller, *_place(call), call.body)
    return _answer(call, found, status=201 if is_new else 200)


async def delete(call: Call[None]) -> web.Response:
    """Take a file out of the catalogue; workers that have it keep it."""
    await call.part(CATALOGUE).delete(*_place(call))
    return web.Response(status=204)


async def report(call: Call[Report]) -> web.Response:
    """A worker says what it fetches, and hears what is next."""
    worker = WorkerId(f"{REST}.{call.caller.tenant}.{call.body.worker}")
    reply = await call.part(SUPPLY).report(worker, call.body)
    order = None if reply.order is None else OrderAnswer(**msgspec.structs.asdict(reply.order))
    return json_response(
        ReplyAnswer(order=order, go_on=reply.go_on, why=reply.why), headers={"Cache-Control": "no-store"}
    )


def _place(call: Call[Any]) -> tuple[str, str]:
    return call.named("folder"), call.named("name")


def _is_admin(call: Call[Any]) -> bool:
    return Role.ADMIN in call.caller.roles


def _answer(call: Call[Any], found: Found, *, status: int = 200) -> web.Response:
    return json_response(model_answer(found, whole=_is_admin(call)), status=status)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/models", handler=list_models, summary="List the model files of the catalogue",
        roles=NAMED, query=PAGED, answers={200: ModelPage},
    ),
    Route(
        method="GET", path="/v1/models/{folder}/{name}", handler=get,
        summary="Read a model file of the catalogue", roles=NAMED, answers={200: ModelAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="PUT", path="/v1/models/{folder}/{name}", handler=put,
        summary="Enter a model file that workers may fetch", roles=ADMIN, body=ModelRequest,
        answers={201: ModelAnswer, 200: ModelAnswer},
        errors=(
            (409, "conflict"), (422, "address_not_allowed"), (422, "credentials_needed"),
            (429, "too_many_models"),
        ),
    ),
    Route(
        method="DELETE", path="/v1/models/{folder}/{name}", handler=delete,
        summary="Take a model file out of the catalogue", roles=ADMIN, answers={204: None},
        errors=(*NO_SUCH, (409, "conflict")),
    ),
    Route(
        method="POST", path="/v1/models/fetches", handler=report,
        summary="Report what a worker fetches, and get what is next", roles=WORK, body=Report,
        answers={200: ReplyAnswer},
    ),
)  # fmt: skip
