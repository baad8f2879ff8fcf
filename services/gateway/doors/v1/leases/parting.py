"""The routes of attempts that end in parts, and of those that join them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from switchyard.events.outcome import MAX_NAMES
from switchyard.events.rules.parts import MAX_PARTS
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.job_view import JobView
from switchyard.services.gateway.app_keys import PARTING
from switchyard.services.gateway.doors.v1.answers.leases import PartOutcomeAnswer
from switchyard.services.gateway.doors.v1.jobs.shown import shown
from switchyard.services.gateway.doors.v1.leases.results import GONE, HOLDER, held
from switchyard.services.gateway.doors.v1.leases.routes import Unit
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.intake.parts import PlannedPart


class PartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an end in parts; without `parts`, those of the artifact `parts.json`."""

    parts: Annotated[list[PlannedPart], Meta(max_length=MAX_PARTS)] | None = None
    policy: JoinPolicy = JoinPolicy.ALL
    usage: Annotated[dict[Unit, float], Meta(max_length=MAX_NAMES)] = {}


async def part(call: Call[PartRequest]) -> web.Response:
    """End the attempt in parts; the next one joins them."""
    fields = msgspec.structs.asdict(call.body)
    return await shown(call, await call.part(PARTING).part(call.caller, held(call), **fields))


async def outcome(call: Call[None]) -> web.Response:
    """How a part ended."""
    found = await call.part(PARTING).outcome(held(call), JobId(call.named("part")))
    return json_response(PartOutcomeAnswer(**found))


_READS: Final[dict[str, Any]] = {**HOLDER, "method": "GET", "answer_headers": ()}

ROUTES: Final = (
    Route(
        path="/v1/leases/{id}/part", handler=part, summary="End an attempt in parts",
        body=PartRequest, answers={200: JobView},
        errors=(
            *GONE, (409, "parted_before"), (413, "quota_exceeded"), (422, "invalid_part"), (422, "no_parts"),
            (422, "too_deep"), (422, "too_many_parts"), (422, "unknown_file"), (422, "unwritable"),
        ),
        **HOLDER,
    ),
    Route(
        path="/v1/leases/{id}/parts/{part}", handler=outcome, summary="Read how a part ended",
        answers={200: PartOutcomeAnswer}, errors=GONE, **_READS,
    ),
)  # fmt: skip
