"""The routes of files on their own, with the callers' names in a header instead of tokens."""

from __future__ import annotations

import json
from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler
from nats.aio.client import Client

from services.files import Files
from services.gateway.auth import PRINCIPAL, Principal, Role
from services.gateway.files import FileRoutes
from services.gateway.problems import problem_of
from services.settings import Settings

H_CALLER = "Test-Caller"
"""`{"tenant": ..., "roles": [...]}` as JSON."""


class Index:
    """Bytes stored by tenant, as a test sets them."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()

    def tenant_bytes(self, tenant: str) -> int:
        return self.stored[tenant]


def application(nc: Client, index: Index, settings: Settings) -> web.Application:
    """An application with nothing but `/v1/files`."""
    files = Files(nc, timeout_s=3.0, upload_timeout_s=settings.upload_timeout_s)
    app = web.Application(middlewares=[_caller])
    app.add_routes(FileRoutes(files, index, settings).routes())
    return app


@web.middleware
async def _caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    who = json.loads(request.headers.get(H_CALLER, "{}"))
    roles = frozenset(Role(role) for role in who.get("roles", ["submitter", "viewer"]))
    request[PRINCIPAL] = Principal("ann", who.get("tenant", "acme"), roles, "t1", 2e9)
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - as the gateway does, every error becomes a problem document
        return problem_of(error).response(request.path)
