"""`GET /v1/workers`: who works now, and what the log says of each."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from services.gateway.auth import Role, require
from services.gateway.http import json_response
from services.gateway.keys import READ_MODEL, WORKERS
from services.gateway.query import Query
from services.worker.registry import WorkerRecord

TALLIES = ("started", "succeeded", "failed", "lost")


async def list_workers(request: web.Request) -> web.Response:
    """The live workers, by id.

    Raises:
        RejectedError: the caller may not see them.
    """
    require(request, Role.VIEWER)
    Query(request)
    tallies = {row["id"]: row for row in request.app[READ_MODEL].workers()}
    records = request.app[WORKERS].records()
    return json_response({"workers": [_view(record, tallies.get(record.id, {})) for record in records]})


def _view(record: WorkerRecord, tally: dict[str, Any]) -> dict[str, Any]:
    """The record with the count of its leases, which may be of any tenant's jobs, and its tallies."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    running = len(fields.pop("fences", {}))
    return {**fields, "running": running, **{name: tally.get(name, 0) for name in TALLIES}}
