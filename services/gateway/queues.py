"""`GET /v1/queues`: what waits and runs, by lane and priority."""

from __future__ import annotations

from aiohttp import web

from services.gateway.http import H_SEQ, json_response
from services.gateway.keys import FRESHNESS, READ_MODEL
from services.gateway.query import Query, min_seq, wide_scope


async def list_queues(request: web.Request) -> web.Response:
    """The queues that hold jobs which have not ended.

    Raises:
        RejectedError: a parameter is wrong, or the tenant is not the caller's.
        UnavailableError: the read model lags too far behind.
    """
    tenant = wide_scope(request, Query(request, "tenant"))
    seq = await request.app[FRESHNESS].wait(min_seq(request))
    queues = request.app[READ_MODEL].queues(tenant=tenant)
    return json_response({"queues": queues}, headers={H_SEQ: str(seq)})
