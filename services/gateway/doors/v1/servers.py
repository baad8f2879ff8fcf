"""`/v1/servers`: prediction servers that jobs are pushed to, and how they fare."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from aiohttp import hdrs, web
from msgspec import UNSET, UnsetType

from switchyard.events.subjects import NAME
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import SERVERS
from switchyard.services.gateway.doors.v1.answers.servers import (
    CleanupAnswer,
    RemovedServer,
    ServerAnswer,
    ServerPage,
    server_answer,
)
from switchyard.services.gateway.doors.v1.parts import (
    EMPTY,
    KIND,
    LABEL,
    NO_SUCH,
    PAGED,
    SEE,
    TENANT,
    labels_of,
    page_limit,
    words_of,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import Query, scope, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route
from switchyard.services.gateway.operations.servers.request import (
    CleanupRequest,
    MaintenanceRequest,
    ServerChange,
    ServerRequest,
)
from switchyard.services.gateway.operations.servers.servers import ANYTHING, Expected, Wanted
from switchyard.services.intake.faults import MalformedError
from switchyard.services.records.servers.condition import Shown
from switchyard.services.records.servers.store import Found

STATES: Final = frozenset(get_args(Shown))
MANAGE: Final = (Role.TENANT_ADMIN, Role.OPERATOR)
"""Who registers servers: each tenant's admin its own, and operators those of every tenant."""
BEAT: Final = (Role.TENANT_ADMIN, Role.OPERATOR, Role.WORKER)
"""A server says that it lives with a key of role worker: it needs no more."""
_TAG: Final = re.compile(r'(?:W/)?"([0-9]{1,19})"')


async def create(call: Call[ServerRequest]) -> web.Response:
    """Register a server."""
    _tenant(call)  # a server belongs to one
    found = await call.part(SERVERS).create(call.caller, call.body)
    return _answer(call, found, status=201)


async def put(call: Call[ServerRequest]) -> web.Response:
    """Register a server, or put another description in its place."""
    _tenant(call)  # a server belongs to one
    found, is_new = await call.part(SERVERS).put(
        call.caller, call.named("id"), call.body, _expected(call.request)
    )
    return _answer(call, found, status=201 if is_new else 200)


