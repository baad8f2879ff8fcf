"""The routes of Octopoid's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import NATS, SETTINGS
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
from switchyard.services.gateway.doors.octopoid.answers import (
    Beat,
    FlowAnswer,
    FlowDeleted,
    FlowList,
    Health,
    KeyAnswer,
    NoTask,
    OrchestratorAnswer,
    OrchestratorList,
    Poll,
    ProjectTasks,
    Registered,
    TaskAnswer,
    TaskDeleted,
    TaskPage,
)
from switchyard.services.gateway.doors.octopoid.desk import now
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call, Handler, Parameter, Route

VERSION: Final = "2.0.0"
"""The version of Octopoid's API that is served. Source: octopoid-server 73d3511, `src/config.ts`."""
V1: Final = "/api/v1"
HEALTH: Final = "/api/health"
REGISTER: Final = f"{V1}/orchestrators/register"
ROTATE: Final = f"{V1}/orchestrators/scopes/{{scope}}/rotate-key"


async def health(call: Call[None]) -> web.Response:
    """How the server is, for which nobody needs a key."""
    connected = call.part(NATS).is_connected
    body = Health(
        status="healthy" if connected else "unhealthy",
        version=VERSION,
        timestamp=now(),
        database="connected" if connected else "disconnected",
        registration="open" if call.part(SETTINGS).octopoid_open else "closed",
    )
    return json_response(body, status=200 if connected else 503)


_REFUSED: Final = ((400, "invalid"), (403, "scope_mismatch"), (404, "not_found"))
_CHANGED: Final = (
    (409, "conflict"), (409, "damaged"), (409, "exists"), (409, "hooks"), (409, "illegal_transition"),
    (409, "lease_expired"), (409, "lease_lost"), (409, "race"), (409, "version"), (409, "wrong_queue"),
    (413, "payload_too_large"), (413, "too_large"), (429, "limit"), (429, "too_many_bytes"),
    (429, "too_many_jobs"), (429, "too_many_job_bytes"), (429, "too_many_waits"),
)  # fmt: skip
"""Refusals of tasks and documents; what is 422 elsewhere is 400 here."""


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    body: Any = None,
    *,
    query: Sequence[str] = (),
    answer: Any = dict[str, Any],
    statuses: Sequence[int] = (200,),
    roles: tuple[Role, ...] | None = None,
) -> Route:
    """A route as Octopoid's server has them.

    Unknown parameters and fields are passed over, and a body that is not there is an empty object.
    """
    who = (Role.VIEWER,) if method == "GET" else (Role.SUBMITTER,)
    return Route(
        method=method, path=V1 + path, handler=handler, summary=summary,
        roles=who if roles is None else roles, body=body, empty=b"{}",
        query=tuple(Parameter(name) for name in ("scope", *query)), lenient=True,
        errors=_REFUSED if method == "GET" else (*_REFUSED, *_CHANGED),
        answers=dict.fromkeys(statuses, answer) | ({404: NoTask} if path.endswith("/claim") else {}),
    )  # fmt: skip


_PAGED: Final = ("offset", "limit")
_WORK: Final = (Role.WORKER,)
_JUDGE: Final = (Role.REVIEWER,)

