"""The routes of Octopoid's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import NATS, SETTINGS
from switchyard.services.gateway.doors.octopoid import change, claim, create, listing, verbs
from switchyard.services.gateway.doors.octopoid.answers import (
    ActionAnswer,
    ActionPage,
    Beat,
    DraftAnswer,
    DraftPage,
    FlowAnswer,
    FlowDeleted,
    FlowList,
    Gone,
    Health,
    Imported,
    KeyAnswer,
    MessageAnswer,
    MessagePage,
    NoTask,
    OrchestratorAnswer,
    OrchestratorList,
    Poll,
    ProjectAnswer,
    ProjectPage,
    ProjectTasks,
    Registered,
    RoleAnswer,
    RoleList,
    TaskAnswer,
    TaskDeleted,
    TaskPage,
)
from switchyard.services.gateway.doors.octopoid.desk import now
from switchyard.services.gateway.doors.octopoid.kept import (
    actions,
    drafts,
    flows,
    messages,
    orchestrators,
    projects,
    roles,
)
from switchyard.services.gateway.doors.octopoid.transfer import importing
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
    (400, "not_erasable"),
    (409, "conflict"), (409, "damaged"), (409, "exists"), (409, "has_tasks"), (409, "hooks"),
    (409, "illegal_transition"),
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
    answer: Any,
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
        orchestrators.BeatForm, answer=Beat,
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
        "GET", "/tasks/{id}/messages", messages.list_of_task, "List a task's messages",
        query=(*_PAGED, "to_actor", "type", "thread_id", "unreplied"), answer=MessagePage,
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
        "POST", "/messages", messages.create_message, "Post a message",
        messages.MessageForm, statuses=(201,), answer=MessageAnswer,
    ),
    _route(
        "GET", "/messages", messages.list_messages, "List messages",
        query=(*_PAGED, "task_id", "to_actor", "type", "thread_id", "unreplied"), answer=MessagePage,
    ),
    _route(
        "POST", "/projects", projects.create_project, "Make a project",
        projects.ProjectForm, statuses=(201,), answer=ProjectAnswer,
    ),
    _route(
        "GET", "/projects", projects.list_projects, "List projects",
        query=(*_PAGED, *projects.FILTERS), answer=ProjectPage,
    ),
    _route("GET", "/projects/{id}", projects.get_project, "Read a project", answer=ProjectAnswer),
    _route(
        "PATCH", "/projects/{id}", projects.patch_project, "Change a project",
        projects.ProjectChange, answer=ProjectAnswer,
    ),
    _route("DELETE", "/projects/{id}", projects.delete_project, "Remove a project", answer=Gone),
    _route(
        "GET", "/projects/{id}/tasks", projects.project_tasks, "List a project's tasks",
        answer=ProjectTasks,
    ),
    _route(
        "POST", "/drafts", drafts.create_draft, "Make a draft",
        drafts.DraftForm, statuses=(201,), answer=DraftAnswer,
    ),
    _route(
        "GET", "/drafts", drafts.list_drafts, "List drafts",
        query=(*_PAGED, *drafts.FILTERS), answer=DraftPage,
    ),
    _route("GET", "/drafts/{id}", drafts.get_draft, "Read a draft", answer=DraftAnswer),
    _route(
        "PATCH", "/drafts/{id}", drafts.patch_draft, "Change a draft",
        drafts.DraftChange, answer=DraftAnswer,
    ),
    _route("DELETE", "/drafts/{id}", drafts.delete_draft, "Remove a draft", answer=Gone),
    _route(
        "POST", "/actions", actions.create_action, "Propose an action",
        actions.ActionForm, statuses=(201,), answer=ActionAnswer,
    ),
    _route(
        "GET", "/actions", actions.list_actions, "List actions",
        query=(*_PAGED, *actions.FILTERS), answer=ActionPage,
    ),
    _route(
        "PATCH", "/actions/{id}", actions.patch_action, "Change an action",
        actions.ActionChange, answer=ActionAnswer,
    ),
    _route(
        "POST", "/actions/{id}/execute", actions.execute_action, "Ask for an action to be carried out",
        answer=ActionAnswer,
    ),
    _route(
        "POST", "/actions/{id}/complete", actions.complete_action, "Note that an action is done",
        actions.ActionResult, answer=ActionAnswer,
    ),
    _route(
        "POST", "/actions/{id}/fail", actions.fail_action, "Note that an action has failed",
        actions.ActionResult, answer=ActionAnswer,
    ),
    _route(
        "POST", "/roles/register", roles.register_roles, "Register roles",
        roles.RolesForm, answer=RoleList,
    ),
    _route(
        "POST", "/import", importing.import_rows, "Bring rows of Octopoid's own database over",
        importing.ImportForm, answer=Imported,
    ),
    _route("GET", "/roles", roles.list_roles, "List roles", answer=RoleList),
    _route("GET", "/roles/{name}", roles.get_role, "Read a role", answer=RoleAnswer),
)  # fmt: skip
