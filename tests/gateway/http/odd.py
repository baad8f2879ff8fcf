"""Every route that takes JSON, and bodies that no route may take."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Answer, Gateway

HERE: Final = b"ODD"
MARK: Final = "ODD"


class Route(NamedTuple):
    """A route with a body in which `ODD` stands for a value; `field` is its path, or what a refusal names.

    Args:
        who: whose token is sent: a role, `lease` for a worker's with that of its lease, or `octopoid`.
    """

    method: str
    path: str
    body: str
    field: str
    who: str = "submitter"


class Odd(NamedTuple):
    """A value of JSON, or what pretends to be one; `named` if the refusal can say where it is."""

    value: bytes
    named: bool


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


VALUES: Final = {
    "65 levels": Odd(nested(65), named=True),
    "65 objects": Odd(b'{"a":' * 64 + b"{}" + b"}" * 64, named=True),
    "300 levels": Odd(nested(300), named=True),
    "100000 levels": Odd(nested(100_000), named=True),
    "10**30": Odd(b"1" + b"0" * 30, named=True),
    "-2**63-1": Odd(b"-9223372036854775809", named=True),
    "100000 digits": Odd(b"9" * 100_000, named=True),
    "1e400": Odd(b"1e400", named=True),
    "half a pair": Odd(rb'"\ud800"', named=True),
    "half a pair in a key": Odd(rb'{"\udc00": 1}', named=True),
    "NaN": Odd(b"NaN", named=False),
    "Infinity": Odd(b"-Infinity", named=False),
    "no UTF-8": Odd(b'"\xff"', named=False),
    "a surrogate in UTF-8": Odd(b'"\xed\xa0\x80"', named=False),
    "a null byte": Odd(b'"\0"', named=False),
    "2 MB": Odd(b'"' + b"x" * 2_000_000 + b'"', named=False),
}
WHOLE: Final = {
    "a list": b"[1]", "a string": b'"x"', "a number": b"1", "null": b"null", "words": b"hello",
    "a byte order mark": b"\xef\xbb\xbf{}", "UTF-16": "{}".encode("utf-16"), "no end": b"{", "two": b"{}{}",
}  # fmt: skip

ROUTES: Final = (
    Route("POST", "/v1/jobs", '{"kind": "noop", "payload": {"x": [0, ODD]}}', "payload.x[1]"),
    Route("POST", "/v1/jobs", '{"kind": "noop", "labels": {"x": ODD}}', "labels.x"),
    Route("POST", "/v1/jobs", '{"kind": "noop", "requires": {"x": ODD}}', "requires.x"),
    Route("POST", "/v1/jobs", '{"kind": "noop", "prefers": {"x": ODD}}', "prefers.x"),
    Route("POST", "/v1/jobs", '{"kind": "noop", "delay_s": ODD}', "delay_s"),
    Route("PATCH", "/v1/jobs/{job}", '{"priority": ODD}', "priority"),
    Route("POST", "/v1/jobs/{job}/cancel", '{"reason": ODD}', "reason"),
    Route("POST", "/v1/jobs/{dead}/redrive", '{"payload": {"x": ODD}}', "payload.x"),
    Route("POST", "/v1/jobs/{dead}/discard", '{"reason": ODD}', "reason"),
    Route("POST", "/v1/jobs/{dead}/repair", '{"reason": ODD}', "reason"),
    Route("POST", "/v1/dead-letters/redrive", '{"filter": {"label": {"a": ODD}}}', "filter.label"),
    Route("POST", "/v1/dead-letters/redrive", '{"limit": ODD}', "limit"),
    Route("POST", "/v1/dead-letters/discard", '{"filter": {"ended_after": ODD}}', "filter.ended_after"),
    Route("POST", "/v1/erasures", '{"label": {"a": ODD}}', "label"),
    Route("POST", "/v1/schedules", '{"every_s": 60, "job": {"kind": "noop", "payload": ODD}}', "job.payload"),
    Route("POST", "/v1/schedules", '{"every_s": ODD, "job": {"kind": "noop"}}', "every_s"),
    Route("PUT", "/v1/schedules/s", '{"every_s": 60, "job": {"kind": "noop", "x": [ODD]}}', "job.x"),
    Route("POST", "/v1/schedules/preview", '{"every_s": 60, "job": {"x": ODD}}', "job.x"),
    Route("PUT", "/v1/workflows/w", '{"kind": "noop", "payload": {"x": ODD}}', "payload.x"),
    Route("PUT", "/v1/workflows/w", '{"kind": "noop", "payload": {}, "title": ODD}', "title"),
    Route("POST", "/v1/workflows/w/jobs", '{"inputs": {"x": ODD}}', "inputs.x"),
    Route("POST", "/v1/batches", '{"input": "x", "job": {"payload": {"x": ODD}}}', "job.payload"),
    Route("POST", "/v1/batches", '{"input": ODD}', "input"),
    Route("PUT", "/v1/kinds/noop", '{"retry": {"base_s": ODD}}', "retry.base_s", "admin"),
    Route("PUT", "/v1/kinds/noop", '{"fair_share": ODD}', "fair_share", "admin"),
    Route("PUT", "/v1/prices/9000-01-01", '{"margin_bp": ODD}', "margin_bp", "admin"),
    Route("PUT", "/v1/quotas/all", '{"quotas": [{"unit": ODD}]}', "quotas[0].unit", "admin"),
    Route("PUT", "/v1/limits/x", '{"concurrency": ODD}', "concurrency", "admin"),
    Route(
        "POST", "/v1/keys", '{"name": "n", "roles": ["viewer"], "rate": {"per_minute": ODD}}',
        "rate.per_minute", "admin",
    ),
    Route(
        "PUT", "/v1/models/loras/odd.safetensors",
        f'{{"url": "http://192.0.1.1/", "sha256": "{"0" * 64}", "size_bytes": ODD}}', "size_bytes", "admin",
    ),
    Route("POST", "/v1/models/fetches", '{"worker": "w", "instance": ODD}', "instance", "admin"),
    Route(
        "POST", "/v1/servers",
        '{"endpoints": {"predict": "http://192.0.1.1/"}, "kinds": ["k"], "capabilities": {"x": ODD}}',
        "capabilities.x", "admin",
    ),
    Route("POST", "/v1/servers", '{"endpoints": {"predict": ODD}, "kinds": ["k"]}', "endpoints.p", "admin"),
    Route(
        "PUT", "/v1/servers/odd", '{"endpoints": {"predict": "http://192.0.1.1/"}, "kinds": ["k", ODD]}',
        "kinds[1]", "admin",
    ),
    Route("PATCH", "/v1/servers/odd", '{"labels": {"x": ODD}}', "labels", "admin"),
    Route("POST", "/v1/servers/odd/maintenance", '{"enabled": ODD}', "enabled", "admin"),
    Route("POST", "/v1/servers/cleanup", '{"older_s": ODD}', "older_s", "admin"),
    Route(
        "POST", "/v1/leases/{lease}/delegate", '{"backend": {"kind": "k", "id": "b"}, "lease_s": ODD}',
        "lease_s", "lease",
    ),
    Route(
        "POST", "/v1/backends/k/b/attempts", '{"worker": "w", "kinds": ["k"], "held": [ODD]}', "held[0]",
        "worker",
    ),
    Route(
        "POST", "/v1/backends/k/b/attempts", '{"worker": "w", "kinds": ["k"], "capabilities": {"x": ODD}}',
        "capabilities", "worker",
    ),
    Route("POST", "/v1/tickets", '{"expires_s": ODD}', "expires_s"),
    Route("POST", "/v1/files/x/url", '{"expires_s": ODD}', "expires_s"),
    Route("POST", "/v1/keys/0123456789abcdef/rotate", '{"overlap_s": ODD}', "overlap_s", "admin"),
    Route("POST", "/v1/reviews/{review}/claim", '{"lease_s": ODD}', "lease_s", "reviewer"),
    Route("POST", "/v1/reviews/{review}/release", '{"x": ODD}', "x", "reviewer"),
    Route("POST", "/v1/reviews/{review}/accept", '{"x": ODD}', "x", "reviewer"),
    Route(
        "POST", "/v1/reviews/{review}/reject", '{"reason": "r", "feedback": {"x": ODD}}', "feedback.x",
        "reviewer",
    ),
    Route("POST", "/v1/reviews/{review}/reject", '{"reason": ODD}', "reason", "reviewer"),
    Route(
        "POST", "/v1/leases", '{"worker": "w", "kinds": ["none"], "capabilities": {"x": ODD}}',
        "capabilities.x", "worker",
    ),
    Route("POST", "/v1/leases", '{"worker": "w", "kinds": ["none"], "wait_s": ODD}', "wait_s", "worker"),
    Route("POST", "/v1/leases/{lease}/renew", '{"lease_s": ODD}', "lease_s", "lease"),
    Route("POST", "/v1/leases/{lease}/progress", '{"fraction": ODD}', "fraction", "lease"),
    Route("POST", "/v1/leases/{lease}/progress", '{"fraction": 0, "message": ODD}', "message", "lease"),
    Route("POST", "/v1/leases/{lease}/progress", '{"fraction": 0, "eta_s": ODD}', "eta_s", "lease"),
    Route("POST", "/v1/leases/{lease}/logs", '{"lines": ["a", ODD]}', "lines[", "lease"),
    Route("POST", "/v1/leases/{lease}/succeed", '{"result": {"x": ODD}}', "result.x", "lease"),
    Route("POST", "/v1/leases/{lease}/succeed", '{"usage": {"x": ODD}}', "usage", "lease"),
    Route("POST", "/v1/leases/{lease}/propose", '{"result": [ODD]}', "result[0]", "lease"),
    Route("POST", "/v1/leases/{lease}/propose", '{"checks": {"x": ODD}}', "checks", "lease"),
    Route("POST", "/v1/leases/{lease}/fail", '{"error": {"code": "c", "message": ODD}}', "error.m", "lease"),
    Route("POST", "/v1/leases/{lease}/part", '{"policy": ODD}', "policy", "lease"),
    Route("POST", "/v1/leases/{lease}/release", '{"x": ODD}', "x", "lease"),
    Route("POST", "/compat/replicate/v1/predictions", '{"version": "noop", "input": {"x": ODD}}', "input.x"),
    Route("POST", "/compat/replicate/v1/predictions", '{"version": ODD, "input": {}}', "version"),
    Route("POST", "/compat/replicate/v1/predictions", '{"version": "noop", "input": {}, "x": ODD}', "x"),
    Route("POST", "/compat/replicate/v1/models/a/noop/predictions", '{"input": ODD}', "input"),
    Route("POST", "/compat/replicate/v1/deployments/a/noop/predictions", '{"input": {"x": ODD}}', "input.x"),
    Route("POST", "/compat/runpod/v2/noop/run", '{"input": {"x": ODD}}', "input.x"),
    Route("POST", "/openai/v1/chat/completions?wait=0", '{"model": ODD, "messages": []}', "model"),
    Route("POST", "/openai/v1/chat/completions?wait=0", '{"model": "m", "messages": ODD}', "messages"),
    Route("POST", "/openai/v1/embeddings?wait=0", '{"model": "m", "input": ODD}', "input"),
    Route("POST", "/openai/v1/batches", '{"endpoint": "/v1/x", "completion_window": "1h", "x": ODD}', "x"),
    Route("POST", "/mistral/v1/chat/completions?wait=0", '{"model": ODD, "messages": []}', "model"),
    Route("POST", "/mistral/v1/embeddings?wait=0", '{"model": "m", "input": ODD}', "input"),
    Route("POST", "/mistral/v1/ocr?wait=0", '{"document": {"file_id": ODD}}', "document"),
    Route("POST", "/mistral/v1/ocr?wait=0", '{"document": {"file_id": "x"}, "pages": ODD}', "pages"),
    Route("POST", "/mistral/v1/batch/jobs", '{"endpoint": ODD, "input_files": ["x"]}', "endpoint"),
    Route("POST", "/mistral/v1/batch/jobs", '{"endpoint": "/v1/ocr", "input_files": [ODD]}', "input_f"),
    Route("POST", "/api/documents/upload-url", '{"fileName": "a", "fileSize": 1, "x": ODD}', "x"),
    Route("POST", "/compat/runpod/v2/noop/run", '{"input": {}, "policy": {"ttl": ODD}}', "policy.ttl"),
    Route("POST", "/compat/runpod/v2/noop/runsync?wait=0", '{"input": ODD}', "input"),
    Route("POST", "/api/task", '{"payload": {"x": ODD}}', "payload.x"),
    Route("POST", "/api/task", '{"payload": {}, "unknown": ODD}', "unknown"),
    Route("POST", "/api/task/batch", '{"tasks": ODD}', "tasks"),
    Route("PUT", "/api/task/task-{job}", '{"status": "COMPLETED", "result": {"x": ODD}}', "result.x"),
    Route("PUT", "/api/task/task-{job}", '{"status": "PROCESSING", "progress": ODD}', "progress"),
    Route("POST", "/api/jobs", '{"job_type": "noop", "payload": {"x": ODD}}', "payload.x"),
    Route("POST", "/api/jobs", '{"job_type": "noop", "payload": {}, "priority": ODD}', "priority"),
    Route("POST", "/api/jobs", '{"job_type": "noop", "payload": {}, "requirements": {"x": ODD}}', "req"),
    Route("POST", "/api/servers", '{"name": ODD, "endpoints": {"predict": "http://h/"}}', "name", "admin"),
    Route("POST", "/api/servers", '{"name": "n", "endpoints": {"predict": ODD}}', "endpoints.p", "admin"),
    Route("POST", "/api/servers/cleanup", '{"maxAgeMins": ODD}', "maxAgeMins", "admin"),
    Route("PUT", "/api/servers/s/maintenance", '{"enabled": ODD}', "enabled", "admin"),
    Route("PUT", "/api/loadbalancer/algorithm", '{"algorithm": ODD}', "algorithm", "admin"),
    Route(
        "POST", "/api/v1/orchestrators/register",
        '{"cluster": "c", "machine_id": "m", "repo_url": "r", "scope": "{scope}", '
        '"capabilities": {"x": ODD}}',
        "capabilities.x", "octopoid",
    ),
    Route("PATCH", "/api/v1/orchestrators/prod-m1", '{"status": ODD}', "status", "octopoid"),
    Route(
        "POST", "/api/v1/tasks", '{"id": "n", "file_path": "f", "metadata": {"x": ODD}}', "metadata.x",
        "octopoid",
    ),
    Route("POST", "/api/v1/tasks", '{"id": "n", "file_path": "f", "unknown": ODD}', "unknown", "octopoid"),
    Route("PATCH", "/api/v1/tasks/t", '{"metadata": ODD}', "metadata", "octopoid"),
    Route(
        "POST", "/api/v1/tasks/claim",
        '{"orchestrator_id": "o", "agent_name": "a", "lease_duration_seconds": ODD}',
        "lease_duration_seconds", "octopoid",
    ),
    Route(
        "POST", "/api/v1/tasks/t/submit", '{"commits_count": ODD, "turns_used": 1}', "commits_count",
        "octopoid",
    ),
    Route("POST", "/api/v1/tasks/t/accept", '{"accepted_by": ODD}', "accepted_by", "octopoid"),
    Route("POST", "/api/v1/tasks/t/reject", '{"reason": ODD, "rejected_by": "r"}', "reason", "octopoid"),
    Route("POST", "/api/v1/tasks/t/requeue", '{"lease_id": ODD}', "lease_id", "octopoid"),
    Route("POST", "/api/v1/tasks/t/force-queue", '{"queue": "done", "reason": ODD}', "reason", "octopoid"),
    Route(
        "POST", "/api/v1/tasks/t/renew", '{"lease_duration_seconds": ODD}', "lease_duration_seconds",
        "octopoid",
    ),
    Route(
        "POST", "/api/v1/tasks/t/hooks/h/complete", '{"status": "passed", "evidence": ODD}', "evidence",
        "octopoid",
    ),
    Route("PUT", "/api/v1/flows/f", '{"states": [ODD], "transitions": []}', "states[0]", "octopoid"),
    Route(
        "POST", "/api/v1/messages", '{"task_id": "t", "from_actor": "a", "type": "t", "content": ODD}',
        "content", "octopoid",
    ),
    Route(
        "POST", "/api/v1/projects", '{"id": "p", "title": "t", "auto_accept": ODD}', "auto_accept", "octopoid"
    ),
    Route("PATCH", "/api/v1/projects/p", '{"title": ODD}', "title", "octopoid"),
    Route("POST", "/api/v1/drafts", '{"title": "t", "author": "a", "tags": [ODD]}', "tags[0]", "octopoid"),
    Route(
        "POST", "/api/v1/actions",
        '{"entity_type": "t", "entity_id": "i", "label": "l", "action_data": ODD}', "action_data", "octopoid",
    ),
    Route(
        "POST", "/api/v1/orchestrators/prod-m1/heartbeat", '{"timestamp": ODD}', "timestamp", "octopoid"
    ),
    Route(
        "POST", "/api/v1/messages",
        '{"task_id": "t", "from_actor": "a", "type": "t", "content": "c", "parent_message_id": ODD}',
        "parent_message_id", "octopoid",
    ),
    Route("PATCH", "/api/v1/projects/p", '{"completed_at": ODD}', "completed_at", "octopoid"),
    Route("PATCH", "/api/v1/drafts/1", '{"tags": [ODD]}', "tags[0]", "octopoid"),
    Route("PATCH", "/api/v1/drafts/1", '{"status": ODD}', "status", "octopoid"),
    Route(
        "POST", "/api/v1/actions",
        '{"entity_type": "t", "entity_id": "i", "label": "l", "expires_at": ODD}', "expires_at", "octopoid",
    ),
    Route("PATCH", "/api/v1/actions/{action}", '{"status": ODD}', "status", "octopoid"),
    Route("PATCH", "/api/v1/actions/{action}", '{"result": ODD}', "result", "octopoid"),
    Route(
        "POST", "/api/v1/roles/register",
        '{"orchestrator_id": "prod-m1", "roles": [{"name": "implement", "claims_from": ODD}]}',
        "roles[0].claims_from", "octopoid",
    ),
    Route(
        "POST", "/api/v1/roles/register", '{"orchestrator_id": ODD, "roles": []}', "orchestrator_id",
        "octopoid",
    ),
    Route(
        "POST", "/api/v1/import",
        '{"sort": "project", "rows": [{"id": "odd", "title": "t", "description": ODD}], "dry_run": true}',
        "rows[0].description", "octopoid",
    ),
    Route("POST", "/api/v1/actions/a/complete", '{"result": ODD}', "result", "octopoid"),
    Route("POST", "/api/v1/actions/a/fail", '{"result": ODD}', "result", "octopoid"),
)  # fmt: skip


@dataclass
class Stage:
    """A gateway with a job in each state that a route needs."""

    api: Gateway
    octo: Octopoid
    names: dict[str, str]
    tokens: dict[str, str]
    lease_token: str

    async def send(self, route: Route, body: bytes) -> Answer:
        """A body to a route."""
        headers = {"Authorization": f"Bearer {self.tokens[route.who]}", "Content-Type": "application/json"}
        if route.who == "lease":
            headers["Switchyard-Lease-Token"] = self.lease_token
        path = route.path.format(**self.names) if "{" in route.path else route.path
        body = body.replace(b"{scope}", self.octo.scope.encode())
        async with self.api.http.request(
            route.method, self.api.url + path, data=io.BytesIO(body), headers=headers
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


async def staged(api: Gateway) -> Stage:
    """Make the jobs."""
    octo = Octopoid(api)
    assert (await octo.register()).status == 201
    await octo.create("t")
    action = {"entity_type": "task", "entity_id": "t", "label": "l"}
    named = (await octo.call("POST", "/actions", action)).json["id"]
    await octo.call("POST", "/drafts", {"title": "t", "author": "a"})
    await octo.call("POST", "/projects", {"id": "p", "title": "t"})
    job = (await api.submit())["id"]
    dead = await api.lease((await api.submit())["id"])
    await api.fail(dead, "broken", retryable=False)
    kind = api.tenant
    tokens = {role: api.token(role) for role in ("submitter", "reviewer", "worker", "admin")}
    claims: list[Any] = []
    for name in ("w1", "w2"):
        await api.submit(kind=kind)
        claim = {"worker": name, "kinds": [kind], "lease_s": 60}
        claims.append((await api.call("POST", "/v1/leases", claim, token=tokens["worker"])).json)
    held, proposed = claims
    answer = await api.call(
        "POST", f"/v1/leases/{proposed['lease']['id']}/propose", {"result": 1},
        token=tokens["worker"], Switchyard_Lease_Token=proposed["lease"]["token"],
    )  # fmt: skip
    assert answer.json["state"] == "review", answer
    names = {"job": job, "dead": dead.id, "review": proposed["job"]["id"], "lease": held["lease"]["id"]}
    names["action"] = named
    tokens |= {"lease": tokens["worker"], "octopoid": octo.key}
    return Stage(api, octo, names, tokens, held["lease"]["token"])
