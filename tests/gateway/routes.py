"""Every route of the gateway, who may call it, and how to call it with another tenant's things."""

from __future__ import annotations

import io
from typing import Any, Final, NamedTuple

import orjson

from tests.gateway.rest import Answer, Gateway

READERS: Final = frozenset({
    "viewer", "submitter", "worker", "reviewer", "tenant-admin", "operator", "admin",
})  # fmt: skip
SUBMITTERS: Final = frozenset({"submitter", "tenant-admin", "admin"})
WORKERS: Final = frozenset({"worker", "tenant-admin", "admin"})
REVIEWERS: Final = frozenset({"reviewer", "tenant-admin", "admin"})
TENANT_ADMINS: Final = frozenset({"tenant-admin", "admin"})
OPERATORS: Final = frozenset({"operator", "admin"})
REGISTRARS: Final = frozenset({"registrar", "admin"})
ADMINS: Final = frozenset({"admin"})
EVERYBODY: Final = READERS | {"registrar"}
SCOPES: Final = frozenset[str]()
"""Nobody with a token: these routes take a scope's key."""


class Door(NamedTuple):
    """A route: who may call it, and a body that it takes.

    Args:
        who: the roles.
        body: JSON, or bytes.
        own: whether a call with another tenant's names makes or changes something of the caller's own.
        known: whether it takes a token, though any will do.
    """

    who: frozenset[str]
    body: Any = None
    own: bool = False
    known: bool = False


JOB: Final = {"kind": "noop"}
TASK: Final = {"id": "t", "file_path": "f"}
ERROR: Final = {"error": {"code": "x"}}
TICKS: Final = {"every_s": 60, "job": JOB}

