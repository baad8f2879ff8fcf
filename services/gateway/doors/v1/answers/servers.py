"""Answers about prediction servers; nothing of their credentials, and nothing that they said themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.operations.servers.servers import PredictionServers
from switchyard.services.records.servers.condition import MEANINGS, Check, held_now
from switchyard.services.records.servers.store import Found


class EndpointsAnswer(Answer, frozen=True, kw_only=True):
    """Where a server is called."""

    predict: str
    health: str | None
    cancel: str | None


class CredentialsAnswer(Answer, frozen=True, kw_only=True):
    """That requests carry credentials, in which headers, and whether this gateway's keys open them."""

    headers: Sequence[str]
    readable: bool


class CheckAnswer(Answer, frozen=True, kw_only=True):
    """What one check came to."""

    at: datetime
    outcome: str
    message: str
    status: int | None
    latency_s: float
    push: bool


class ServerAnswer(Answer, frozen=True, kw_only=True):
    """A prediction server; `recent` and `running` are left out in lists and after writes.

    `found_capabilities` are those that its checks found; those that are declared go before them.
    `held_for` says why pushers give it nothing though it is well: `resting` or `breaker_open`.
    """

    id: str
    tenant: str
    name: str
    endpoints: EndpointsAnswer
    profile: str
    options: Mapping[str, Any]
    kinds: Sequence[str]
    capabilities: Mapping[str, Any]
    found_capabilities: Mapping[str, Any]
    slots: int
    labels: Mapping[str, str]
    weight: int
    credentials: CredentialsAnswer | None
    enabled: bool
    maintenance: bool
    state: str
    since: datetime | None
    stale: bool
    takes_jobs: bool
    heartbeat_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None
    latency_s: float | None
    failures: int
    last_failure: CheckAnswer | None
    recent: Sequence[CheckAnswer] | UnsetType = UNSET
    running: int | UnsetType | None = UNSET
    held_for: str | None
    held_until: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    revision: int


class ServerPage(Answer, frozen=True, kw_only=True):
    """Servers by tenant and id."""

    servers: Sequence[ServerAnswer]
    cursor: str | None


class RemovedServer(Answer, frozen=True, kw_only=True):
    """A server that was removed, or would be."""

    tenant: str
    id: str


class CleanupAnswer(Answer, frozen=True, kw_only=True):
    """What a cleanup removed."""

    removed: Sequence[RemovedServer]
    dry_run: bool


def server_answer(
    found: Found,
    servers: PredictionServers,
    now: datetime,
    *,
    listed: bool = False,
    running: int | UnsetType | None = UNSET,
) -> ServerAnswer:
    """A server as it is now."""
    server, state = found.server, found.state
    recent = () if state is None else state.recent
    why, until = held_now(state, now) or (None, None)
    failures = [check for check in recent if not check.passed]
    credentials = None
    if server.credentials is not None:
        credentials = CredentialsAnswer(
            headers=server.credentials.headers, readable=servers.credentials.are_readable(server)
        )
    is_checked = state is not None and server.enabled and server.endpoints.health is not None
    return ServerAnswer(
        id=server.id,
        tenant=server.tenant,
        name=server.name,
        endpoints=EndpointsAnswer(
            predict=server.endpoints.predict, health=server.endpoints.health, cancel=server.endpoints.cancel
        ),
        profile=server.profile,
        options=server.options,
        kinds=server.kinds,
        capabilities=server.capabilities,
        found_capabilities={} if state is None else state.abilities,
        slots=server.slots,
        labels=server.labels,
        weight=server.weight,
        credentials=credentials,
        enabled=server.enabled,
        maintenance=server.maintenance,
        state=servers.shown(found, now),
        since=None if state is None else state.since,
        stale=servers.is_stale(found, now),
        takes_jobs=servers.takes_jobs(found, now),
        heartbeat_at=None if state is None else state.heartbeat_at,
        checked_at=None if state is None else state.checked_at,
        next_check_at=state.due_at if state is not None and is_checked else None,
        latency_s=None if state is None else state.latency_s,
        failures=0 if state is None else state.failures,
        last_failure=_check(failures[0]) if failures else None,
        recent=UNSET if listed else [_check(check) for check in recent],
        running=running,
        held_for=why,
        held_until=until,
        created_at=server.created_at,
        created_by=server.created_by,
        updated_at=server.updated_at,
        revision=found.revision,
    )


def _check(check: Check) -> CheckAnswer:
    return CheckAnswer(
        at=check.at, outcome=check.outcome.value, message=MEANINGS[check.outcome], status=check.status,
        latency_s=check.latency_s, push=check.push,
    )  # fmt: skip
