"""What a gateway takes and answers."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from switchyard.events.subjects import NAME
from switchyard.services.settings.origins import Origins, PublicUrl
from switchyard.services.settings.values import (
    KIB,
    LONGEST_S,
    MIB,
    MOST,
    Count,
    NameByText,
    Networks,
    Paths,
    Seconds,
    Table,
    listed,
)


class Gateway(Table):
    """Where a gateway listens, and its connections."""

    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port of the gateway; 0 takes a free one"
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="URL under which prediction servers reach the gateways, for their callbacks; `http://HOST:PORT` of "
        "the gateway where it is not set",
    )
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
    request_log: bool = Field(
        default=True,
        description="Whether every request is logged when it is answered: method, route, status, milliseconds and tenant",
    )
    monitor: bool = Field(default=True, description="Whether browsers get the monitor page at /")
    answer_s: Seconds = Field(
        default=10.0,
        description="Longest time that a request may take beside what it asks to wait, before it is answered 503",
    )


class Access(Table):
    """Who may call."""

    cors_origins: Origins = Field(
        default=(),
        description="Origins, separated by commas, whose pages may call the API from a browser, such as https://app.example.com",
    )
    api_keys: Count = Field(default=1000, description="API keys that a tenant may have")
    short_keys: bool = Field(
        default=False,
        description="Whether API keys of other systems with fewer than 16 characters are taken, which can be guessed",
    )
    jwt_public_keys: Paths = Field(
        default=(),
        description="PEM files of outside signers of tokens, separated by commas: RSA, P-256, Ed25519",
    )
    jwt_issuer: str | None = Field(default=None, description="The iss that every token must have")
    jwt_audience: str | None = Field(default=None, description="The aud that every token must have")
    token_cache: Count = Field(default=4096, description="Checked tokens that a gateway remembers")
    token_ttl_s: Seconds = Field(
        default=30 * 86400.0, description="Lifetime of the admin token that `switchyard up` makes, in seconds"
    )


class Reading(Table):
    """Lists, histories and readiness."""

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


class DeadLetters(Table):
    """Many dead letters in one call."""

    dead_letters_at_once: Count = Field(
        default=1000, description="Most dead letters that one call redrives or discards"
    )
    dead_letters_in_flight: Count = Field(
        default=128, description="How many of those are being appended at the same time"
    )


class Live(Table):
    """Live updates."""

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


class Octopoid(Table):
    """Octopoid's API."""

    octopoid_open: bool = Field(
        default=False,
        description="Whether anybody who reaches the gateway may register a scope at Octopoid's API, with whose key "
        "he submits jobs and stores files; else it takes a token of role registrar or admin",
    )
    octopoid_admin_key: pydantic.SecretStr | None = Field(
        default=None,
        description="Key that acts for every scope at Octopoid's API, of at least 16 characters; the variable "
        "`API_SECRET_KEY` sets it too",
    )
    octopoid_scopes: Annotated[int, Field(ge=0, le=MOST)] = Field(
        default=1000, description="Scopes that may be registered at Octopoid's API"
    )
    octopoid_lease_max_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = Field(
        default=86400.0, description="Longest lease at Octopoid's API, in seconds"
    )
    octopoid_documents: Count = Field(
        default=10000,
        description="Projects, drafts, actions and the like that a scope may have, each; tasks that have not ended "
        "are bounded as jobs are",
    )
    octopoid_messages: Count = Field(
        default=100_000,
        description="Messages that a scope may have; the oldest of tasks that have ended make room",
    )
    octopoid_keep_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = Field(
        default=30 * 86400.0,
        description="Seconds for which a scope that is full keeps messages, actions, drafts and projects that have ended",
    )
    octopoid_bytes: Count = Field(
        default=128 * MIB, description="Bytes of all that a scope keeps beside the state of its jobs"
    )


class Tasks(Table):
    """The task door: the API of the Cloudflare task system."""

    task_tenant: str = Field(
        default="tasks",
        pattern=rf"^{NAME.pattern}$",
        description="Tenant whose tasks users of the task door see that come with a token of JWT_SECRET",
    )
    task_kind: str = Field(
        default="task",
        pattern=rf"^{NAME.pattern}$",
        description="Kind of the jobs that the task door's tasks are",
    )
    task_jwt_secret: pydantic.SecretStr | None = Field(
        default=None,
        description="Secret of HS256 whose tokens count at the task door alone; the variable `JWT_SECRET` sets it too",
    )
    task_endless_tokens: bool = Field(
        default=False, description="Whether such tokens count that say no time at which they end"
    )


