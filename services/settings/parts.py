"""What concerns all parts, and the servers beside the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr

from switchyard.services.settings.values import GIB, LONGEST_TTL_S, MIB, MOST, Count, Networks, Seconds, Table

DAY_S: Final = 86400.0


class General(Table):
    """What every part needs."""

    data_dir: Path = Field(
        default=Path(".switchyard"), description="Directory of the read model, secret, embedded broker"
    )


class Broker(Table):
    """The broker, and how a part speaks with it."""

    nats_url: str | None = Field(
        default=None, repr=False, description="Broker to use instead of the embedded one"
    )
    nats_credentials: Path | None = Field(
        default=None,
        description="File with the key that proves to that broker who connects: the seed of an NKey, as `switchyard "
        "nats-config` writes it, or the credentials of `nsc`; readable by its owner alone",
    )
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(default=1, description="Replicas of every stream")
    sync_interval: str = Field(
        default="1s", description="How often the embedded broker syncs to disk, or always"
    )
    broker_file_bytes: Annotated[int, Field(gt=0, le=MOST)] = Field(
        default=1024 * GIB,
        description="Bytes that the embedded broker may reserve for streams; it takes the disk as they fill",
    )
    broker_websocket: str | None = Field(
        default=None,
        description="Address and port, as 0.0.0.0:8443, at which the embedded broker takes WebSocket connections of "
        "workers too; one that is not loopback needs a certificate",
    )
    broker_websocket_cert: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain for those connections"
    )
    broker_websocket_key: Path | None = Field(default=None, description="PEM file with its key")
    broker_key: SecretStr | None = Field(
        default=None,
        description="Key, of at least 32 characters, with which the embedded broker encrypts its streams on the disk; "
        "what was stored before is encrypted at the next start",
    )
    broker_key_file: Path | None = Field(
        default=None, description="File with that key, readable by its owner alone"
    )
    request_timeout_s: Seconds = Field(
        default=5.0, description="Seconds to wait for any answer of the broker"
    )
    append_tries: Count = Field(
        default=8, description="How often a transition is decided again after a conflict"
    )
    publish_window: Count = Field(
        default=1024, description="Publishes in flight per process before callers wait"
    )


class Projector(Table):
    """The projector, which keeps the read model."""

    projector_batch: Count = Field(default=2000, description="Most events per transaction of the projector")
    projector_cache: Count = Field(
        default=50000, description="Folded jobs that the projector keeps in memory"
    )


class Keeper(Table):
    """Keepers: timers, lost workers, the sweep."""

    sweep_s: Seconds = Field(default=60.0, description="Seconds between sweeps for what should not happen")
    source_lag_s: Seconds = Field(
        default=1.0, description="Seconds that the source of WORK may be stalled before its leader is nudged"
    )


class Retention(Table):
    """How long jobs that have ended are kept."""

    keep_s: Seconds | None = Field(
        default=None,
        description="Seconds that a job is kept after its end before it is archived, where neither its kind nor its "
        "tenant says; where it is not set, 30 days in a data directory that a version with this setting has made, "
        "and for ever in an older one",
    )
    keep_dead_s: Seconds | None = Field(
        default=None,
        description="The same for dead jobs; where it is not set, three times as long as others",
    )
    archive_ttl_s: Annotated[float, Field(ge=1, le=LONGEST_TTL_S)] = Field(
        default=90 * 86400.0,
        description="Seconds that the summary of an archived job is kept, rounded up to whole ones; its id may be used "
        "again after that. All processes need the same",
    )
    log_keep_s: Annotated[float, Field(ge=0, le=LONGEST_TTL_S)] | None = Field(
        default=None,
        description="Seconds that log lines of jobs are kept, 0 for as long as their job is; a day where it is not set. "
        "The oldest of all jobs make room before, when the stream LOGS is full. All processes need the same",
    )
    archive_files: bool = Field(
        default=False,
        description="Whether a keeper that archives a job deletes its artifacts; they else stay for their own time",
    )
    archives_per_s: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=200, description="Most jobs that a keeper archives a second"
    )

    def stream_ages_s(self) -> dict[str, float]:
        """How old messages of streams may become, where that is set: by stream, 0 for any age."""
        return {} if self.log_keep_s is None else {"LOGS": self.log_keep_s}

    def log_share_s(self) -> float:
        """Within how many seconds a tenant may have as much in log lines as it may have at once."""
        kept_s = DAY_S if self.log_keep_s is None else self.log_keep_s or self.keep_s or 30 * DAY_S
        return max(DAY_S, kept_s)


class Servers(Table):
    """Prediction servers, to which jobs are pushed."""

    servers: Count = Field(default=5000, description="Prediction servers that a tenant may register")
    server_networks: Networks | None = Field(
        default=None,
        description="Networks of addresses that are not public, separated by commas, in which prediction servers may "
        "stand; where it is not set all private ones and loopback in `switchyard up`, and none elsewhere",
    )
    server_stale_s: Seconds = Field(
        default=300.0, description="Seconds without heartbeat after which a prediction server is stale"
    )
    pushes: Count = Field(default=2000, description="Jobs that a pusher has posted at once and waits for")
    push_connect_s: Seconds = Field(
        default=5.0,
        description="Seconds within which a prediction server has to accept a connection, before its job goes elsewhere",
    )
    push_answer_bytes: Count = Field(
        default=1 * MIB, description="Largest answer of a prediction server that is read, in bytes"
    )
    push_files_bytes: Count = Field(
        default=32 * MIB, description="Largest answer of a prediction server that holds images, in bytes"
    )
    push_fetch_s: Seconds = Field(
        default=120.0,
        description="Seconds within which the files have to have come that a prediction server's result names by URL",
    )


class Metrics(Table):
    """What each part says of itself."""

    metrics_public: bool = Field(default=False, description="Whether /metrics answers without a token")
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
