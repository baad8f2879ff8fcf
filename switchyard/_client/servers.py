"""Prediction servers, for both clients: `client.servers`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncServers.list` hides it
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.fleet import Server

T = TypeVar("T")
_ONE = msgspec.json.Decoder(Server)
PAGE = 500


class _Page(msgspec.Struct):
    servers: list_[Server]
    cursor: str | None = None


class _Removed(msgspec.Struct):
    id: str


class _Cleanup(msgspec.Struct):
    removed: list_[_Removed]


class AsyncServers:
    """The prediction servers of a tenant; to change them needs role `tenant-admin` or `operator`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(
        self,
        server_id: str,
        *,
        predict: str,
        kinds: Sequence[str],
        health: str | None = None,
        cancel: str | None = None,
        profile: str = "task",
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        slots: int = 1,
        weight: int = 1,
        labels: Mapping[str, str] | None = None,
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
        enabled: bool = True,
        maintenance: bool = False,
        revision: int | None = None,
        tenant: str | None = None,
    ) -> Server:
        """Register a server, or put this description in the place of the one that is there.

        Args:
            server_id: as its owner calls it.
            predict: URL that takes jobs.
            kinds: what jobs it takes.
            health: URL that is asked whether it is well.
            cancel: URL that takes cancellations.
            profile: how it is spoken to: `task`, `cog`, `openai` or `json`.
            options: what the profile lets its owner choose.
            name: for people.
            capabilities: what jobs can require.
            slots: jobs that it takes at once.
            weight: its share beside others.
            labels: for people and programs.
            bearer: a token that requests carry.
            headers: others that they carry; without both, those that it has stay.
            enabled: whether it is used and checked at all.
            maintenance: whether it gets no new jobs for now.
            revision: which it has to have; 0 for a server that is not there yet.
            tenant: whose it is, for an operator or admin; one's own by default.
        """
        endpoints = {"predict": predict, "health": health, "cancel": cancel}
        body: dict[str, Any] = {
            "endpoints": endpoints, "kinds": list_(kinds), "capabilities": dict(capabilities or {}),
            "profile": profile, "slots": slots, "weight": weight, "labels": dict(labels or {}),
            "enabled": enabled, "maintenance": maintenance,
        }  # fmt: skip
        if options:
            body["options"] = dict(options)
        if name is not None:
            body["name"] = name
        if bearer is not None or headers:
            body["credentials"] = {"bearer": bearer, "headers": dict(headers or {})}
        return await self._one("PUT", _path(server_id), tenant, json=body, headers=_match(revision))

    async def change(
        self, server_id: str, *, revision: int | None = None, tenant: str | None = None, **fields: Any
    ) -> Server:
        """Change some of a server.

        Args:
            server_id: which.
            revision: which it has to have.
            tenant: whose it is, for an operator or admin.
            fields: those of the body of `PATCH /v1/servers/{id}`; what is left out stays.
        """
        return await self._one("PATCH", _path(server_id), tenant, json=fields, headers=_match(revision))

    async def get(self, server_id: str, *, tenant: str | None = None) -> Server:
        """A server and its last checks."""
        return await self._one("GET", _path(server_id), tenant)

    async def list(
        self,
        *,
        kinds: Sequence[str] = (),
        states: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> list_[Server]:
        """All servers that fit, by id, without their last checks."""
        return [one async for one in self._pages(kinds, states, labels or {}, tenant)]

    async def _pages(
        self, kinds: Sequence[str], states: Sequence[str], labels: Mapping[str, str], tenant: str | None
    ) -> AsyncIterator[Server]:
        params = [("kind", kind) for kind in kinds] + [("state", state) for state in states]
        params += [("label", f"{name}:{value}") for name, value in labels.items()]
        cursor: str | None = None
        while True:
            here = [*params, ("limit", str(PAGE)), *([] if cursor is None else [("cursor", cursor)])]
            answer = await self._call("GET", "", tenant, params=here)
            page = msgspec.json.decode(answer, type=_Page)
            for server in page.servers:
                yield server
            if page.cursor is None:
                return
            cursor = page.cursor

    async def maintenance(self, server_id: str, *, enabled: bool = True, tenant: str | None = None) -> Server:
        """Give a server no new jobs for now, or some again."""
        body = {"enabled": enabled}
        return await self._one("POST", _path(server_id, "/maintenance"), tenant, json=body)

    async def heartbeat(self, server_id: str, *, tenant: str | None = None) -> Server:
        """Say that a server lives; role `worker` is enough."""
        return await self._one("POST", _path(server_id, "/heartbeat"), tenant)

    async def delete(self, server_id: str, *, tenant: str | None = None) -> None:
        """Take a server out of the registry."""
        await self._call("DELETE", _path(server_id), tenant)

    async def cleanup(
        self, *, older_s: float | None = None, dry_run: bool = False, tenant: str | None = None
    ) -> list_[str]:
        """Remove the servers that were found dead for so long; their ids."""
        body: dict[str, Any] = {"dry_run": dry_run} | ({} if older_s is None else {"older_s": older_s})
        answer = await self._call("POST", "/cleanup", tenant, json=body)
        return [one.id for one in msgspec.json.decode(answer, type=_Cleanup).removed]

    async def _one(self, method: str, path: str, tenant: str | None, **options: Any) -> Server:
        return _ONE.decode(await self._call(method, path, tenant, **options))

    async def _call(
        self,
        method: str,
        path: str,
        tenant: str | None,
        *,
        params: Sequence[tuple[str, str]] = (),
        **options: Any,
    ) -> bytes:
        sent = [*params, *([] if tenant is None else [("tenant", tenant)])]
        again = method in ("GET", "PUT", "PATCH")
        return await self._transport.call(method, f"/v1/servers{path}", params=sent, again=again, **options)


class SyncServers:
    """`AsyncServers` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], servers: AsyncServers) -> None:
        self._run = run
        self._servers = servers

    def put(self, server_id: str, *, predict: str, kinds: Sequence[str], **options: Any) -> Server:
        """Register or replace a server; see `AsyncServers.put`."""
        made: Server = self._run(self._servers.put(server_id, predict=predict, kinds=kinds, **options))
        return made

    def change(self, server_id: str, **fields: Any) -> Server:
        """Change some of a server; see `AsyncServers.change`."""
        changed: Server = self._run(self._servers.change(server_id, **fields))
        return changed

    def get(self, server_id: str, *, tenant: str | None = None) -> Server:
        """A server and its last checks."""
        found: Server = self._run(self._servers.get(server_id, tenant=tenant))
        return found

    def list(self, **wanted: Any) -> list_[Server]:
        """All servers that fit; see `AsyncServers.list`."""
        found: list_[Server] = self._run(self._servers.list(**wanted))
        return found

    def maintenance(self, server_id: str, *, enabled: bool = True, tenant: str | None = None) -> Server:
        """Give a server no new jobs for now, or some again."""
        changed: Server = self._run(self._servers.maintenance(server_id, enabled=enabled, tenant=tenant))
        return changed

    def heartbeat(self, server_id: str, *, tenant: str | None = None) -> Server:
        """Say that a server lives."""
        found: Server = self._run(self._servers.heartbeat(server_id, tenant=tenant))
        return found

    def delete(self, server_id: str, *, tenant: str | None = None) -> None:
        """Take a server out of the registry."""
        self._run(self._servers.delete(server_id, tenant=tenant))

    def cleanup(self, **options: Any) -> list_[str]:
        """Remove the servers that were found dead for so long; see `AsyncServers.cleanup`."""
        removed: list_[str] = self._run(self._servers.cleanup(**options))
        return removed


def _match(revision: int | None) -> dict[str, str]:
    if revision is None:
        return {}
    return {"If-None-Match": "*"} if revision == 0 else {"If-Match": f'"{revision}"'}


def _path(server_id: str, rest: str = "") -> str:
    return f"/{quote(server_id, safe='')}{rest}"
