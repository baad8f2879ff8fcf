"""Leases of jobs, and the workers that hold them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from switchyard.services.settings.values import (
    GIB,
    KIB,
    LONGEST_S,
    MIB,
    MOST,
    Count,
    Name,
    Names,
    Seconds,
    Sections,
    Table,
)

Amount = Annotated[float, Field(gt=0, le=1e6)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Leases(Table):
    """Leases, and what becomes of a job whose lease is lost."""

    lease_s: Seconds = Field(
        default=30.0,
        description="Seconds of a held lease: ack wait, heartbeat expiry and lease are one setting",
    )
    cancel_grace_s: Seconds = Field(
        default=10.0, description="Seconds that a cancelled job has to stop before its lease is taken"
    )
    drain_grace_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = Field(
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

    @property
    def heartbeat_s(self) -> float:
        """Seconds between heartbeats and between renewals of a lease."""
        return self.lease_s / 3


class Claims(Table):
    """Timed leases, and claims over REST."""

    timed_lease_s: Seconds = Field(
        default=60.0, description="Seconds of a timed lease where the claim does not say"
    )
    timed_lease_max_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = Field(
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


class Worker(Table):
    """A worker on NATS and the processes of its handlers."""

    worker_name: Name | None = Field(
        default=None, description="What a worker's id begins with; the host's name without"
    )
    worker_kinds: Names = Field(
        default=(),
        description="Kinds that `switchyard worker` runs, by commas, each as `--kinds` has it; without, those of the "
        "connectors' tables, or all",
    )
    worker_type: Text | None = Field(
        default=None, description="What a worker declares as worker.type, for jobs that require one"
    )
    slots: Count = Field(default=4, description="Jobs that a worker runs at once")
    tenants: Names = Field(default=(), description="Tenants that a worker serves, by commas; all without")
    exclude_tenants: Names = Field(default=(), description="Tenants that a worker never serves, by commas")
    exit_when_idle_s: Annotated[float, Field(ge=0, le=LONGEST_S)] | None = Field(
        default=None, description="Seconds without a job after which `switchyard worker` ends; never without"
    )
    hardware: bool = Field(
        default=True,
        description="Whether `switchyard worker` looks for GPUs, processor cores and memory itself",
    )
    hardware_s: Seconds = Field(default=60.0, description="Seconds between two such looks")
    gpu_count: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        default=None,
        description="GPUs that a worker declares as gpu.count, in place of what it finds; 0 for none",
    )
    gpu_memory_gb: Amount | None = Field(
        default=None, description="GiB of each GPU that a worker declares as gpu.memory_gb"
    )
    gpu_model: Text | None = Field(default=None, description="Name that a worker declares as gpu.model")
    cpu_cores: Amount | None = Field(default=None, description="Cores that a worker declares as cpu.cores")
    ram_gb: Amount | None = Field(default=None, description="GiB that a worker declares as ram.total_gb")
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
    handler_idle_processes: Annotated[int, Field(ge=0, le=MOST)] = Field(
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
    job_log_bytes: Count = Field(
        default=16 * MIB,
        description="Bytes of the log lines of one attempt that are kept; the others are only counted",
    )
    log_buffer_bytes: Count = Field(
        default=64 * MIB, description="Bytes of log lines that a worker holds until the broker has them"
    )


class Connectors(Table):
    """Connectors by id, each with a table of its own."""

    connectors: Sections = Field(
        default={}, repr=False, description="Connectors by id, in the environment as JSON: docs/connectors.md"
    )
