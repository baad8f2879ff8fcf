"""`GET /v1/usage`: what a tenant has of what all tenants share, and how much it may have."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from switchyard.services.access.principal import Role
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.gateway.app_keys import (
    CLAIM_KEYS_USE,
    DOCUMENTS_USE,
    LANES,
    SCHEDULES_USE,
    SETTINGS,
    SHARES,
)
from switchyard.services.gateway.doors.v1.files import FILE_ROUTES
from switchyard.services.gateway.http.callers import json_response, require
from switchyard.services.gateway.http.query import Query, scope


async def usage(request: web.Request) -> web.Response:
    """The tenant's numbers beside their limits.

    Raises:
        RejectedError: a parameter is wrong, or the tenant is not the caller's.
        UnavailableError: there is no read model.
    """
    require(request, Role.VIEWER, Role.OPERATOR)
    tenant = scope(request, Query(request, "tenant"), wide=Role.OPERATOR)
    app = request.app
    found: dict[str, tuple[int, float]] = {
        **app[SHARES].usage(tenant),
        "lanes": (app[LANES].opened_by(tenant), app[SETTINGS].tenant_lanes),
        **app[FILE_ROUTES].quota.usage(tenant),
        **_entries("schedules", app[SCHEDULES_USE], tenant),
        "schedule_bytes": _bytes(app[SCHEDULES_USE], tenant),
        **_entries("claim_keys", app[CLAIM_KEYS_USE], tenant),
        "octopoid_bytes": _bytes(app[DOCUMENTS_USE], tenant),
    }
    return json_response({"tenant": tenant, "usage": {what: _view(*found[what]) for what in found}})


def _entries(what: str, use: BucketUse, tenant: str) -> dict[str, tuple[int, float]]:
    return {what: (use.entries(tenant), use.bounds.entries)}


def _bytes(use: BucketUse, tenant: str) -> tuple[int, float]:
    return use.size_bytes(tenant), use.bounds.size_bytes


def _view(used: int, limit: float) -> dict[str, Any]:
    return {"used": used, "limit": None if math.isinf(limit) else int(limit)}