DOORS: Final = {
    "GET /healthz": Door(EVERYBODY),
    "GET /readyz": Door(EVERYBODY),
    "GET /metrics": Door(READERS),
    "GET /openapi.json": Door(EVERYBODY),
    "GET /docs": Door(EVERYBODY),
    "GET /docs/page.js": Door(EVERYBODY),
    "GET /docs/page.css": Door(EVERYBODY),
    "GET /v1/version": Door(EVERYBODY, known=True),
    "GET /v1/whoami": Door(EVERYBODY, known=True),
    "POST /v1/jobs": Door(SUBMITTERS, JOB),
    "GET /v1/jobs": Door(READERS),
    "POST /v1/jobs/bulk": Door(SUBMITTERS, b'{"kind": "noop"}\n'),
    "GET /v1/jobs/{id}": Door(READERS),
    "PATCH /v1/jobs/{id}": Door(SUBMITTERS, {"priority": 7}),
    "DELETE /v1/jobs/{id}": Door(SUBMITTERS),
    "GET /v1/jobs/{id}/events": Door(READERS),
    "GET /v1/jobs/{id}/result": Door(READERS),
    "GET /v1/jobs/{id}/explain": Door(READERS),
    "POST /v1/jobs/{id}/cancel": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/redrive": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/discard": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/repair": Door(SUBMITTERS, {}),
    "GET /v1/dead-letters": Door(READERS),
    "POST /v1/dead-letters/redrive": Door(SUBMITTERS, {"filter": {}}),
    "POST /v1/dead-letters/discard": Door(SUBMITTERS, {"filter": {}}),
    "GET /v1/quarantine": Door(READERS),
    "DELETE /v1/quarantine": Door(ADMINS),
    "GET /v1/quarantine/{stream}/{seq}": Door(ADMINS),
    "DELETE /v1/quarantine/{stream}/{seq}": Door(ADMINS),
    "POST /v1/schedules": Door(SUBMITTERS, TICKS),
    "POST /v1/schedules/preview": Door(READERS, TICKS),
    "GET /v1/schedules": Door(READERS),
    "GET /v1/schedules/{id}": Door(READERS),
    "PUT /v1/schedules/{id}": Door(SUBMITTERS, TICKS, own=True),
    "DELETE /v1/schedules/{id}": Door(SUBMITTERS),
    "GET /v1/schedules/{id}/next": Door(READERS),
    "POST /v1/schedules/{id}/pause": Door(SUBMITTERS),
    "POST /v1/schedules/{id}/resume": Door(SUBMITTERS),
    "GET /v1/reviews": Door(REVIEWERS),
    "POST /v1/reviews/{id}/claim": Door(REVIEWERS, {}),
    "POST /v1/reviews/{id}/release": Door(REVIEWERS, {}),
    "POST /v1/reviews/{id}/accept": Door(REVIEWERS, {}),
    "POST /v1/reviews/{id}/reject": Door(REVIEWERS, {"reason": "r"}),
    "GET /v1/workers": Door(READERS),
    "GET /v1/workers/{id}": Door(READERS),
    "POST /v1/workers/{id}/pause": Door(OPERATORS),
    "POST /v1/workers/{id}/resume": Door(OPERATORS),
    "POST /v1/workers/{id}/drain": Door(OPERATORS),
    "POST /v1/kinds/{kind}/pause": Door(OPERATORS),
    "POST /v1/kinds/{kind}/resume": Door(OPERATORS),
    "POST /v1/lanes/{lane}/pause": Door(OPERATORS),
    "POST /v1/lanes/{lane}/resume": Door(OPERATORS),
    "GET /v1/controls": Door(READERS),
    "GET /v1/kinds": Door(ADMINS),
    "GET /v1/kinds/{kind}": Door(ADMINS),
    "PUT /v1/kinds/{kind}": Door(ADMINS, {}),
    "DELETE /v1/kinds/{kind}": Door(ADMINS),
    "GET /v1/queues": Door(READERS),
    "GET /v1/usage": Door(READERS),
    "GET /v1/limits": Door(READERS),
    "GET /v1/limits/{name}": Door(READERS),
    "PUT /v1/limits/{name}": Door(OPERATORS, {"concurrency": 1}),
    "DELETE /v1/limits/{name}": Door(OPERATORS),
    "POST /v1/keys": Door(TENANT_ADMINS, {"name": "k", "roles": ["viewer"]}),
    "GET /v1/keys": Door(TENANT_ADMINS),
    "GET /v1/keys/{id}": Door(TENANT_ADMINS),
    "POST /v1/keys/{id}/rotate": Door(TENANT_ADMINS, {}),
    "DELETE /v1/keys/{id}": Door(TENANT_ADMINS),
    "GET /v1/ws": Door(READERS),
    "GET /v1/events/stream": Door(READERS),
    "POST /v1/files": Door(SUBMITTERS | WORKERS, b"x"),
    "GET /v1/files": Door(READERS),
    "GET /v1/files/{id}": Door(READERS),
    "DELETE /v1/files/{id}": Door(SUBMITTERS),
    "POST /v1/leases": Door(WORKERS, {"worker": "w", "kinds": ["noop"]}),
    "POST /v1/leases/{id}/renew": Door(WORKERS, {}),
    "POST /v1/leases/{id}/progress": Door(WORKERS, {"fraction": 0.5}),
    "POST /v1/leases/{id}/logs": Door(WORKERS, {"lines": ["x"]}),
    "POST /v1/leases/{id}/artifacts": Door(WORKERS, b"x"),
    "POST /v1/leases/{id}/succeed": Door(WORKERS, {}),
    "POST /v1/leases/{id}/fail": Door(WORKERS, ERROR),
    "POST /v1/leases/{id}/release": Door(WORKERS, {}),
    "POST /v1/leases/{id}/propose": Door(WORKERS, {}),
    "POST /v1/leases/{id}/delegate": Door(WORKERS, {"backend": {"kind": "k", "id": "b"}}),
    "POST /v1/outcomes/{ticket}": Door(SCOPES, {"state": "running"}),
    "POST /v1/outcomes/{ticket}/artifacts": Door(SCOPES, b"x"),
    "GET /api/health": Door(EVERYBODY),
    "POST /api/v1/orchestrators/register": Door(REGISTRARS, {}),
    "POST /api/v1/orchestrators/scopes/{scope}/rotate-key": Door(ADMINS),
    "POST /api/v1/orchestrators/{id}/heartbeat": Door(SCOPES, {}),
    "GET /api/v1/orchestrators": Door(SCOPES),
    "GET /api/v1/orchestrators/{id}": Door(SCOPES),
    "PATCH /api/v1/orchestrators/{id}": Door(SCOPES, {"status": "offline"}),
    "GET /api/v1/scheduler/poll": Door(SCOPES),
    "POST /api/v1/tasks": Door(SCOPES, TASK, own=True),
    "GET /api/v1/tasks": Door(SCOPES),
    "POST /api/v1/tasks/claim": Door(SCOPES, {"orchestrator_id": "o", "agent_name": "a"}),
    "GET /api/v1/tasks/{id}": Door(SCOPES),
    "PATCH /api/v1/tasks/{id}": Door(SCOPES, {"title": "x"}),
    "DELETE /api/v1/tasks/{id}": Door(SCOPES),
    "GET /api/v1/tasks/{id}/messages": Door(SCOPES, own=True),
    "POST /api/v1/tasks/{id}/submit": Door(SCOPES, {"commits_count": 1, "turns_used": 1}),
    "POST /api/v1/tasks/{id}/accept": Door(SCOPES, {"accepted_by": "x"}),
    "POST /api/v1/tasks/{id}/reject": Door(SCOPES, {"reason": "r", "rejected_by": "x"}),
    "POST /api/v1/tasks/{id}/requeue": Door(SCOPES, {}),
    "POST /api/v1/tasks/{id}/renew": Door(SCOPES, {}),
    "POST /api/v1/tasks/{id}/release": Door(SCOPES, {}),
    "POST /api/v1/tasks/{id}/force-queue": Door(SCOPES, {"queue": "done", "reason": "r"}),
    "POST /api/v1/tasks/{id}/hooks/{hook}/complete": Door(SCOPES, {"status": "passed"}),
    "GET /api/v1/flows": Door(SCOPES),
    "GET /api/v1/flows/{name}": Door(SCOPES),
    "PUT /api/v1/flows/{name}": Door(SCOPES, {"states": ["incoming"], "transitions": []}, own=True),
    "DELETE /api/v1/flows/{name}": Door(SCOPES),
    "POST /api/v1/messages": Door(
        SCOPES, {"task_id": "t", "from_actor": "a", "type": "t", "content": "c"}, own=True
    ),
    "GET /api/v1/messages": Door(SCOPES),
    "POST /api/v1/projects": Door(SCOPES, {"id": "p2", "title": "t"}, own=True),
    "GET /api/v1/projects": Door(SCOPES),
    "GET /api/v1/projects/{id}": Door(SCOPES),
    "PATCH /api/v1/projects/{id}": Door(SCOPES, {"title": "x"}),
    "GET /api/v1/projects/{id}/tasks": Door(SCOPES, own=True),
    "POST /api/v1/drafts": Door(SCOPES, {"title": "t", "author": "a"}),
    "GET /api/v1/drafts": Door(SCOPES),
    "POST /api/v1/actions": Door(SCOPES, {"entity_type": "t", "entity_id": "i", "label": "l"}),
    "GET /api/v1/actions": Door(SCOPES),
    "POST /api/v1/actions/{id}/execute": Door(SCOPES, {}),
    "POST /api/v1/actions/{id}/complete": Door(SCOPES, {}),
    "POST /api/v1/actions/{id}/fail": Door(SCOPES, {}),
}  # fmt: skip


def is_refused(answer: Answer) -> bool:
    """Whether the caller was not let in."""
    return answer.status == 401 or (answer.status == 403 and b'"forbidden"' in answer.raw)


async def knock(
    api: Gateway,
    name: str,
    path: str,
    token: str | None,
    *,
    query: str = "",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Call a route; a stream's events are not waited for."""
    method, _, _ = name.partition(" ")
    body = DOORS[name].body
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if isinstance(body, dict):
        sent["Content-Type"] = "application/json"
    elif body is not None:
        sent["Content-Type"] = "application/x-ndjson" if "bulk" in name else "text/plain"
    if name == "POST /v1/leases/{id}/artifacts":
        query += "&name=x"
    data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))
    async with api.http.request(
        method, f"{api.url}{path}?{query.lstrip('&')}", data=data, headers=sent
    ) as answer:
        endless = name == "GET /v1/events/stream" and answer.status == 200
        raw = b"" if endless else await answer.read()
        return Answer(answer.status, answer.headers, raw)
