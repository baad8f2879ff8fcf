"""What runs jobs: servers that jobs are pushed to, workers, and the queues that they serve."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import field

from switchyard.models import Model

Item = TypeVar("Item")


class ServerCheck(Model, frozen=True):
    """What one check of a prediction server came to."""

    at: datetime
    outcome: str
    message: str = ""
    status: int | None = None
    latency_s: float = 0.0
    push: bool = False


class Server(Model, frozen=True):
    """A prediction server, and how it fares.

    Args:
        endpoints: `{"predict", "health", "cancel"}`.
        credentials: `{"headers", "readable"}`, never the values; None where requests carry none.
        state: `new`, `online`, `shaky`, `offline` or `stale`.
        takes_jobs: whether jobs may be pushed to it now.
        recent: its last checks, the newest first; none in lists.
        options: what its profile lets its owner choose.
        found_capabilities: those that its checks found.
        running: how many of its slots are taken, where that was asked for.
        held_for: why it is given nothing though it is well: `resting` or `breaker_open`.
        revision: what a conditional write names.
    """

    id: str
    tenant: str
    name: str
    endpoints: dict[str, str | None]
    profile: str
    kinds: list[str]
    state: str
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: str = ""
    capabilities: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    found_capabilities: dict[str, Any] = field(default_factory=dict)
    slots: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    weight: int = 1
    credentials: dict[str, Any] | None = None
    enabled: bool = True
    maintenance: bool = False
    since: datetime | None = None
    stale: bool = False
    takes_jobs: bool = False
    heartbeat_at: datetime | None = None
    checked_at: datetime | None = None
    next_check_at: datetime | None = None
    latency_s: float | None = None
    failures: int = 0
    last_failure: ServerCheck | None = None
    recent: list[ServerCheck] = field(default_factory=list)
    running: int | None = None
    held_for: str | None = None
    held_until: datetime | None = None


class ModelFile(Model, frozen=True):
    """A model file of the catalogue, which workers may fetch.

    Args:
        vram_mib: memory that the GPU has to have; 0 for any.
        url: where it is fetched; this and the next three are shown to admins alone.
        tenants: for whose jobs it is fetched; none for all.
        credentials: the names of the headers that are sent there, never their values.
    """

    folder: str
    name: str
    sha256: str
    size_bytes: int
    revision: int
    created_at: datetime
    updated_at: datetime
    vram_mib: int = 0
    url: str | None = None
    tenants: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    created_by: str = ""


class ModelFetch(Model, frozen=True):
    """A model file on its way to a worker; `left_s` is None until its pace is known."""

    model: str
    worker: str
    connector: str
    done_bytes: int
    size_bytes: int
    left_s: float | None = None


class WorkerConnector(Model, frozen=True):
    """A connector of a worker: `running` and `capabilities` are None where it is watched."""

    id: str
    kind: str
    slots: int
    running: int | None = None
    capabilities: dict[str, Any] | None = None


class Worker(Model, frozen=True):
    """A live worker.

    Args:
        revision: raised whenever it declares other capabilities.
        state: `running`, `paused`, `draining` or `unregistered`.
        running: its leases; the next four count its attempts, as the log has them.
        tenants: the only ones that it serves, as far as you may know of them; none for all.
        exclude_tenants: those that it never serves, likewise.
        connectors: all of them; none over REST.
        fetching: model files on their way to it.
        door: `rest` for one that claims over REST.
    """

    id: str
    kinds: list[str]
    state: str
    slots: int
    running: int
    revision: int = 0
    version: str = ""
    host: str = ""
    lease_s: float = 0.0
    started_at: datetime | None = None
    tenant: str | None = None
    tenants: list[str] = field(default_factory=list)
    exclude_tenants: list[str] = field(default_factory=list)
    connectors: list[WorkerConnector] = field(default_factory=list)
    fetching: list[ModelFetch] = field(default_factory=list)
    door: str = ""
    lost_slots: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    lost: int = 0


class Queue(Model, frozen=True):
    """What has not ended in a lane at a priority, and who could serve it; `id` is `<lane>:<priority>`."""

    id: str
    kind: str
    lane: str
    priority: int
    waiting: int = 0
    running: int = 0
    scheduled: int = 0
    blocked: int = 0
    retrying: int = 0
    review: int = 0
    cancelling: int = 0
    oldest_waiting_at: datetime | None = None
    requires: dict[str, Any] = field(default_factory=dict)
    prefers: dict[str, Any] = field(default_factory=dict)
    isolation: str = "none"
    limits: list[str] = field(default_factory=list)
    fitting_workers: int = 0
    fitting_slots: int = 0
    free_slots: int = 0


class Watched(Model, Generic[Item], frozen=True):
    """A state that is watched, and what has changed since the one before it, by id."""

    items: dict[str, Item]
    added: list[str]
    changed: list[str]
    removed: list[str]