class Compat(Table):
    """The doors for clients of Replicate, RunPod, OpenAI and Mistral."""

    compat_kinds: NameByText = Field(
        default={},
        description="Kinds for models, versions and endpoints whose names are none of kinds: `acme/flux-1.1=images,4xk2=convert`, "
        "and for those that OpenAI's and Mistral's clients ask for: `gpt-4.1=gpt-chat,/v1/ocr=convert`; "
        "in a file a table",
    )


EmpRole = Literal["viewer", "submitter", "worker", "tenant-admin"]


class Emp(Table):
    """The emp-redis door: its WebSockets and its REST paths."""

    emp_tenant: str = Field(
        default="emp",
        pattern=rf"^{NAME.pattern}$",
        description="Tenant of whoever comes to the emp-redis door with its token, or with none where that is open",
    )
    emp_roles: Annotated[tuple[EmpRole, ...], pydantic.BeforeValidator(listed)] = Field(
        default=("submitter", "worker"),
        description="What such a caller may do, separated by commas: viewer, submitter, worker, tenant-admin",
    )
    emp_token: pydantic.SecretStr | None = Field(
        default=None,
        description="Token of at least 16 characters that counts at the emp-redis door alone; the variables "
        "`WEBSOCKET_AUTH_TOKEN` and `WS_AUTH_TOKEN` set it too",
    )
    emp_open: bool = Field(
        default=False,
        description="Whether callers without a token are let in at the emp-redis door, as there without a token set",
    )
    emp_host: str | None = Field(
        default=None,
        description="Address of a second listener for the emp-redis door alone; that of the gateway where it is not "
        "set. The variable `HUB_HOST` sets it too",
    )
    emp_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="Port of that listener, which there is only if this is set; 0 takes a free one. The variables "
        "`WS_PORT` and `HUB_PORT` set it too",
    )
    emp_priority: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="Priority of the emp-redis door's jobs that name none; 0 for the Python generation and 50 for the "
        "other where it is not set. The variable `DEFAULT_JOB_PRIORITY` sets it too",
    )
    emp_timeout_minutes: Annotated[float, Field(gt=0, le=525600)] | None = Field(
        default=None,
        description="Minutes that an attempt of the emp-redis door's jobs may take; no limit of its own where it is not "
        "set. The variable `MAX_JOB_TIMEOUT_MINUTES` sets it too",
    )
    emp_lease_s: Seconds = Field(
        default=60.0,
        description="Shortest lease of the emp-redis door's workers, in seconds; three of a worker's heartbeats where "
        "that is longer",
    )
    emp_message_bytes: Count = Field(
        default=64 * MIB,
        description="Largest message that comes in chunks at the emp-redis door, in bytes; of clients the largest is that "
        "of a request",
    )
    emp_chunks_bytes: Count = Field(
        default=256 * MIB,
        description="Bytes of chunks that a gateway holds while their messages are not whole",
    )
    emp_snapshot_s: Seconds = Field(
        default=1.0,
        description="Shortest time between two snapshots for the emp-redis door's monitors, in seconds",
    )


class Ilios(Table):
    """The document door: the API of Ilios."""

    ilios: bool = Field(
        default=False,
        description="Whether the document door is open, and the variables of Ilios mean something: `docs/ilios.md`",
    )
    ilios_tenant: str = Field(
        default="ilios",
        pattern=rf"^{NAME.pattern}$",
        description="Tenant of the keys that `ilios_keys` makes, and of whoever comes to the open document door with none",
    )
    ilios_keys: pydantic.SecretStr | None = Field(
        default=None,
        description="Keys of an Ilios, separated by commas, that become API keys of `ilios_tenant` when a gateway starts; "
        "the variable `API_KEY` sets it too",
    )
    ilios_open: bool = Field(
        default=False,
        description="Whether callers without a key are let in at the document door, as there without a key set",
    )
    ilios_own_only: bool = Field(
        default=False,
        description="Whether an API key sees at the document door what came by it alone, and not all of its tenant's",
    )
    ilios_wait_s: Seconds = Field(
        default=300.0,
        description="Seconds for which `POST /v1/convert` waits for its document; then it answers 202 with the job",
    )
    ilios_stored_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = Field(
        default=86400.0,
        description="Seconds for which `POST /v1/convert` answers the same bytes and options with the stored result, "
        "which is not billed again; 0 for never",
    )
    ilios_retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=365,
        description="Days for which a document is kept whose request does not say; then it is erased",
    )
