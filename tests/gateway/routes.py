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
MANAGERS: Final = frozenset({"tenant-admin", "operator", "admin"})
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
SERVER: Final = {"endpoints": {"predict": "http://192.0.1.1/"}, "kinds": ["noop"]}
MODEL: Final = {"url": "http://192.0.1.1/", "sha256": "0" * 64, "size_bytes": 1}
TASK_SERVER: Final = {"name": "s", "endpoints": {"predict": "http://192.0.1.1/"}}
WORKFLOW: Final = {"kind": "noop", "payload": {}}
TICKS: Final = {"every_s": 60, "job": JOB}

DOORS: Final = {
    "GET /": Door(EVERYBODY),
    "GET /monitor/{version}/{name}": Door(EVERYBODY),
    "GET /health": Door(EVERYBODY),
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
    "GET /v1/jobs/{id}/preview": Door(READERS),
    "GET /v1/jobs/{id}/artifacts": Door(READERS),
    "GET /v1/jobs/{id}/logs": Door(READERS),
    "GET /v1/jobs/{id}/artifacts.zip": Door(READERS),
    "GET /v1/jobs/{id}/explain": Door(READERS),
    "POST /v1/jobs/{id}/cancel": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/redrive": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/again": Door(SUBMITTERS),
    "POST /v1/jobs/{id}/discard": Door(SUBMITTERS, {}),
    "POST /v1/jobs/{id}/repair": Door(SUBMITTERS, {}),
    "GET /v1/dead-letters": Door(READERS),
    "POST /v1/dead-letters/redrive": Door(SUBMITTERS, {"filter": {}}),
    "POST /v1/dead-letters/discard": Door(SUBMITTERS, {"filter": {}}),
    "GET /v1/job-ids": Door(READERS),
    "POST /v1/erasures": Door(SUBMITTERS, {"label": {"none": "x"}}),
    "GET /v1/erasures": Door(READERS),
    "GET /v1/erasures/{id}": Door(READERS),
    "GET /v1/quarantine": Door(READERS),
    "DELETE /v1/quarantine": Door(ADMINS),
    "GET /v1/quarantine/{stream}/{seq}": Door(ADMINS),
    "DELETE /v1/quarantine/{stream}/{seq}": Door(ADMINS),
    "POST /v1/schedules": Door(SUBMITTERS, TICKS),
    "POST /v1/schedules/preview": Door(READERS, TICKS),
    "POST /v1/schedules/{id}/run": Door(SUBMITTERS),
    "POST /v1/batches": Door(SUBMITTERS, {"input": "missing"}),
    "GET /v1/batches": Door(READERS),
    "GET /v1/batches/{id}": Door(READERS),
    "DELETE /v1/batches/{id}": Door(SUBMITTERS),
    "POST /v1/batches/{id}/cancel": Door(SUBMITTERS),
    "GET /v1/batches/{id}/results": Door(READERS),
    "GET /v1/batches/{id}/errors": Door(READERS),
    "GET /v1/batches/{id}/explain": Door(READERS),
    "GET /v1/workflows": Door(READERS),
    "GET /v1/workflows/{name}": Door(READERS),
    "PUT /v1/workflows/{name}": Door(SUBMITTERS, WORKFLOW, own=True),
    "DELETE /v1/workflows/{name}": Door(SUBMITTERS),
    "GET /v1/workflows/{name}/versions": Door(READERS),
    "POST /v1/workflows/{name}/jobs": Door(SUBMITTERS, {}),
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
    "GET /v1/demand": Door(READERS),
    "GET /v1/usage": Door(READERS),
    "GET /v1/usage/summary": Door(READERS),
    "GET /v1/usage/bill": Door(READERS),
    "GET /v1/prices": Door(OPERATORS),
    "GET /v1/prices/{start}": Door(OPERATORS),
    "PUT /v1/prices/{start}": Door(OPERATORS, {"prices": []}),
    "DELETE /v1/prices/{start}": Door(OPERATORS),
    "GET /v1/quotas": Door(READERS),
    "GET /v1/quotas/{of}": Door(READERS),
    "PUT /v1/quotas/{of}": Door(OPERATORS, {"quotas": [{"unit": "pages", "period": "day", "most": 9}]}),
    "DELETE /v1/quotas/{of}": Door(OPERATORS),
    "GET /v1/disk": Door(OPERATORS),
    "GET /v1/series": Door(READERS),
    "GET /v1/limits": Door(READERS),
    "GET /v1/limits/{name}": Door(READERS),
    "PUT /v1/limits/{name}": Door(OPERATORS, {"concurrency": 1}),
    "DELETE /v1/limits/{name}": Door(OPERATORS),
    "POST /v1/tickets": Door(READERS, {}),
    "POST /v1/files/{id}/url": Door(READERS, {}),
    "POST /v1/keys": Door(TENANT_ADMINS, {"name": "k", "roles": ["viewer"]}),
    "GET /v1/keys": Door(TENANT_ADMINS),
    "GET /v1/keys/{id}": Door(TENANT_ADMINS),
    "POST /v1/keys/{id}/rotate": Door(TENANT_ADMINS, {}),
    "DELETE /v1/keys/{id}": Door(TENANT_ADMINS),
    "POST /v1/servers": Door(MANAGERS, SERVER, own=True),
    "GET /v1/servers": Door(READERS),
    "POST /v1/servers/cleanup": Door(MANAGERS, {}),
    "GET /v1/servers/{id}": Door(READERS),
    "PUT /v1/servers/{id}": Door(MANAGERS, SERVER, own=True),
    "PATCH /v1/servers/{id}": Door(MANAGERS, {"slots": 2}),
    "DELETE /v1/servers/{id}": Door(MANAGERS),
    "POST /v1/servers/{id}/maintenance": Door(MANAGERS, {}),
    "POST /v1/servers/{id}/heartbeat": Door(MANAGERS | WORKERS),
    "GET /v1/models": Door(READERS),
    "GET /v1/models/{folder}/{name}": Door(READERS),
    "PUT /v1/models/{folder}/{name}": Door(ADMINS, MODEL, own=True),
    "DELETE /v1/models/{folder}/{name}": Door(ADMINS),
    "POST /v1/models/fetches": Door(WORKERS, {"worker": "w", "instance": "comfyui"}, own=True),
    "GET /v1/ws": Door(READERS),
    "GET /v1/events/stream": Door(READERS),
    "GET /v1/watch/{what}": Door(READERS),
    "POST /v1/files": Door(SUBMITTERS | WORKERS, b"x"),
    "GET /v1/files": Door(READERS),
    "GET /v1/files/{id}": Door(READERS),
    "DELETE /v1/files/{id}": Door(SUBMITTERS),
    "OPTIONS /v1/uploads": Door(EVERYBODY, known=True),
    "POST /v1/uploads": Door(SUBMITTERS, b"x"),
    "GET /v1/uploads/{id}": Door(SUBMITTERS),
    "PATCH /v1/uploads/{id}": Door(SUBMITTERS, b"x"),
    "DELETE /v1/uploads/{id}": Door(SUBMITTERS),
    "POST /v1/leases": Door(WORKERS, {"worker": "w", "kinds": ["noop"]}),
    "POST /v1/leases/{id}/renew": Door(WORKERS, {}),
    "POST /v1/leases/{id}/progress": Door(WORKERS, {"fraction": 0.5}),
    "POST /v1/leases/{id}/logs": Door(WORKERS, {"lines": ["x"]}),
    "POST /v1/leases/{id}/preview": Door(WORKERS, b"x"),
    "POST /v1/leases/{id}/artifacts": Door(WORKERS, b"x"),
    "POST /v1/leases/{id}/succeed": Door(WORKERS, {}),
    "POST /v1/leases/{id}/fail": Door(WORKERS, ERROR),
    "POST /v1/leases/{id}/release": Door(WORKERS, {}),
    "POST /v1/leases/{id}/propose": Door(WORKERS, {}),
    "POST /v1/leases/{id}/part": Door(WORKERS, {"parts": [{"name": "a", "kind": "noop"}]}),
    "GET /v1/leases/{id}/parts/{part}": Door(WORKERS),
    "POST /v1/leases/{id}/delegate": Door(WORKERS, {"backend": {"kind": "k", "id": "b"}}),
    "POST /v1/backends/{kind}/{id}/attempts": Door(WORKERS, {"worker": "w", "kinds": ["noop"]}, own=True),
    "POST /v1/outcomes/{ticket}": Door(SCOPES, {"state": "running"}),
    "POST /v1/outcomes/{ticket}/artifacts": Door(SCOPES, b"x"),
    "POST /v1/callbacks/{ticket}": Door(SCOPES, {"status": "PROCESSING"}),
    "PUT /v1/callbacks/{ticket}": Door(SCOPES, {"status": "PROCESSING"}),
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
    "GET /ws/client/{id}": Door(READERS),
    "GET /ws/worker/{id}": Door(WORKERS),
    "GET /ws/monitor/{id}": Door(READERS),
    "GET /ws/compat": Door(READERS),
    "GET /ws/test": Door(EVERYBODY),
    "POST /api/jobs": Door(SUBMITTERS, {"job_type": "noop", "payload": {}}, own=True),
    "GET /api/jobs": Door(READERS),
    "GET /api/jobs/{id}": Door(READERS),
    "GET /api/jobs/{id}/progress": Door(READERS),
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
    "POST /api/task": Door(SUBMITTERS, {"payload": {}}, own=True),
    "GET /api/task/{id}": Door(READERS),
    "POST /api/task/{id}/retry": Door(SUBMITTERS, {}),
    "DELETE /api/task/{id}": Door(SUBMITTERS),
    "PUT /api/task/{id}": Door(SUBMITTERS, {"status": "COMPLETED"}),
    "POST /api/task/batch": Door(SUBMITTERS, {"tasks": [{"payload": {}}]}, own=True),
    "POST /api/servers": Door(TENANT_ADMINS, TASK_SERVER, own=True),
    "GET /api/servers": Door(TENANT_ADMINS, own=True),
    "POST /api/servers/cleanup": Door(TENANT_ADMINS, {}, own=True),
    "GET /api/servers/{id}": Door(TENANT_ADMINS),
    "DELETE /api/servers/{id}": Door(TENANT_ADMINS),
    "POST /api/servers/{id}/heartbeat": Door(TENANT_ADMINS, {}),
    "PUT /api/servers/{id}/maintenance": Door(TENANT_ADMINS, {"enabled": True}),
    "GET /api/servers/{id}/metrics": Door(TENANT_ADMINS),
    "GET /api/loadbalancer/status": Door(TENANT_ADMINS, own=True),
    "PUT /api/loadbalancer/algorithm": Door(TENANT_ADMINS, {"algorithm": "random"}, own=True),
    "GET /api/stats": Door(READERS, own=True),
    "GET /api/stats/hourly": Door(READERS, own=True),
    "GET /api/stats/server/{id}": Door(READERS, own=True),
    "POST /compat/replicate/v1/predictions": Door(SUBMITTERS, {"version": "noop", "input": {}}, own=True),
    "POST /compat/replicate/v1/models/{owner}/{name}/predictions": Door(SUBMITTERS, {"input": {}}, own=True),
    "POST /compat/replicate/v1/deployments/{owner}/{name}/predictions": Door(
        SUBMITTERS, {"input": {}}, own=True
    ),
    "GET /compat/replicate/v1/predictions": Door(READERS, own=True),
    "GET /compat/replicate/v1/predictions/{id}": Door(READERS),
    "POST /compat/replicate/v1/predictions/{id}/cancel": Door(SUBMITTERS, {}),
    "GET /compat/replicate/v1/predictions/{id}/stream": Door(READERS),
    "POST /compat/replicate/v1/files": Door(SUBMITTERS, b"x", own=True),
    "GET /compat/replicate/v1/files": Door(READERS, own=True),
    "GET /compat/replicate/v1/files/{id}": Door(READERS),
    "DELETE /compat/replicate/v1/files/{id}": Door(SUBMITTERS),
    "GET /compat/replicate/v1/models/{owner}/{name}": Door(READERS, own=True),
    "GET /compat/replicate/v1/models/{owner}/{name}/versions": Door(READERS, own=True),
    "GET /compat/replicate/v1/models/{owner}/{name}/versions/{id}": Door(READERS, own=True),
    "GET /compat/replicate/v1/deployments/{owner}/{name}": Door(READERS, own=True),
    "GET /compat/replicate/v1/account": Door(READERS, own=True),
    "POST /compat/runpod/v2/{endpoint_id}/run": Door(SUBMITTERS, {"input": {}}, own=True),
    "POST /compat/runpod/v2/{endpoint_id}/runsync": Door(SUBMITTERS, {"input": {}}, own=True),
    "GET /compat/runpod/v2/{endpoint_id}/status/{id}": Door(READERS),
    "GET /compat/runpod/v2/{endpoint_id}/stream/{id}": Door(READERS),
    "POST /compat/runpod/v2/{endpoint_id}/cancel/{id}": Door(SUBMITTERS),
    "POST /compat/runpod/v2/{endpoint_id}/retry/{id}": Door(SUBMITTERS),
    "GET /compat/runpod/v2/{endpoint_id}/health": Door(READERS, own=True),
    "POST /compat/runpod/v2/{endpoint_id}/purge-queue": Door(SUBMITTERS, own=True),
    "POST /openai/v1/files": Door(SUBMITTERS, b"x", own=True),
    "GET /openai/v1/files": Door(READERS, own=True),
    "GET /openai/v1/files/{id}": Door(READERS),
    "GET /openai/v1/files/{id}/content": Door(READERS),
    "DELETE /openai/v1/files/{id}": Door(SUBMITTERS),
    "POST /openai/v1/batches": Door(
        SUBMITTERS,
        {"input_file_id": "missing", "endpoint": "/v1/embeddings", "completion_window": "24h"},
        own=True,
    ),
    "GET /openai/v1/batches": Door(READERS, own=True),
    "GET /openai/v1/batches/{id}": Door(READERS),
    "POST /openai/v1/batches/{id}/cancel": Door(SUBMITTERS),
    "POST /openai/v1/chat/completions": Door(SUBMITTERS, {"model": "m", "messages": []}, own=True),
    "POST /openai/v1/embeddings": Door(SUBMITTERS, {"model": "m", "input": "x"}, own=True),
    "GET /openai/v1/models": Door(READERS, own=True),
    "GET /openai/v1/models/{id}": Door(READERS, own=True),
    "POST /mistral/v1/files": Door(SUBMITTERS, b"x", own=True),
    "GET /mistral/v1/files": Door(READERS, own=True),
    "GET /mistral/v1/files/{id}": Door(READERS),
    "GET /mistral/v1/files/{id}/content": Door(READERS),
    "GET /mistral/v1/files/{id}/url": Door(READERS),
    "GET /mistral/v1/files/{id}/signed": Door(EVERYBODY),
    "DELETE /mistral/v1/files/{id}": Door(SUBMITTERS),
    "POST /mistral/v1/ocr": Door(SUBMITTERS, {"document": {"file_id": "missing"}}, own=True),
    "POST /mistral/v1/batch/jobs": Door(
        SUBMITTERS, {"input_files": ["missing"], "endpoint": "/v1/ocr"}, own=True
    ),
    "GET /mistral/v1/batch/jobs": Door(READERS, own=True),
    "GET /mistral/v1/batch/jobs/{id}": Door(READERS),
    "POST /mistral/v1/batch/jobs/{id}/cancel": Door(SUBMITTERS),
    "DELETE /mistral/v1/batch/jobs/{id}": Door(SUBMITTERS),
    "POST /mistral/v1/chat/completions": Door(SUBMITTERS, {"model": "m", "messages": []}, own=True),
    "POST /mistral/v1/embeddings": Door(SUBMITTERS, {"model": "m", "input": "x"}, own=True),
    "GET /mistral/v1/models": Door(READERS, own=True),
    "GET /mistral/v1/models/{id}": Door(READERS, own=True),
    "POST /v1/convert": Door(SUBMITTERS, b"x", own=True),
    "POST /v1/batch/submit": Door(SUBMITTERS, b"x", own=True),
    "GET /v1/batch/status/{id}": Door(READERS),
    "POST /v1/batch/cancel/{id}": Door(SUBMITTERS),
    "GET /v1/batch/download/{id}": Door(READERS),
    "POST /api/documents/upload-url": Door(SUBMITTERS, {"fileName": "a", "fileSize": 1}, own=True),
    "POST /api/documents/upload-complete/{id}": Door(SUBMITTERS),
    "POST /api/documents/submit": Door(SUBMITTERS, b"x", own=True),
    "GET /api/documents/status/{id}": Door(READERS),
    "GET /api/documents/{id}": Door(READERS),
    "GET /api/documents/{id}/original": Door(READERS),
    "PUT /api/documents/{id}/file": Door(EVERYBODY, b"x"),
    "GET /api/documents/{id}/file": Door(EVERYBODY),
    "GET /api/usage/summary": Door(READERS, own=True),
    "GET /api/usage/breakdown": Door(READERS, own=True),
    "POST /api/v1/projects": Door(SCOPES, {"id": "p2", "title": "t"}, own=True),
    "GET /api/v1/projects": Door(SCOPES),
    "GET /api/v1/projects/{id}": Door(SCOPES),
    "PATCH /api/v1/projects/{id}": Door(SCOPES, {"title": "x"}),
    "GET /api/v1/projects/{id}/tasks": Door(SCOPES, own=True),
    "POST /api/v1/drafts": Door(SCOPES, {"title": "t", "author": "a"}),
    "GET /api/v1/drafts": Door(SCOPES),
    "DELETE /api/v1/projects/{id}": Door(SCOPES),
    "GET /api/v1/drafts/{id}": Door(SCOPES),
    "PATCH /api/v1/drafts/{id}": Door(SCOPES, {"title": "x"}),
    "DELETE /api/v1/drafts/{id}": Door(SCOPES),
    "PATCH /api/v1/actions/{id}": Door(SCOPES, {"status": "failed"}),
    "POST /api/v1/roles/register": Door(SCOPES, {"orchestrator_id": "o", "roles": []}),
    "GET /api/v1/roles": Door(SCOPES),
    "GET /api/v1/roles/{name}": Door(SCOPES),
    "POST /api/v1/import": Door(SCOPES, {"sort": "task", "rows": []}),
    "POST /api/v1/actions": Door(SCOPES, {"entity_type": "t", "entity_id": "i", "label": "l"}),
    "GET /api/v1/actions": Door(SCOPES),
    "POST /api/v1/actions/{id}/execute": Door(SCOPES, {}),
    "POST /api/v1/actions/{id}/complete": Door(SCOPES, {}),
    "POST /api/v1/actions/{id}/fail": Door(SCOPES, {}),
}  # fmt: skip


def is_refused(answer: Answer) -> bool:
    """Whether the caller was not let in."""
    return answer.status == 401 or (answer.status == 403 and b'"forbidden"' in answer.raw)


ENDLESS: Final = (
    "GET /v1/events/stream", "GET /v1/watch/{what}", "GET /compat/replicate/v1/predictions/{id}/stream",
    "GET /api/jobs/{id}/progress",
)  # fmt: skip


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
    if name.endswith(("/runsync", "/chat/completions", "/embeddings")):
        query += "&wait=0"  # it waits without being asked to
    data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))
    async with api.http.request(
        method, f"{api.url}{path}?{query.lstrip('&')}", data=data, headers=sent
    ) as answer:
        endless = name in ENDLESS and answer.status == 200
        raw = b"" if endless else await answer.read()
        return Answer(answer.status, answer.headers, raw)
