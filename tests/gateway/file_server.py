"""The routes of files on their own, with the callers' names in a header instead of tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.projections import database, files
from switchyard.projections.checkpoint import Place
from switchyard.projections.reader import ReadModel
from switchyard.services.access.principal import Principal, Role
from switchyard.services.files import FileInfo, Files
from switchyard.services.files.info import encode
from switchyard.services.gateway.app_keys import ERASURES, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.v1.files import ROUTES
from switchyard.services.gateway.http.callers import enter
from switchyard.services.gateway.http.doors import Door, Doors
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Route
from switchyard.services.gateway.operations.erasing.erasures import Erasures
from switchyard.services.gateway.operations.files import TenantFiles
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings

H_CALLER = "Test-Caller"
"""`{"tenant": ..., "roles": [...]}` as JSON."""


class Index:
    """A read model that knows of the files that a test says are there."""

    def __init__(self, path: Path) -> None:
        self._writer = database.open_writer(path, "test")
        self._seq = 0
        self.model = ReadModel(path)

    def close(self) -> None:
        self.model.close()
        self._writer.close()

    def add(self, tenant: str, size_bytes: int, ttl_s: float = 3600, name: str = "a.txt") -> FileInfo:
        """As if a file had been stored."""
        self._seq += 1
        now = datetime.now(UTC).replace(microsecond=0)
        expires_at = now + timedelta(seconds=ttl_s)
        info = FileInfo(
            new_id(), tenant, name, "text/plain", size_bytes, "0" * 64, now, expires_at, new_id(), 0, ()
        )
        meta = subjects.file_meta(tenant, info.id)
        files.apply(self._writer, [(meta, encode(info))], Place(seq=self._seq), now=now)
        return info


def application(nc: Client, model: ReadModel, settings: Settings) -> web.Application:
    """An application with nothing but `/v1/files`."""
    store = Files(nc, timeout_s=20, upload_timeout_s=settings.upload_timeout_s)
    app = web.Application(middlewares=[_caller])
    app[SETTINGS] = settings
    app[TENANT_FILES] = TenantFiles(store, model, settings)
    nothing: Any = None  # no jobs are erased here, and no files that can be
    app[ERASURES] = Erasures(nothing, nothing, store)
    Doors(Door(), [_FilesAlone()]).connect(app.router)
    return app


class _FilesAlone(Door):
    name = "files"
    prefixes = ("/v1/files",)

    def routes(self) -> tuple[Route, ...]:
        return ROUTES


@web.middleware
async def _caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    who = json.loads(request.headers.get(H_CALLER, "{}"))
    roles = frozenset(Role(role) for role in who.get("roles", ["submitter", "viewer"]))
    enter(request, Principal("ann", who.get("tenant", "acme"), roles, "t1", 2e9))
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - as the gateway does, every error becomes a problem document
        return problem_of(error).response(request)
