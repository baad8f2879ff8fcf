"""Every setting and limit, with its default and unit.

A setting is read from the environment as `SWITCHYARD_<NAME>`; command-line options override it.
`docs/settings.md` is generated from this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import pydantic
from pydantic import Field

from switchyard.services.origins import Origins
from switchyard.services.stream_sizes import StreamSizes

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SKEW_S = 1.0  # by which a clock may be off before anybody is warned

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
_split = pydantic.BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)
Paths = Annotated[tuple[Path, ...], _split]
_parse = pydantic.BeforeValidator(lambda value: orjson.loads(value) if isinstance(value, str) else value)
Sections = Annotated[dict[str, dict[str, Any]], _parse]
Networks = Annotated[tuple[pydantic.IPvAnyNetwork, ...], _split]


class Settings(StreamSizes):
    """All settings of all processes; each process reads those that concern it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    # Where things are
    data_dir: Path = Field(
        default=Path(".switchyard"), description="Directory of the read model, secret, embedded broker"
    )
    nats_url: str | None = Field(default=None, description="Broker to use instead of the embedded one")
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(default=1, description="Replicas of every stream")
    sync_interval: str = Field(
        default="1s", description="How often the embedded broker syncs to disk, or always"
    )
    broker_file_bytes: Annotated[int, Field(gt=0, le=2**60)] = Field(
        default=1024 * GIB,
        description="Bytes that the embedded broker may reserve for streams; it takes the disk as they fill",
    )
    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port of the gateway; 0 takes a free one"
    )

    # Connections of a gateway
    connections: Count = Field(
        default=10_000,
        description="Connections at once; when they are all taken, the oldest without a valid token is closed",
    )
    address_connections: Count = Field(
        default=6000,
        description="Connections that one address (of IPv6, one /64) may have; at most three quarters of all",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Addresses or networks of proxies, separated by commas, whose X-Forwarded-For names the address",
    )
    headers_s: Seconds = Field(
        default=10.0,
        description="Seconds within which a request's headers must have come, and a first request",
    )
    body_s: Seconds = Field(
        default=60.0,
        description="Seconds within which a JSON body must have come; uploads are limited by the seconds without a byte",
    )

    # Who calls
    cors_origins: Origins = Field(
        default=(),
        description="Origins, separated by commas, whose pages may call the API from a browser, such as https://app.example.com",
    )
    api_keys: Count = Field(default=1000, description="API keys that a tenant may have")
    short_keys: bool = Field(
        default=False,
        description="Whether API keys of other systems with fewer than 16 characters are taken, which can be guessed",
    )

    # Leases
    lease_s: Seconds = Field(
        default=30.0,
        description="Seconds of a held lease: ack wait, heartbeat expiry and lease are one setting",
    )
    cancel_grace_s: Seconds = Field(
        default=10.0, description="Seconds that a cancelled job has to stop before its lease is taken"
    )
    drain_grace_s: Annotated[float, Field(ge=0)] = Field(
        default=5.0, description="Seconds that running jobs have after SIGTERM before they are released"
    )
    vigil: bool = Field(
        default=True,
        description="Whether a process of its own renews a worker's leases, so that no handler can block that",
    )
    worker_stall_s: Seconds = Field(
        default=60.0,
        description="Seconds that a worker's event loop may be blocked before its leases are given up",
    )
    attempt_timeout_s: Seconds = Field(
        default=3600.0, description="Seconds that an attempt may take where the job does not say"
    )

    lost_slots: Count = Field(
        default=1,
        description="Slots lost to code that does not end, at which a worker takes no more jobs and restarts",
    )
    poison_losses: Count = Field(
        default=2,
        description="Leases lost in a row after which a job that ran alone on its worker is dead as poison",
    )
    innocent_losses: Count = Field(
        default=10,
        description="Leases that a job may lose with workers that ran other jobs too, before it is dead",
    )

    # Timed leases, over REST
    timed_lease_s: Seconds = Field(
        default=60.0, description="Seconds of a timed lease where the claim does not say"
    )
    timed_lease_max_s: Annotated[float, Field(ge=1)] = Field(
        default=3600.0, description="Longest timed lease, and longest claim of a review, in seconds"
    )
    review_lease_s: Seconds = Field(
        default=900.0, description="Seconds of a review's claim where it does not say"
    )
    capabilities_bytes: Count = Field(
        default=32 * KIB, description="Largest capabilities of a claim as JSON, in bytes"
    )
    workers: Count = Field(
        default=500, description="Workers that a tenant may have at once that claim over REST"
    )
    tenant_capabilities_bytes: Count = Field(
        default=4 * MIB,
        description="Most bytes of declarations that the workers of a tenant which claim over REST may keep",
    )
    claimers: Count = Field(default=2000, description="Claims under way at once per gateway")
    tenant_claimers: Count = Field(
        default=1500,
        description="Claims under way at once that the workers of one tenant may have, per gateway",
    )
    log_lines: Count = Field(default=1000, description="Most log lines of one request")
    result_artifacts: Count = Field(default=100, description="Most artifacts that a result names")

    # Broker
    request_timeout_s: Seconds = Field(
        default=5.0, description="Seconds to wait for any answer of the broker"
    )
    answer_s: Seconds = Field(
        default=10.0,
        description="Longest time that a request may take beside what it asks to wait, before it is answered 503",
    )
    append_tries: Count = Field(
        default=8, description="How often a transition is decided again after a conflict"
    )
    publish_window: Count = Field(
        default=1024, description="Publishes in flight per process before callers wait"
    )

    # Submission
    payload_bytes: Count = Field(default=256 * KIB, description="Largest inline payload as JSON, in bytes")
    body_bytes: Count = Field(default=1 * MIB, description="Largest JSON request body, in bytes")
    labels: Count = Field(default=32, description="Most labels of one job")
    label_value_chars: Count = Field(default=256, description="Longest value of a label")
    dependencies: Count = Field(default=100, description="Most jobs that one job waits for")
    references: Count = Field(default=100, description="Most references to results in one payload")
    bulk_in_flight: Count = Field(
        default=512, description="Lines of a bulk submission appended but not yet answered"
    )
    bulk_line_bytes: Count = Field(
        default=512 * KIB, description="Longest line of a bulk submission, in bytes"
    )
    bulk_idle_s: Seconds = Field(
        default=60.0, description="Seconds that a bulk submission may send or take nothing"
    )
    wait_s: Seconds = Field(default=300.0, description="Longest ?wait= in seconds")
    priorities_per_lane: Count = Field(
        default=101, description="Distinct priorities in use at once in a lane"
    )
    lanes: Count = Field(
        default=8000, description="Lanes and priorities in use at once (one consumer each), of all tenants"
    )
    tenant_lanes: Count = Field(
        default=400,
        description="Lanes and priorities in use that one tenant may have opened; plain ones come beside",
    )
    lane_idle_s: Seconds = Field(
        default=3600.0, description="Seconds that a lane must have been empty before it is removed"
    )
    isolation_wait_s: Annotated[float, Field(ge=0)] = Field(
        default=30.0,
        description="Seconds that a loosely isolated job waits for its tenant's own workers alone",
    )
    kinds: Count = Field(default=1000, description="Kinds that may have defaults of their own")
    kind_weights: Count = Field(default=1000, description="Most tenants with a weight in one kind")
    # What one tenant's jobs may take of what all share
    tenant_jobs: Count = Field(default=200_000, description="Jobs of a tenant that have not ended")
    tenant_job_bytes: Count = Field(
        default=1 * GIB, description="Bytes of those jobs, as they were submitted"
    )
    tenant_waits: Count = Field(
        default=200_000,
        description="Jobs that a tenant's blocked jobs wait for, counted once for each that waits",
    )
    tenant_log_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.75,
        description="Part of the event log that a tenant's jobs may take until they are archived",
    )
    tenant_claims: Count = Field(
        default=50_000, description="Idempotency keys of a tenant's claims that are remembered at once"
    )
    tenant_log_lines_bytes: Count = Field(
        default=256 * MIB,
        description="Bytes of a tenant's log lines that a gateway or a worker passes on at once, and in a day",
    )
    # Schedules
    schedules: Count = Field(default=1000, description="Schedules that a tenant may have")
    schedule_bytes: Count = Field(
        default=64 * MIB, description="Bytes of a tenant's schedules with their jobs"
    )
    schedule_interval_s: Annotated[float, Field(ge=1)] = Field(
        default=1.0, description="Shortest time between two ticks of a schedule, in seconds"
    )
    schedule_late_s: Seconds = Field(
        default=60.0, description="Seconds by which a tick may be late and does not count as missed"
    )
    schedule_catch_up: Count = Field(
        default=100, description="Most ticks of a schedule that are caught up with at once"
    )
    schedule_next: Count = Field(default=100, description="Most coming ticks that a request may ask for")

    # Files
    file_bytes: Count = Field(default=1 * GIB, description="Largest file, in bytes")
    file_ttl_s: Seconds = Field(
        default=30 * 86400.0, description="Seconds that a file is kept where the upload does not say"
    )
    file_ttl_max_s: Seconds = Field(
        default=3650 * 86400.0, description="Longest time a file may be kept, in seconds"
    )
    upload_timeout_s: Seconds = Field(
        default=3600.0, description="Longest time that one upload may take, in seconds"
    )
    transfers: Count = Field(default=64, description="Uploads and downloads at once per gateway")
    tenant_transfers: Count = Field(
        default=48, description="Uploads and downloads at once that one tenant may have"
    )
    transfer_idle_s: Seconds = Field(
        default=60.0, description="Seconds without a byte after which an upload or download is broken off"
    )
    tenant_bytes: Count = Field(default=10 * GIB, description="Most bytes of files that a tenant may keep")
    tenant_files: Count = Field(default=100_000, description="Most files that a tenant may keep")
    inline_result_bytes: Count = Field(
        default=64 * KIB, description="Largest result kept in the event; a larger one becomes an artifact"
    )

    # Reading
    page_size: Count = Field(default=50, description="Items of a list page where the request does not say")
    page_size_max: Count = Field(default=500, description="Most items of a list page")
    history_events: Count = Field(default=10000, description="Most events of one job that are read at once")
    ready_lag_events: Count = Field(
        default=10000, description="Events that the read model may lag behind while /readyz says ready"
    )
    ready_stall_s: Seconds = Field(
        default=10.0,
        description="Seconds that the projector, keeper or live feed may make no progress with work ahead "
        "while /readyz says ready",
    )
    min_seq_wait_s: Seconds = Field(
        default=10.0, description="Longest wait for Switchyard-Min-Seq, in seconds"
    )

    dead_letters_at_once: Count = Field(
        default=1000, description="Most dead letters that one call redrives or discards"
    )
    dead_letters_in_flight: Count = Field(
        default=128, description="How many of those are being appended at the same time"
    )

    # Live updates
    sockets: Count = Field(default=5000, description="Live connections per gateway")
    socket_subscriptions: Count = Field(default=64, description="Subscriptions per live connection")
    socket_buffer: Count = Field(
        default=4096, description="Messages buffered for a slow reader before it is closed"
    )
    socket_buffer_bytes: Count = Field(
        default=4 * MIB, description="Bytes buffered for a slow reader before it is closed"
    )
    socket_message_bytes: Count = Field(
        default=64 * KIB, description="Largest message of a live connection's client, in bytes"
    )
    socket_messages_per_s: Count = Field(
        default=20,
        description="Messages a second that a live connection's client may send, after a burst of five times as many",
    )
    socket_ping_s: Seconds = Field(default=20.0, description="Seconds between pings of a live connection")
    progress_jobs: Count = Field(default=50000, description="Jobs whose latest progress a gateway remembers")

    # Worker
    slots: Count = Field(default=4, description="Jobs that a worker runs at once")
    connectors: Sections = Field(default={}, description="Connectors by id, as JSON: docs/connectors.md")
    worker_capabilities_bytes: Count = Field(
        default=256 * KIB, description="Largest capabilities of a worker on NATS as JSON, in bytes"
    )
    handler_memory_bytes: Count = Field(
        default=1 * GIB,
        description="Memory that a handler's child process and all it starts may take where the handler does not say; "
        "address space of a converter's",
    )
    handler_process_jobs: Count = Field(
        default=1000, description="Jobs that a handler's child process runs before it is replaced"
    )
    handler_idle_processes: Annotated[int, Field(ge=0)] = Field(
        default=4, description="Child processes of a kind that stay ready when no job needs them"
    )
    handler_idle_s: Seconds = Field(
        default=300.0, description="Seconds after which a child process without a job ends"
    )
    job_log_lines: Annotated[int, Field(gt=0, le=50_000)] = Field(
        default=10_000, description="Log lines of one attempt that are kept; the others are only counted"
    )
    job_log_lines_per_s: Count = Field(
        default=1000,
        description="Log lines of one attempt a second, after a burst of five times as many; the others are only counted",
    )
    log_buffer_bytes: Count = Field(
        default=64 * MIB, description="Bytes of log lines that a worker holds until the broker has them"
    )

    # Projector
    projector_batch: Count = Field(default=2000, description="Most events per transaction of the projector")
    projector_cache: Count = Field(
        default=50000, description="Folded jobs that the projector keeps in memory"
    )

    # Keeper
    sweep_s: Seconds = Field(default=60.0, description="Seconds between sweeps for what should not happen")
    source_lag_s: Seconds = Field(
        default=1.0, description="Seconds that the source of WORK may be stalled before its leader is nudged"
    )

    # Octopoid's API
    octopoid_open: bool = Field(
        default=False,
        description="Whether anybody who reaches the gateway may register a scope at Octopoid's API, with whose key "
        "he submits jobs and stores files; else it takes a token of role registrar or admin",
    )
    octopoid_scopes: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Scopes that may be registered at Octopoid's API"
    )
    octopoid_documents: Count = Field(
        default=10000, description="Tasks that a scope may have, and messages, projects and the like, each"
    )
    octopoid_bytes: Count = Field(
        default=128 * MIB, description="Bytes of all that a scope keeps beside the state of its jobs"
    )

    # Limits of access
    jwt_public_keys: Paths = Field(
        default=(),
        description="PEM files of outside signers of tokens, separated by commas: RSA, P-256, Ed25519",
    )
    jwt_issuer: str | None = Field(default=None, description="The iss that every token must have")
    jwt_audience: str | None = Field(default=None, description="The aud that every token must have")
    token_cache: Count = Field(default=4096, description="Checked tokens that a gateway remembers")
    metrics_public: bool = Field(default=False, description="Whether /metrics answers without a token")

    # What each part says of itself
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address of the listener for /metrics, /livez and /readyz of each process, which asks for no token",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="Port of that listener; 0 takes a free one; there is none where this is not set",
    )
    metrics_names: Count = Field(
        default=100,
        description="Kinds, and tenants, that labels of metrics name; others are counted as `other`",
    )
    live_stall_s: Seconds = Field(
        default=60.0,
        description="Seconds that a process's event loop may be stuck while /livez says that it lives",
    )
    token_ttl_s: Seconds = Field(
        default=30 * 86400.0, description="Lifetime of the admin token that `switchyard up` makes, in seconds"
    )

    @property
    def heartbeat_s(self) -> float:
        """Seconds between heartbeats and between renewals of a lease."""
        return self.lease_s / 3
