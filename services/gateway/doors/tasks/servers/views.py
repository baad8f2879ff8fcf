"""A prediction server as clients of the task door know it: each generation reads the fields that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.tasks import views
from switchyard.services.gateway.doors.tasks.answers import Answer
from switchyard.services.gateway.doors.tasks.servers import forms
from switchyard.services.gateway.operations.servers.servers import PredictionServers
from switchyard.services.records.servers.record import Server
from switchyard.services.records.servers.store import Found

STATUSES: Final = {"online": "online", "shaky": "degraded"}
WELL: Final = frozenset({"online", "degraded"})


class Registered(Answer, frozen=True, kw_only=True):
    """That a server of the first generation was registered, or removed."""

    id: str
    success: bool


class Taken(Answer, frozen=True, kw_only=True, rename="camel"):
    """That a server of the second generation was registered."""

    server_id: str
    message: str


class Beaten(Answer, frozen=True, kw_only=True, rename="camel"):
    """That a server lives, as both generations read it."""

    id: str
    success: bool
    message: str
    last_heartbeat: str


class Gone(Answer, frozen=True, kw_only=True):
    """That a server was removed, as both generations read it."""

    id: str
    success: bool
    message: str


class Cleaned(Answer, frozen=True, kw_only=True, rename="camel"):
    """Which servers a cleanup removed."""

    success: bool
    removed_servers: Sequence[str]


class EndpointsView(Answer, frozen=True, kw_only=True):
    """Where a server is called."""

    predict: str
    health: str | UnsetType = UNSET
    metrics: str | UnsetType = UNSET


class Config(Answer, frozen=True, kw_only=True, rename="camel"):
    """A server as the second generation registers it; its key is never shown."""

    id: str
    name: str
    endpoints: EndpointsView
    is_async: bool = msgspec.field(name="async")
    max_concurrent: int
    capabilities: Sequence[str]
    groups: Sequence[str]
    priority: float


class ServerView(Answer, frozen=True, kw_only=True, rename="camel"):
    """A server with what both generations know of one.

    `lastHeartbeat` is a text for the first and milliseconds for the second, by how it was registered.
    """

    id: str
    name: str
    provider: str
    endpoints: EndpointsView
    is_async: bool = msgspec.field(name="async")
    callback: bool
    last_heartbeat: str | int
    status: str
    instance_id: str
    config: Config
    registered_at: int
    groups: Sequence[str]
    priority: float
    uptime: int
    time_since_last_heartbeat: int


class Listed(Answer, frozen=True, kw_only=True):
    """All servers of the tenant."""

    servers: Sequence[ServerView]


class Metrics(Answer, frozen=True, kw_only=True, rename="camel"):
    """What a server made of its tasks since midnight, by UTC, and how it is; times are milliseconds."""

    tasks_processed: int
    success_count: int
    failure_count: int
    success_rate: float
    average_response_time: float
    total_duration: int
    active_tasks: int
    health_score: int
    status: str
    healthy: bool
    capabilities: Sequence[str]
    max_capacity: int


class Balance(Answer, frozen=True, kw_only=True, rename="camel"):
    """How tasks are spread, and how many each server has."""

    algorithm: str
    healthy_servers: int
    server_loads: dict[str, int]


def is_second(server: Server) -> bool:
    """Whether a server was registered as one of the second generation."""
    return server.labels.get(views.GENERATION) == views.SECOND


def status_of(found: Found, servers: PredictionServers, now: datetime) -> str:
    """The second generation's word for how a server is; a new one is offline until it was seen."""
    if found.server.maintenance:
        return "maintenance"
    return STATUSES.get(servers.shown(found, now), "offline") if found.server.enabled else "offline"


def seen_at(found: Found) -> datetime:
    """When a server last showed that it lives, or was registered."""
    beaten = None if found.state is None else found.state.heartbeat_at
    return beaten or found.server.created_at


def groups_of(server: Server) -> list[str]:
    """The groups that a server was registered in."""
    return [label.removeprefix(forms.GROUP) for label in server.labels if label.startswith(forms.GROUP)]


def server_view(found: Found, servers: PredictionServers, now: datetime, *, one: bool = False) -> ServerView:
    """A server as it is now.

    Args:
        found: it.
        servers: judges how it is.
        now: the time.
        one: whether it is shown alone, where the first generation knows online and offline and no other.
    """
    server, is_of_second = found.server, is_second(found.server)
    status, at = status_of(found, servers, now), seen_at(found)
    if one and not is_of_second:
        status = "online" if status in WELL else "offline"
    endpoints = EndpointsView(
        predict=server.endpoints.predict, health=server.endpoints.health or UNSET,
        metrics=server.labels.get(forms.METRICS, UNSET),
    )  # fmt: skip
    calls_back = server.options.get("calls_back") is not False
    config = Config(
        id=server.id, name=server.name, endpoints=endpoints, is_async=calls_back,
        max_concurrent=server.slots, capabilities=forms.names_of(server.capabilities),
        groups=groups_of(server), priority=_number(server.labels.get(forms.PRIORITY)),
    )  # fmt: skip
    return ServerView(
        id=server.id, name=server.name, provider=server.labels.get(forms.PROVIDER, ""), endpoints=endpoints,
        is_async=config.is_async, callback=_flag(server, forms.CALLBACK),
        last_heartbeat=views.milliseconds(at) if is_of_second else iso(at), status=status,
        instance_id=server.generation, config=config, registered_at=views.milliseconds(server.created_at),
        groups=config.groups, priority=config.priority,
        uptime=_elapsed(now, server.created_at), time_since_last_heartbeat=_elapsed(now, at),
    )  # fmt: skip


def score_of(found: Found) -> int:
    """How many of a hundred of a server's last checks passed."""
    recent = () if found.state is None else found.state.recent
    return round(100 * sum(check.passed for check in recent) / len(recent)) if recent else 100


def iso(at: datetime) -> str:
    """A time as the first generation has it: UTC with milliseconds and a Z."""
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _elapsed(now: datetime, since: datetime) -> int:
    return max(0, views.milliseconds(now) - views.milliseconds(since))


def _flag(server: Server, label: str) -> bool:
    """What was registered; servers that another door registered do as those of the second generation do."""
    return server.labels.get(label, "true") == "true"


def _number(text: Any) -> float:
    """A priority as it was registered; a label may be anybody's."""
    try:
        return min(10.0, max(0.0, float(text)))
    except (TypeError, ValueError):
        return 1.0
