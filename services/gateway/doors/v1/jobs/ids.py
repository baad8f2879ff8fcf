"""The route that finds jobs by the beginning of their id, and counts those of a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from switchyard.services.gateway.app_keys import JOBS
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.parts import (
    API_KEY,
    KIND,
    LABEL,
    READ,
    SEQ,
    TENANT,
    key_filter,
    labels_of,
    words_of,
)
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import H_MIN_SEQ, min_seq, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route

PREFIX: Final = re.compile(r"[0-9a-f-]{4,36}")
MOST: Final = 100
SHOWN: Final = 10


class JobIds(Answer, frozen=True, kw_only=True):
    """Ids of jobs; `total` of them were counted, and where `more` is true there are or may be others."""

    ids: Sequence[str]
    total: int
    more: bool


async def find(call: Call[None]) -> web.Response:
    """The ids, newest first, or in their own order where they begin alike."""
    query, jobs = call.query, call.part(JOBS)
    tenant, prefix = wide_scope(call.caller, query), query.text("prefix")
    limit = query.integer("limit", default=SHOWN, least=1, most=MOST)
    if prefix is not None and PREFIX.fullmatch(prefix) is None:
        raise wrong("prefix", prefix, "4 to 36 of the digits 0 to 9, a to f and -")
    filters: dict[str, Any] = {
        "states": words_of(query, "state"), "kinds": words_of(query, "kind"), "labels": labels_of(query),
        "key": key_filter(query), "created_after": query.time("created_after"),
        "created_before": query.time("created_before"),
    }  # fmt: skip
    if prefix is not None and (given := next((name for name, value in filters.items() if value), None)):
        raise wrong("prefix", prefix, f"a list by {given} has none; a prefix alone")
    seq = await jobs.freshness.wait(min_seq(call.request))
    found = jobs.read_model.job_ids(tenant=tenant, limit=limit, prefix=prefix, **filters)
    return json_response(JobIds(ids=found.ids, total=found.total, more=found.more), headers={H_SEQ: str(seq)})


ROUTES: Final = (
    Route(
        method="GET", path="/v1/job-ids", handler=find, summary="Find or count jobs by their ids",
        roles=READ, headers=(H_MIN_SEQ,), answers={200: JobIds}, answer_headers=SEQ,
        query=(
            Parameter("prefix"), TENANT, API_KEY, Parameter("created_after", "time"),
            Parameter("created_before", "time"), Parameter("limit", "integer"),
            Parameter("state", repeated=True), KIND, LABEL,
        ),
    ),
)  # fmt: skip
