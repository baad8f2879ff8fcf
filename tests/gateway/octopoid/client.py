"""A client of Octopoid's API that knows its documented routes alone."""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec

from switchyard.services.gateway.doors.octopoid.routes import ROUTES
from switchyard.services.gateway.http.routes import refusals
from tests.gateway.rest import Answer, Gateway

TABLE = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", route.path)), route) for route in ROUTES]


def check(method: str, path: str, answer: Answer) -> None:
    """Hold an answer against the table of routes; a refusal has the form that clients know."""
    path = path.partition("?")[0]
    found = [route for form, route in TABLE if route.method == method and form.fullmatch(path)]
    kind = found[0].answers.get(answer.status) if found else None
    if kind is None:
        assert answer.status >= 400, (method, path, answer)
        if found:
            declared = {(400 if status == 422 else status, code) for status, code in refusals(found[0])}
            assert (answer.status, answer.json["code"]) in declared, (method, path, answer)
        assert {"error", "code"} <= set(answer.json) <= {"error", "code", "field", "details"}, answer
        return
    msgspec.convert(answer.json, kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        assert set(answer.json) <= set(kind.__struct_fields__), (method, path, answer)


class Octopoid:
    """A scope, and how its orchestrators speak to the server."""

    def __init__(self, api: Gateway, scope: str | None = None) -> None:
        self.api = api
        self.scope = scope or f"s{secrets.token_hex(6)}"
        self.key = ""

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        headers = {} if key == "" else {"Authorization": f"Bearer {key or self.key}"}
        async with self.api.http.request(
            method, f"{self.api.url}/api/v1{path}", json=body, headers=headers
        ) as response:
            answer = Answer(response.status, response.headers, await response.read())
        check(method, f"/api/v1{path}", answer)
        return answer

    async def register(self, *, machine: str = "m1", key: str | None = None) -> Answer:
        body = {"cluster": "prod", "machine_id": machine, "repo_url": "git@x:y.git", "scope": self.scope}
        key = self.api.token("registrar") if key is None else key
        answer = await self.call("POST", "/orchestrators/register", body, key=key)
        self.key = answer.json.get("api_key", self.key)
        return answer

    async def create(self, task_id: str, **fields: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/tasks", self.task(task_id, **fields))
        assert answer.status == 201, answer
        task: dict[str, Any] = answer.json
        return task

    def task(self, task_id: str, **fields: Any) -> dict[str, Any]:
        return {"id": task_id, "file_path": f"{task_id}.md", "branch": "main", "scope": self.scope, **fields}

    async def get(self, task_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/tasks/{task_id}?scope={self.scope}")
        assert answer.status == 200, answer
        task: dict[str, Any] = answer.json
        return task

    async def claim(self, agent: str = "agent-1", **fields: Any) -> Answer:
        body = {"orchestrator_id": "prod-m1", "agent_name": agent, "scope": self.scope, **fields}
        return await self.call("POST", "/tasks/claim", body)

    async def post(self, task_id: str, verb: str, **fields: Any) -> Answer:
        return await self.call("POST", f"/tasks/{task_id}/{verb}", fields)

    async def patch(self, task_id: str, **fields: Any) -> Answer:
        return await self.call("PATCH", f"/tasks/{task_id}", fields)

    async def submit(self, task_id: str, commits: int = 1, turns: int = 9, **fields: Any) -> Answer:
        return await self.post(task_id, "submit", commits_count=commits, turns_used=turns, **fields)

    async def listed(self, query: str = "") -> list[str]:
        answer = await self.call("GET", f"/tasks?scope={self.scope}&{query}")
        assert answer.status == 200, answer
        return [task["id"] for task in answer.json["tasks"]]