ROUTES: Final = (
    Route(
        method="GET", path=HEALTH, handler=health, summary="Say how the server is", lenient=True,
        answers={200: Health, 503: Health},
    ),
    _route(
        "POST", REGISTER.removeprefix(V1), orchestrators.register, "Register an orchestrator",
        orchestrators.RegisterForm, statuses=(201, 200), roles=(),
        answer=Registered,
    ),
    _route(
        "POST", ROTATE.removeprefix(V1), orchestrators.rotate_key, "Give a scope another key",
        roles=(), answer=KeyAnswer,
    ),
    _route(
        "POST", "/orchestrators/{id}/heartbeat", orchestrators.heartbeat, "Say that one lives",
        answer=Beat,
    ),
    _route(
        "GET", "/orchestrators", orchestrators.list_orchestrators, "List orchestrators",
        query=("cluster", "status"),
        answer=OrchestratorList,
    ),
    _route(
        "GET", "/orchestrators/{id}", orchestrators.get, "Read an orchestrator",
        answer=OrchestratorAnswer,
    ),
    _route(
        "PATCH", "/orchestrators/{id}", orchestrators.patch, "Change an orchestrator",
        orchestrators.StatusForm,
        answer=OrchestratorAnswer,
    ),
    _route(
        "GET", "/scheduler/poll", listing.poll, "Poll for a scheduler",
        query=("orchestrator_id",), answer=Poll,
    ),
    _route(
        "POST", "/tasks", create.create, "Make a task",
        create.TaskForm, statuses=(201, 200), answer=TaskAnswer,
    ),
    _route(
        "GET", "/tasks", listing.list_tasks, "List tasks",
        query=(
            *_PAGED, "role", "type", "project_id", "flow", "queue", "priority", "claimed_by",
            "needs_intervention", "sort",
        ),
        answer=TaskPage,
    ),
    _route(
        "POST", "/tasks/claim", claim.claim, "Claim a task",
        claim.ClaimForm, roles=_WORK,
        answer=TaskAnswer,
    ),
    _route("GET", "/tasks/{id}", change.get, "Read a task", answer=TaskAnswer),
    _route("PATCH", "/tasks/{id}", change.patch, "Change a task", dict[str, Any], answer=TaskAnswer),
    _route("DELETE", "/tasks/{id}", create.delete, "Delete a task", answer=TaskDeleted),
    _route(
        "GET", "/tasks/{id}/messages", records.list_messages, "List a task's messages",
        query=(*_PAGED, "task_id", "to_actor", "type", "thread_id", "unreplied"),
    ),
    _route(
        "POST", "/tasks/{id}/submit", verbs.submit, "Hand work in",
        verbs.SubmitForm, roles=_WORK, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/accept", verbs.accept, "Accept work",
        verbs.AcceptForm, roles=_JUDGE, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/reject", verbs.reject, "Reject work",
        verbs.RejectForm, roles=_JUDGE, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/requeue", verbs.requeue, "Put a task back",
        verbs.LeaseForm, roles=_WORK, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/renew", verbs.renew, "Keep a task longer",
        verbs.RenewForm, roles=_WORK, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/release", verbs.release, "Leave a review to others",
        roles=_JUDGE, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/force-queue", verbs.force_queue, "Move a task anywhere",
        verbs.ForceForm, answer=TaskAnswer,
    ),
    _route(
        "POST", "/tasks/{id}/hooks/{hook}/complete", verbs.complete_hook, "Note how a hook ended",
        verbs.HookForm,
        answer=TaskAnswer,
    ),
    _route("GET", "/flows", flows.list_flows, "List flows", answer=FlowList),
    _route("GET", "/flows/{name}", flows.get, "Read a flow", answer=FlowAnswer),
    _route("PUT", "/flows/{name}", flows.put, "Register a flow", flows.FlowForm, answer=FlowAnswer),
    _route("DELETE", "/flows/{name}", flows.delete, "Remove a flow", answer=FlowDeleted),
    _route(
        "POST", "/messages", records.create_message, "Post a message",
        records.MessageForm, statuses=(201,),
    ),
    _route(
        "GET", "/messages", records.list_messages, "List messages",
        query=(*_PAGED, "task_id", "to_actor", "type", "thread_id", "unreplied"),
    ),
    _route(
        "POST", "/projects", records.create_project, "Make a project",
        records.ProjectForm, statuses=(201,),
    ),
    _route(
        "GET", "/projects", records.list_projects, "List projects",
        query=(*_PAGED, "status", "created_by"),
    ),
    _route("GET", "/projects/{id}", records.get_project, "Read a project"),
    _route("PATCH", "/projects/{id}", records.patch_project, "Change a project", records.ProjectChange),
    _route(
        "GET", "/projects/{id}/tasks", records.project_tasks, "List a project's tasks",
        answer=ProjectTasks,
    ),
    _route("POST", "/drafts", records.create_draft, "Make a draft", records.DraftForm, statuses=(201,)),
    _route(
        "GET", "/drafts", records.list_drafts, "List drafts",
        query=(*_PAGED, "status", "author", "domain", "linked_task_id", "linked_project_id"),
    ),
    _route(
        "POST", "/actions", records.create_action, "Propose an action",
        records.ActionForm, statuses=(201,),
    ),
    _route(
        "GET", "/actions", records.list_actions, "List actions",
        query=(*_PAGED, "entity_type", "entity_id", "status"),
    ),
    _route("POST", "/actions/{id}/execute", records.execute_action, "Ask for an action to be carried out"),
    _route(
        "POST", "/actions/{id}/complete", records.complete_action, "Note that an action is done",
        records.ActionResult,
    ),
    _route(
        "POST", "/actions/{id}/fail", records.fail_action, "Note that an action has failed",
        records.ActionResult,
    ),
)  # fmt: skip
