"""The routes of Octopoid's API; `docs/octopoid.md` describes them."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from nats.aio.client import Client

from switchyard.services.gateway.app_keys import DOCUMENTS_USE, NATS, PUBLISHER, SETTINGS
from switchyard.services.gateway.doors.octopoid import (
    change,
    claim,
    create,
    flows,
    listing,
    orchestrators,
    records,
    verbs,
)
from switchyard.services.gateway.doors.octopoid.door import DOCUMENTS, HEALTH, KEYS, now
from switchyard.services.gateway.doors.octopoid.scopes import ScopeKeys
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.records.entries import Documents

VERSION: Final = "2.0.0"
"""The version of Octopoid's API that is served. Source: octopoid-server 73d3511, `src/config.ts`."""
V1: Final = "/api/v1"


async def health(request: web.Request) -> web.Response:
    """`GET /api/health`, for which nobody needs a key."""
    connected = request.app[NATS].is_connected
    body = {
        "status": "healthy" if connected else "unhealthy", "version": VERSION, "timestamp": now(),
        "database": "connected" if connected else "disconnected",
        "registration": "open" if request.app[SETTINGS].octopoid_open else "closed",
    }  # fmt: skip
    return json_response(body, status=200 if connected else 503)


def add(app: web.Application, nc: Client) -> None:
    """Put in what the routes go by, and connect them."""
    app[KEYS] = ScopeKeys(nc, app[PUBLISHER], app[SETTINGS])
    app[DOCUMENTS] = Documents(nc, app[PUBLISHER], app[SETTINGS], app[DOCUMENTS_USE])
    router = app.router
    router.add_get(HEALTH, health)
    router.add_post(f"{V1}/orchestrators/register", orchestrators.register)
    router.add_post(f"{V1}/orchestrators/scopes/{{scope}}/rotate-key", orchestrators.rotate_key)
    router.add_post(f"{V1}/orchestrators/{{id}}/heartbeat", orchestrators.heartbeat)
    router.add_get(f"{V1}/orchestrators", orchestrators.list_orchestrators)
    router.add_get(f"{V1}/orchestrators/{{id}}", orchestrators.get)
    router.add_patch(f"{V1}/orchestrators/{{id}}", orchestrators.patch)
    router.add_get(f"{V1}/scheduler/poll", listing.poll)
    _add_tasks(router)
    _add_records(router)


def _add_tasks(router: web.UrlDispatcher) -> None:
    router.add_post(f"{V1}/tasks", create.create)
    router.add_get(f"{V1}/tasks", listing.list_tasks)
    router.add_post(f"{V1}/tasks/claim", claim.claim)
    router.add_get(f"{V1}/tasks/{{id}}", change.get)
    router.add_patch(f"{V1}/tasks/{{id}}", change.patch)
    router.add_delete(f"{V1}/tasks/{{id}}", create.delete)
    router.add_get(f"{V1}/tasks/{{id}}/messages", records.list_messages)
    for verb in (verbs.submit, verbs.accept, verbs.reject, verbs.requeue, verbs.renew, verbs.release):
        router.add_post(f"{V1}/tasks/{{id}}/{verb.__name__}", verb)
    router.add_post(f"{V1}/tasks/{{id}}/force-queue", verbs.force_queue)
    router.add_post(f"{V1}/tasks/{{id}}/hooks/{{hook}}/complete", verbs.complete_hook)


def _add_records(router: web.UrlDispatcher) -> None:
    router.add_get(f"{V1}/flows", flows.list_flows)
    router.add_get(f"{V1}/flows/{{name}}", flows.get)
    router.add_put(f"{V1}/flows/{{name}}", flows.put)
    router.add_delete(f"{V1}/flows/{{name}}", flows.delete)
    router.add_post(f"{V1}/messages", records.create_message)
    router.add_get(f"{V1}/messages", records.list_messages)
    router.add_post(f"{V1}/projects", records.create_project)
    router.add_get(f"{V1}/projects", records.list_projects)
    router.add_get(f"{V1}/projects/{{id}}", records.get_project)
    router.add_patch(f"{V1}/projects/{{id}}", records.patch_project)
    router.add_get(f"{V1}/projects/{{id}}/tasks", records.project_tasks)
    router.add_post(f"{V1}/drafts", records.create_draft)
    router.add_get(f"{V1}/drafts", records.list_drafts)
    router.add_post(f"{V1}/actions", records.create_action)
    router.add_get(f"{V1}/actions", records.list_actions)
    for verb in (records.execute_action, records.complete_action, records.fail_action):
        router.add_post(f"{V1}/actions/{{id}}/{verb.__name__.removesuffix('_action')}", verb)