async def list_servers(call: Call[None]) -> web.Response:
    """A page of servers by id, without their last checks."""
    query, servers, now = call.query, call.part(SERVERS), clock.now()
    wanted = Wanted(
        wide_scope(call.caller, query, wide=Role.OPERATOR), kinds=words_of(query, "kind"),
        states=_states(query), labels=labels_of(query), enabled=_flag(query, "enabled"),
        maintenance=_flag(query, "maintenance"),
    )  # fmt: skip
    page, cursor = servers.page(wanted, query.text("cursor") or "", page_limit(call))
    answers = [server_answer(found, servers, now, listed=True) for found in page]
    return json_response(ServerPage(servers=answers, cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A server, how it fares, and what its last checks came to."""
    servers = call.part(SERVERS)
    found = await servers.get(_tenant(call), call.named("id"))
    return _answer(call, found, running=await servers.running(found))


async def change(call: Call[ServerChange]) -> web.Response:
    """Change some of a server; what is left out stays."""
    _tenant(call)  # a server belongs to one
    found = await call.part(SERVERS).change(call.caller, call.named("id"), call.body, _expected(call.request))
    return _answer(call, found)


async def delete(call: Call[None]) -> web.Response:
    """Take a server out of the registry."""
    await call.part(SERVERS).delete(_tenant(call), call.named("id"), _expected(call.request))
    return web.Response(status=204)


async def maintenance(call: Call[MaintenanceRequest]) -> web.Response:
    """Give a server no new jobs for now, or give it some again."""
    _tenant(call)  # a server belongs to one
    asked = ServerChange(maintenance=call.body.enabled)
    return _answer(call, await call.part(SERVERS).change(call.caller, call.named("id"), asked))


async def heartbeat(call: Call[None]) -> web.Response:
    """A server says that it lives."""
    return _answer(call, await call.part(SERVERS).heartbeat(_tenant(call), call.named("id")))


async def cleanup(call: Call[CleanupRequest]) -> web.Response:
    """Remove the servers that have long been dead."""
    tenant = wide_scope(call.caller, call.query, wide=Role.OPERATOR)
    asked = call.body
    removed = await call.part(SERVERS).cleanup(tenant, asked.older_s, dry_run=asked.dry_run)
    named = [RemovedServer(tenant=server.tenant, id=server.id) for server in removed]
    return json_response(CleanupAnswer(removed=named, dry_run=asked.dry_run))


def _answer(
    call: Call[Any], found: Found, *, status: int = 200, running: int | UnsetType | None = UNSET
) -> web.Response:
    headers = {"ETag": f'"{found.revision}"'}
    if status == 201:
        headers["Location"] = f"/v1/servers/{found.server.id}"
    body = server_answer(found, call.part(SERVERS), clock.now(), running=running)
    return json_response(body, status=status, headers=headers)


def _tenant(call: Call[Any]) -> str:
    """Whose server is meant: one tenant's.

    Raises:
        ForbiddenError: the caller may not name another tenant.
        MalformedError: it names all of them, or none by its name.
    """
    tenant = scope(call.caller, call.query, wide=Role.OPERATOR)
    if NAME.fullmatch(tenant) is None:
        raise wrong("tenant", tenant, "the name of one tenant")
    return tenant


def _states(query: Query) -> list[str]:
    words = [word for value in query.all("state") for word in value.split(",")]
    for word in words:
        if word not in STATES:
            raise wrong("state", word, f"one of {', '.join(sorted(STATES))}")
    return words


def _flag(query: Query, name: str) -> bool | None:
    value = query.text(name)
    if value not in (None, "true", "false"):
        raise wrong(name, value or "", "true or false")
    return None if value is None else value == "true"


def _expected(request: web.Request) -> Expected:
    """What a request says of the server that it finds.

    Raises:
        MalformedError: `If-Match` is no revision, or `If-None-Match` is not `*`.
    """
    none_match = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if none_match:
        if [one.strip() for one in none_match] != ["*"] or hdrs.IF_MATCH in request.headers:
            raise MalformedError("If-None-Match: * was expected, alone", field="If-None-Match")
        return Expected(exists=False)
    match = ",".join(request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if not match:
        return ANYTHING
    if match == "*":
        return Expected(exists=True)
    revisions = [_TAG.fullmatch(one.strip()) for one in match.split(",")]
    if None in revisions:
        raise MalformedError("If-Match: the ETag of a server was expected", field="If-Match")
    return Expected(revisions=[int(one[1]) for one in revisions if one is not None])


_CHECKED: Final = (
    (400, "malformed"), (412, "precondition_failed"), (409, "conflict"),
)  # fmt: skip
_WRITTEN: Final = (
    (413, "too_large"), (422, "address_not_allowed"), (422, "too_many_servers"), (429, "too_many_bytes"),
    (403, "kind_not_allowed"),
)  # fmt: skip
_MATCHED: Final = ("If-Match", "If-None-Match")

ROUTES: Final = (
    Route(
        method="POST", path="/v1/servers", handler=create, summary="Register a prediction server",
        roles=MANAGE, body=ServerRequest, query=(TENANT,), answers={201: ServerAnswer},
        answer_headers=("ETag", "Location"), errors=((409, "server_exists"), *_WRITTEN),
    ),
    Route(
        method="GET", path="/v1/servers", handler=list_servers, summary="List prediction servers", roles=SEE,
        query=(
            TENANT, KIND, Parameter("state", repeated=True), LABEL, Parameter("enabled", "boolean"),
            Parameter("maintenance", "boolean"), *PAGED,
        ),
        answers={200: ServerPage},
    ),
    Route(
        method="POST", path="/v1/servers/cleanup", handler=cleanup,
        summary="Remove prediction servers that have long been dead", roles=MANAGE, body=CleanupRequest,
        empty=EMPTY, query=(TENANT,), answers={200: CleanupAnswer},
    ),
    Route(
        method="GET", path="/v1/servers/{id}", handler=get, summary="Read a prediction server and its state",
        roles=SEE, answers={200: ServerAnswer}, errors=NO_SUCH, query=(TENANT,), answer_headers=("ETag",),
    ),
    Route(
        method="PUT", path="/v1/servers/{id}", handler=put,
        summary="Register or replace a prediction server", roles=MANAGE, body=ServerRequest, query=(TENANT,),
        headers=_MATCHED, answers={201: ServerAnswer, 200: ServerAnswer}, answer_headers=("ETag", "Location"),
        errors=((409, "server_exists"), (422, "credentials_needed"), *_CHECKED, *_WRITTEN),
    ),
    Route(
        method="PATCH", path="/v1/servers/{id}", handler=change, summary="Change a prediction server",
        roles=MANAGE, body=ServerChange, query=(TENANT,), headers=_MATCHED, answers={200: ServerAnswer},
        answer_headers=("ETag",), errors=(*NO_SUCH, (422, "credentials_needed"), *_CHECKED, *_WRITTEN),
    ),
    Route(
        method="DELETE", path="/v1/servers/{id}", handler=delete, summary="Remove a prediction server",
        roles=MANAGE, query=(TENANT,), headers=_MATCHED, answers={204: None}, errors=(*NO_SUCH, *_CHECKED),
    ),
    Route(
        method="POST", path="/v1/servers/{id}/maintenance", handler=maintenance,
        summary="Begin or end a prediction server's maintenance", roles=MANAGE, body=MaintenanceRequest,
        empty=EMPTY, query=(TENANT,), answers={200: ServerAnswer}, answer_headers=("ETag",),
        errors=(*NO_SUCH, (409, "conflict")),
    ),
    Route(
        method="POST", path="/v1/servers/{id}/heartbeat", handler=heartbeat,
        summary="Say that a prediction server lives", roles=BEAT, query=(TENANT,),
        answers={200: ServerAnswer}, answer_headers=("ETag",), errors=NO_SUCH,
    ),
)  # fmt: skip
