"""Workflows, for both clients: `client.workflows`."""

from __future__ import annotations

import secrets
from builtins import list as list_  # `AsyncWorkflows.list` hides it
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Unpack
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.models import Job, Options, Workflow, WorkflowBatch, WorkflowEntry

PAGE = 500
_ONE = msgspec.json.Decoder(Workflow)
_BATCH = msgspec.json.Decoder(WorkflowBatch)
_JOB = msgspec.json.Decoder(Job)


class _Page(msgspec.Struct):
    workflows: list_[WorkflowEntry]
    cursor: str | None = None


class _Versions(msgspec.Struct):
    versions: list_[int]


class AsyncWorkflows:
    """The workflows of a tenant: templates of payloads with named inputs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, name: str, *, kind: str, **fields: Any) -> Workflow:
        """Make the next version, unless the newest says the same; the newest then.

        Args:
            name: that of the workflow.
            kind: that of its jobs.
            fields: `payload`, or `graph` for `comfyui`, and the others of the body of
                `PUT /v1/workflows/{name}`.
        """
        answer = await self._transport.call("PUT", _path(name), json={"kind": kind, **fields}, again=True)
        return _ONE.decode(answer)

    async def get(self, name: str) -> Workflow:
        """A version: the newest of `name`, or the one of `name@3`."""
        return _ONE.decode(await self._transport.call("GET", _path(name)))

    async def list(self) -> list_[WorkflowEntry]:
        """All workflows by name."""
        found: list_[WorkflowEntry] = []
        cursor: str | None = None
        while True:
            params = {"limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
            answer = await self._transport.call("GET", "/v1/workflows", params=params)
            page = msgspec.json.decode(answer, type=_Page)
            found += page.workflows
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def versions(self, name: str) -> list_[int]:
        """The numbers of a workflow's versions, oldest first."""
        answer = await self._transport.call("GET", _path(name, "/versions"))
        return msgspec.json.decode(answer, type=_Versions).versions

    async def delete(self, name: str) -> None:
        """Delete a workflow with all of its versions; the jobs that were made of it stay."""
        await self._transport.call("DELETE", _path(name))

    async def submit(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Make a job of a workflow.

        Args:
            name: `name` for its newest version, or `name@3`.
            inputs: by name; a file is given by its id.
            idempotency_key: the same key and request give the same job; one is made if there is none.
            options: as `docs/api.md` describes them, over those of the workflow.
        """
        body = {"workflow": name, "inputs": dict(inputs or {}), **options}
        headers = _key(idempotency_key)
        return _JOB.decode(await self._transport.call("POST", "/v1/jobs", json=body, headers=headers))

    async def submit_several(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        count: int | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> WorkflowBatch:
        """Make as many jobs as `count` says, each with a seed of its own; otherwise as `submit`."""
        body: dict[str, Any] = {"inputs": dict(inputs or {}), **options}
        if count is not None:
            body["count"] = count
        path, headers = _path(name, "/jobs"), _key(idempotency_key)
        return _BATCH.decode(await self._transport.call("POST", path, json=body, headers=headers))


class SyncWorkflows:
    """`AsyncWorkflows` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], workflows: AsyncWorkflows) -> None:
        self._run = run
        self._workflows = workflows

    def put(self, name: str, *, kind: str, **fields: Any) -> Workflow:
        """Make the next version; see `AsyncWorkflows.put`."""
        made: Workflow = self._run(self._workflows.put(name, kind=kind, **fields))
        return made

    def get(self, name: str) -> Workflow:
        """A version: the newest of `name`, or the one of `name@3`."""
        found: Workflow = self._run(self._workflows.get(name))
        return found

    def list(self) -> list_[WorkflowEntry]:
        """All workflows by name."""
        found: list_[WorkflowEntry] = self._run(self._workflows.list())
        return found

    def versions(self, name: str) -> list_[int]:
        """The numbers of a workflow's versions, oldest first."""
        found: list_[int] = self._run(self._workflows.versions(name))
        return found

    def delete(self, name: str) -> None:
        """Delete a workflow with all of its versions."""
        self._run(self._workflows.delete(name))

    def submit(self, name: str, inputs: Mapping[str, Any] | None = None, **options: Any) -> Job:
        """Make a job of a workflow; see `AsyncWorkflows.submit`."""
        job: Job = self._run(self._workflows.submit(name, inputs, **options))
        return job

    def submit_several(
        self, name: str, inputs: Mapping[str, Any] | None = None, **options: Any
    ) -> WorkflowBatch:
        """Make several jobs of a workflow; see `AsyncWorkflows.submit_several`."""
        made: WorkflowBatch = self._run(self._workflows.submit_several(name, inputs, **options))
        return made


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or secrets.token_hex(16)}


def _path(name: str, rest: str = "") -> str:
    return f"/v1/workflows/{quote(name, safe='@')}{rest}"
