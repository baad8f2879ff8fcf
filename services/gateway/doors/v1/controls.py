"""Routes that pause and resume workers, lanes and kinds, and drain workers."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.services.gateway.app_keys import CONTROLS, FLEET
from switchyard.services.gateway.doors.v1.answers.operation import (
    ControlAnswer,
    ControlsAnswer,
    control_answer,
)
from switchyard.services.gateway.doors.v1.parts import (
    NO_SUCH,
    OPERATE,
    SEE,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Handler, Route
from switchyard.services.gateway.operations.controls import WISHES
from switchyard.services.records.controls import What


async def list_controls(call: Call[None]) -> web.Response:
    """What is paused or asked to drain, and concerns the caller."""
    found = await call.part(CONTROLS).all(call.caller)
    return json_response(ControlsAnswer(controls=[control_answer(wished) for wished in found]))


def worker_route(verb: str) -> Handler:
    """What pauses, resumes or drains a worker."""

    async def handle(call: Call[None]) -> web.Response:
        record = call.part(FLEET).live(call.caller, call.named("id"))
        wished = await call.part(CONTROLS).worker(call.caller, record, verb)
        return json_response(control_answer(wished), status=202)

    return handle


def queue_route(what: What, verb: str) -> Handler:
    """What pauses or resumes a lane or a kind."""

    async def handle(call: Call[None]) -> web.Response:
        wished, consumers = await call.part(CONTROLS).queue(call.caller, what, call.named(what), verb)
        return json_response(control_answer(wished, consumers))

    return handle


ROUTES: Final = (
    Route(
        method="GET", path="/v1/controls", handler=list_controls, summary="List what is paused",
        roles=SEE, answers={200: ControlsAnswer},
    ),
    *(
        Route(
            method="POST", path=f"/v1/workers/{{id}}/{verb}", handler=worker_route(verb),
            summary=f"{verb.capitalize()} a worker", roles=OPERATE, answers={202: ControlAnswer},
            errors=(*NO_SUCH, (409, "draining")),
        )
        for verb in WISHES
    ),
    *(
        Route(
            method="POST", path=f"/v1/{what}s/{{{what}}}/{verb}", handler=queue_route(what, verb),
            summary=f"{verb.capitalize()} a {what}", roles=OPERATE, answers={200: ControlAnswer},
            errors=NO_SUCH,
        )
        for what in ("lane", "kind")
        for verb in ("pause", "resume")
    ),
)  # fmt: skip
