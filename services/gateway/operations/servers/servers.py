"""Prediction servers: registered, changed, watched and removed for callers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from nats.aio.client import Client

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
    VersionConflictError,
)
from switchyard.services import clock
from switchyard.services.access.principal import Caller, check_kinds
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.access.server_credentials import ServerCredentials, headers_of, origins_of
from switchyard.services.dispatch.push.forms import check_options, form_of
from switchyard.services.gateway.operations.servers.request import (
    CredentialsRequest,
    EndpointsRequest,
    Limits,
    ServerChange,
    ServerRequest,
    check_fields,
)
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.urls import check_resolved, endpoint_url
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Shown
from switchyard.services.records.servers.record import ID, ID_PATTERN, Endpoints, Sealed, Server
from switchyard.services.records.servers.slot_use import taken_slots
from switchyard.services.records.servers.store import Found, Servers
from switchyard.services.settings import Settings

PLACED: Final = frozenset({"endpoints", "profile", "options", "credentials"})
"""What a change of makes all that was found of a server before worthless."""


class Expected(NamedTuple):
    """What a request's conditions say of the server as it stands.

    Args:
        revisions: one of which it has to have; None for any.
        exists: whether it has to be there, or has to be missing; None for either.
    """

    revisions: Collection[int] | None = None
    exists: bool | None = None

    def check(self, revision: int | None) -> None:
        """Judge what stands there; None for nothing.

        Raises:
            PreconditionFailedError: it is not what was expected.
        """
        if self.exists is False and revision is not None:
            raise PreconditionFailedError(f'there is one: revision "{revision}"', field="If-None-Match")
        if (self.exists or self.revisions is not None) and revision is None:
            raise PreconditionFailedError("there is no such server", field="If-Match")
        if self.revisions is not None and revision not in self.revisions:
            raise PreconditionFailedError(f'the server is at revision "{revision}"', field="If-Match")


ANYTHING: Final = Expected()


class Wanted(NamedTuple):
    """Which servers of a tenant, or of all, a list has; what is empty or None does not count."""

    tenant: str | None
    kinds: Collection[str] = ()
    states: Collection[str] = ()
    labels: Collection[tuple[str, str]] = ()
    enabled: bool | None = None
    maintenance: bool | None = None


class PredictionServers:
    """Does what callers ask about servers.

    Args:
        nc: an open connection.
        servers: the registry.
        credentials: seals those of servers.
        settings: limits, and which addresses may be called.
    """

    def __init__(
        self, nc: Client, servers: Servers, credentials: ServerCredentials, settings: Settings
    ) -> None:
        self._nc = nc
        self.registry = servers
        self.credentials = credentials
        self._settings = settings
        self._policy = AddressPolicy(settings.server_networks or ())
        self._limits = Limits(settings.capabilities_bytes, settings.labels, settings.label_value_chars)

    # --- Reads

    async def get(self, tenant: str, server_id: str) -> Found:
        """A server.

        Raises:
            NotFoundError: the tenant has none of this id.
        """
        return await self.registry.get(tenant, server_id)

    def page(self, wanted: Wanted, after: str, limit: int) -> tuple[list[Found], str | None]:
        """A page of servers by tenant and id, and the cursor of the next."""
        now = clock.now()
        found = [one for one in self.registry.all(wanted.tenant) if self._is_wanted(one, wanted, now)]
        left = sorted((place, one) for one in found if (place := _place(one.server)) > after)
        page = [one for _, one in left[:limit]]
        return page, _place(page[-1].server) if len(left) > limit else None

    def _is_wanted(self, found: Found, wanted: Wanted, now: datetime) -> bool:
        server = found.server
        return (
            (not wanted.kinds or not {*server.kinds}.isdisjoint(wanted.kinds))
            and (not wanted.states or self.shown(found, now) in wanted.states)
            and all(server.labels.get(name) == value for name, value in wanted.labels)
            and wanted.enabled in (None, server.enabled)
            and wanted.maintenance in (None, server.maintenance)
        )

    def shown(self, found: Found, now: datetime) -> Shown:
        """The condition of a server as people see it."""
        return condition.shown(found.server, found.state, now, self._settings.server_stale_s)

    def is_stale(self, found: Found, now: datetime) -> bool:
        """Whether a server that was once heard of has not been for long."""
        state = found.state
        return state is not None and condition.is_stale(state, now, self._settings.server_stale_s)

    def takes_jobs(self, found: Found, now: datetime) -> bool:
        """Whether jobs may be pushed to a server now."""
        return condition.takes_jobs(found.server, found.state, now, self._settings.server_stale_s)

    async def running(self, found: Found) -> int | None:
        """How many slots of a server are taken, pushed by whomever; None where nobody can say now."""
        return await taken_slots(self._nc, found.server.key, timeout_s=self._settings.request_timeout_s)

    # --- Writes

    async def create(self, caller: Caller, asked: ServerRequest) -> Found:
        """Register a server.

        Raises:
            ConflictError: code `server_exists`.
            RejectedError: it breaks a rule, or a limit of the tenant.
        """
        server_id = new_id() if asked.id is None else asked.id
        _check_id(server_id)
        entry = await self.registry.entry(caller.tenant, server_id)
        assert entry is not None
        if entry.value is not None:
            raise _taken(server_id)
        return await self._create(caller, server_id, asked, entry.revision)

    async def put(
        self, caller: Caller, server_id: str, asked: ServerRequest, expected: Expected = ANYTHING
    ) -> tuple[Found, bool]:
        """Register a server, or put what is asked in its place; it, and whether it is a new one.

        Raises:
            PreconditionFailedError: it is not what was expected.
            RejectedError: it breaks a rule, or a limit of the tenant.
        """
        _check_id(server_id)
        if asked.id not in (None, server_id):
            raise InvalidError(f"id: expected {server_id!r}, as in the path", field="id")
        entry = await self.registry.entry(caller.tenant, server_id)
        assert entry is not None
        expected.check(None if entry.value is None else entry.revision)
        if entry.value is None:
            return await self._create(caller, server_id, asked, entry.revision), True
        changes = msgspec.structs.asdict(asked)
        del changes["id"]
        changes["name"] = asked.name or server_id
        changed = await self._changed(caller, entry.value, ServerChange(**changes))
        return await self._write(changed, entry.revision), False

    async def change(
        self, caller: Caller, server_id: str, asked: ServerChange, expected: Expected = ANYTHING
    ) -> Found:
        """Change some of a server.

        Raises:
            NotFoundError: the tenant has none of this id.
            PreconditionFailedError: it is not what was expected.
            RejectedError: it breaks a rule.
            ConflictError: others were always faster.
        """
        for _ in range(self._settings.append_tries):
            found = await self.registry.get(caller.tenant, server_id)
            expected.check(found.revision)
            changed = await self._changed(caller, found.server, asked)
            if changed is found.server:
                return found
            try:
                revision = await self.registry.put(changed, found.revision)
            except VersionConflictError:
                continue
            return Found(changed, revision, condition.of(changed, found.state))
        raise ConflictError("other requests changed the server at the same time")

    async def delete(self, tenant: str, server_id: str, expected: Expected = ANYTHING) -> None:
        """Take a server out of the registry; jobs that it has end as if it had gone.

        Raises:
            NotFoundError: the tenant has none of this id.
            PreconditionFailedError: it is not what was expected.
            ConflictError: another request changed it meanwhile.
        """
        found = await self.registry.get(tenant, server_id)
        expected.check(found.revision)
        await self.registry.delete(found.server, found.revision)

    async def heartbeat(self, tenant: str, server_id: str) -> Found:
        """Take in that a server says itself that it lives.

        Raises:
            NotFoundError: the tenant has none of this id.
        """
        found = await self.registry.get(tenant, server_id)
        server, now = found.server, clock.now()
        state = await self.registry.change_state(
            server,
            lambda known: condition.after_heartbeat(known or condition.first(server, now), server, now),
        )
        return Found(server, found.revision, state)

    async def cleanup(self, tenant: str | None, older_s: float | None, *, dry_run: bool) -> list[Server]:
        """Remove the servers that were found dead, or have been silent, for so long; those, in order.

        Each is judged again by what the broker knows before it goes. One that is disabled or in maintenance
        stays, and so does one that can be checked and that nobody has checked lately.

        Raises:
            UnavailableError: the broker does not answer.
        """
        most_s = self._settings.server_stale_s if older_s is None else older_s
        now, removed = clock.now(), []
        for known in sorted(self.registry.all(tenant), key=lambda one: one.server.key):
            if not condition.is_abandoned(known.server, known.state, now, most_s):
                continue
            try:
                found = await self.registry.get(*known.server.key)
                if not condition.is_abandoned(found.server, found.state, now, most_s):
                    continue
                if not dry_run:
                    await self.registry.delete(found.server, found.revision)
            except (NotFoundError, ConflictError):  # somebody removed or changed it meanwhile
                continue
            removed.append(found.server)
        return removed

    # --- Records

    async def _create(self, caller: Caller, server_id: str, asked: ServerRequest, revision: int) -> Found:
        check_fields(asked, self._limits)
        check_kinds(caller.grant, asked.kinds)
        check_options(asked.profile, asked.options, asked.kinds)
        endpoints = await self._endpoints(asked.profile, asked.endpoints)
        sealed = None
        if isinstance(asked.credentials, CredentialsRequest):
            sealed = self._sealed(caller.tenant, server_id, endpoints, asked.credentials)
        now = clock.now()
        server = Server(
            tenant=caller.tenant, id=server_id, generation=new_id(), name=asked.name or server_id,
            endpoints=endpoints, profile=asked.profile, options=asked.options,
            kinds=tuple(sorted({*asked.kinds})), capabilities=asked.capabilities, slots=asked.slots,
            labels=asked.labels, weight=asked.weight, credentials=sealed, enabled=asked.enabled,
            maintenance=asked.maintenance, created_at=now, created_by=caller.actor, updated_at=now,
        )  # fmt: skip
        _check_headers(server)
        try:
            return Found(server, await self.registry.put(server, revision), None)
        except VersionConflictError:
            raise _taken(server_id) from None

    async def _write(self, server: Server, revision: int) -> Found:
        try:
            revision = await self.registry.put(server, revision)
        except VersionConflictError:
            raise ConflictError("another request changed the server meanwhile") from None
        return Found(server, revision, self.registry.state(server))

    async def _changed(self, caller: Caller, server: Server, asked: ServerChange) -> Server:
        """The server as it is asked to be; itself where nothing changes."""
        check_fields(asked, self._limits)
        given: dict[str, Any] = {
            name: value for name, value in msgspec.structs.asdict(asked).items() if value is not UNSET
        }
        if "kinds" in given:
            check_kinds(caller.grant, given["kinds"])
            given["kinds"] = tuple(sorted({*given["kinds"]}))
        profile = given.get("profile", server.profile)
        if not {"profile", "options", "kinds"}.isdisjoint(given):
            check_options(profile, given.get("options", server.options), given.get("kinds", server.kinds))
        endpoints = server.endpoints
        if isinstance(asked.endpoints, EndpointsRequest):
            endpoints = given["endpoints"] = await self._endpoints(profile, asked.endpoints)
        given["credentials"] = self._kept(server, endpoints, asked.credentials)
        changes = {name: value for name, value in given.items() if value != getattr(server, name)}
        if not changes:
            return server
        if not PLACED.isdisjoint(changes):
            changes["generation"] = new_id()
        changed = msgspec.structs.replace(server, **changes, updated_at=clock.now())
        _check_headers(changed)
        return changed

    def _kept(
        self, server: Server, endpoints: Endpoints, asked: CredentialsRequest | UnsetType | None
    ) -> Sealed | None:
        """The credentials after a change: they never go along to another origin unless given again."""
        if asked is None:
            return None
        if isinstance(asked, CredentialsRequest):
            sealed = self._sealed(server.tenant, server.id, endpoints, asked)
            return server.credentials if self._are_same(server, endpoints, asked, sealed) else sealed
        if server.credentials is not None and origins_of(endpoints) != origins_of(server.endpoints):
            message = "credentials: they have to be given again, or null, where requests go to another origin"
            raise InvalidError(message, code="credentials_needed", field="credentials")
        return server.credentials

    def _are_same(
        self, server: Server, endpoints: Endpoints, asked: CredentialsRequest, sealed: Sealed
    ) -> bool:
        """Whether the same ones are given again: a server that registers at each start stays what it is."""
        known = server.credentials
        if known is None or known.key != sealed.key or origins_of(endpoints) != origins_of(server.endpoints):
            return False
        try:
            return self.credentials.open(server) == headers_of(asked.bearer, asked.headers, "credentials")
        except UnreadableError:
            return False

    def _sealed(self, tenant: str, server_id: str, endpoints: Endpoints, asked: CredentialsRequest) -> Sealed:
        headers: Mapping[str, str] = headers_of(asked.bearer, asked.headers, "credentials")
        return self.credentials.seal(tenant, server_id, endpoints, headers)

    async def _endpoints(self, profile: str, asked: EndpointsRequest) -> Endpoints:
        """The endpoints, once each has an address that may be called."""
        urls: dict[str, str | None] = {}
        for name, url in msgspec.structs.asdict(asked).items():
            field = f"endpoints.{name}"
            urls[name] = None if url is None else endpoint_url(url, field, self._policy)
        if urls["health"] is None:
            urls["health"] = form_of(profile).health(urls["predict"] or "")
        await asyncio.gather(
            *(
                check_resolved(checked, f"endpoints.{name}", self._policy)
                for name, checked in urls.items()
                if checked is not None
            )
        )
        return Endpoints(**urls)  # type: ignore[arg-type]  # `predict` is never None


def _place(server: Server) -> str:
    return f"{server.tenant}/{server.id}"


def _check_headers(server: Server) -> None:
    """Refuse headers among the options that the credentials fill: only one of the two could be sent."""
    sealed = () if server.credentials is None else server.credentials.headers
    known = {name.lower() for name in sealed}
    given = server.options.get("headers")
    for name in given if isinstance(given, dict) else ():
        if name.lower() in known:
            field = f"options.headers.{name}"
            raise InvalidError(f"{field}: the credentials have a header of this name", field=field)


def _check_id(server_id: str) -> None:
    check_json(server_id, "id")
    if ID.fullmatch(server_id) is None:
        raise InvalidError(f"id: expected one that matches {ID_PATTERN}", field="id")


def _taken(server_id: str) -> ConflictError:
    return ConflictError(f"there is a server {server_id} already; PUT replaces it", code="server_exists")
