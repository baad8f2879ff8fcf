"""What the task door answers about servers; they stand in the registry that all doors share."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import ConflictError, NotFoundError
from switchyard.services import clock
from switchyard.services.gateway.app_keys import SERVERS, SETTINGS
from switchyard.services.gateway.doors.tasks import stats
from switchyard.services.gateway.doors.tasks.answers import Done
from switchyard.services.gateway.doors.tasks.servers import forms, views
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.servers.request import ServerChange
from switchyard.services.gateway.operations.servers.servers import Wanted
from switchyard.services.ids import new_id
from switchyard.services.records.servers.store import Found

ALGORITHM: Final = "least-of-two"
ONE_WAY: Final = "Nothing was changed: of two servers that fit, the one with less to do gets a task, always"
SHOWN_CHARS: Final = 80


async def create(call: Call[forms.ServerForm]) -> web.Response:
    """`POST /api/servers`: register a server, or put it in the place of the one of its id."""
    form = call.body
    asked = forms.request_of(form, call.part(SETTINGS).task_kind)
    servers = call.part(SERVERS)
    server_id = form.id if isinstance(form.id, str) else new_id()
    for left in reversed(range(call.part(SETTINGS).append_tries)):
        try:
            await servers.put(call.caller, server_id, asked)
            break
        except ConflictError:  # another request was faster, and this one is to overwrite what it made
            if not left:
                raise
    await servers.heartbeat(call.caller.tenant, server_id)
    if forms.is_first(form):
        return json_response(views.Registered(id=server_id, success=True))
    return json_response(views.Taken(server_id=server_id, message="Server registered successfully"))


async def list_servers(call: Call[None]) -> web.Response:
    """`GET /api/servers`: all of them, or those of a status or a group."""
    servers, now = call.part(SERVERS), clock.now()
    status, group = call.query.text("status"), call.query.text("group")
    found, _ = servers.page(Wanted(call.caller.tenant), "", call.part(SETTINGS).servers)
    shown = [
        views.server_view(one, servers, now)
        for one in found
        if (status is None or views.status_of(one, servers, now) == status)
        and (group is None or group in views.groups_of(one.server))
    ]
    return json_response(views.Listed(servers=shown))


async def read(call: Call[None]) -> web.Response:
    """`GET /api/servers/{id}`: one of them."""
    servers = call.part(SERVERS)
    return json_response(views.server_view(await _found(call), servers, clock.now(), one=True))


async def heartbeat(call: Call[None]) -> web.Response:
    """`POST /api/servers/{id}/heartbeat`: it lives."""
    name = (await _found(call)).server.id
    try:
        found = await call.part(SERVERS).heartbeat(call.caller.tenant, name)
    except NotFoundError:  # somebody removed it meanwhile
        raise _no_such(name) from None
    return json_response(
        views.Beaten(
            id=name, success=True, message="Heartbeat updated successfully",
            last_heartbeat=views.iso(views.seen_at(found)),
        )
    )  # fmt: skip


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /api/servers/{id}`: take it out."""
    name = (await _found(call)).server.id
    try:
        await call.part(SERVERS).delete(call.caller.tenant, name)
    except NotFoundError:
        raise _no_such(name) from None
    return json_response(views.Gone(id=name, success=True, message="Server unregistered successfully"))


async def cleanup(call: Call[forms.CleanupForm]) -> web.Response:
    """`POST /api/servers/cleanup`: take those out that have long been dead."""
    minutes = call.body.max_age_mins
    older_s = None if minutes is None else 60 * minutes
    removed = await call.part(SERVERS).cleanup(call.caller.tenant, older_s, dry_run=False)
    return json_response(views.Cleaned(success=True, removed_servers=[server.id for server in removed]))


async def maintenance(call: Call[forms.MaintenanceForm]) -> web.Response:
    """`PUT /api/servers/{id}/maintenance`: no new tasks for now, or some again."""
    name, enabled = (await _found(call)).server.id, call.body.enabled
    try:
        await call.part(SERVERS).change(call.caller, name, ServerChange(maintenance=enabled))
    except NotFoundError:
        raise _no_such(name) from None
    state = "enabled" if enabled else "disabled"
    return json_response(Done(success=True, message=f"Maintenance mode {state} for server {name}"))


async def metrics(call: Call[None]) -> web.Response:
    """`GET /api/servers/{id}/metrics`: what it made of the tasks of today."""
    servers, found = call.part(SERVERS), await _found(call)
    made = stats.made_of(await stats.today(call), found.server.id)
    status = views.status_of(found, servers, clock.now())
    return json_response(
        views.Metrics(
            tasks_processed=made.tasks, success_count=made.succeeded,
            failure_count=made.tasks - made.succeeded, success_rate=made.rate,
            average_response_time=made.average_ms, total_duration=made.total_ms,
            active_tasks=made.active, health_score=views.score_of(found), status=status,
            healthy=status in views.WELL, capabilities=forms.names_of(found.server.capabilities),
            max_capacity=found.server.slots,
        )
    )  # fmt: skip


async def balance(call: Call[None]) -> web.Response:
    """`GET /api/loadbalancer/status`: how tasks are spread."""
    servers, now, shares = call.part(SERVERS), clock.now(), await stats.today(call)
    found = list(servers.registry.all(call.caller.tenant))
    return json_response(
        views.Balance(
            algorithm=ALGORITHM, healthy_servers=sum(servers.takes_jobs(one, now) for one in found),
            server_loads={one.server.id: stats.made_of(shares, one.server.id).active for one in found},
        )
    )  # fmt: skip


async def choose(call: Call[forms.AlgorithmForm]) -> web.Response:
    """`PUT /api/loadbalancer/algorithm`: there is one way, which stays."""
    del call
    return json_response(Done(success=False, message=ONE_WAY))


async def _found(call: Call[Any]) -> Found:
    """The server that the route names.

    Raises:
        NotFoundError: the tenant has none of this id.
    """
    name = call.named("id")
    try:
        return await call.part(SERVERS).get(call.caller.tenant, name)
    except NotFoundError:
        raise _no_such(name) from None


def _no_such(name: str) -> NotFoundError:
    return NotFoundError(f"Service {name[:SHOWN_CHARS]} not found", field="id")
