"""What jobs, schedules and files may be, and what one tenant may have of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from switchyard.services.settings.values import GIB, KIB, LONGEST_S, MIB, Count, Seconds, Table


class Submission(Table):
    """What is submitted."""

    payload_bytes: Count = Field(default=512 * KIB, description="Largest inline payload as JSON, in bytes")
    body_bytes: Count = Field(default=1 * MIB, description="Largest JSON request body, in bytes")
    labels: Count = Field(default=32, description="Most labels of one job")
    label_value_chars: Count = Field(default=256, description="Longest value of a label")
    dependencies: Count = Field(default=100, description="Most jobs that one job waits for")
    references: Count = Field(default=100, description="Most references to results in one payload")
    bulk_in_flight: Count = Field(
        default=512, description="Lines of a bulk submission appended but not yet answered"
    )
    bulk_line_bytes: Count = Field(
        default=640 * KIB, description="Longest line of a bulk submission, in bytes"
    )
    bulk_idle_s: Seconds = Field(
        default=60.0, description="Seconds that a bulk submission may send or take nothing"
    )
    wait_s: Seconds = Field(default=300.0, description="Longest ?wait= in seconds")


class Lanes(Table):
    """Queues of jobs, and what holds for kinds."""

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
    isolation_wait_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = Field(
        default=30.0,
        description="Seconds that a loosely isolated job waits for its tenant's own workers alone",
    )
    kinds: Count = Field(default=1000, description="Kinds that may have defaults of their own")
    kind_weights: Count = Field(default=1000, description="Most tenants with a weight in one kind")


class Tenants(Table):
    """What one tenant's jobs may take of what all share."""

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
        description="Bytes of a tenant's log lines that a gateway or a worker passes on at once, and in a day, or in the "
        "time for which they are kept if that is longer",
    )


class Schedules(Table):
    """Jobs that are made again and again."""

    schedules: Count = Field(default=1000, description="Schedules that a tenant may have")
    schedule_bytes: Count = Field(
        default=64 * MIB, description="Bytes of a tenant's schedules with their jobs"
    )
    schedule_interval_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = Field(
        default=1.0, description="Shortest time between two ticks of a schedule, in seconds"
    )
    schedule_late_s: Seconds = Field(
        default=60.0, description="Seconds by which a tick may be late and does not count as missed"
    )
    schedule_catch_up: Count = Field(
        default=100, description="Most ticks of a schedule that are caught up with at once"
    )
    schedule_next: Count = Field(default=100, description="Most coming ticks that a request may ask for")


class Workflows(Table):
    """Templates of payloads."""

    workflows: Count = Field(default=1000, description="Workflows that a tenant may have")
    workflow_versions: Count = Field(
        default=10_000, description="Versions of workflows that a tenant may have, of all together"
    )
    workflow_bytes: Count = Field(
        default=64 * MIB, description="Bytes of a tenant's workflows in all their versions"
    )
    workflow_cache_bytes: Count = Field(
        default=32 * MIB, description="Bytes of workflows that a process keeps in memory"
    )
    workflow_jobs: Count = Field(
        default=100, description="Most jobs that one submission may make of a workflow"
    )


class Batches(Table):
    """Many jobs from the lines of one file."""

    batches: Count = Field(default=1000, description="Batches that a tenant may have, ended ones among them")
    batch_lines: Count = Field(default=50_000, description="Most lines of a batch")
    batch_bytes: Count = Field(default=200 * MIB, description="Largest input file of a batch, in bytes")
    batch_window: Count = Field(
        default=500, description="Jobs of a batch that have not ended at once, where the batch does not say"
    )
    batch_window_max: Count = Field(default=5000, description="Most that a batch may say")
    batch_deadline_s: Seconds = Field(
        default=86400.0, description="Seconds that a batch may take where it does not say"
    )
    batch_keep_s: Seconds = Field(
        default=30 * 86400.0, description="Seconds that a batch that has ended is kept, with its outputs"
    )
    batches_at_once: Count = Field(default=256, description="Batches that one keeper carries on at once")


class Files(Table):
    """Files and results."""

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
    uploads: Count = Field(
        default=256, description="Resumable uploads that a tenant may have that have not ended"
    )
    uploads_ttl_s: Seconds = Field(
        default=86400.0, description="Seconds after which a resumable upload that has not ended is removed"
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
    erasures: Count = Field(
        default=200_000,
        description="Certificates of erasures that a tenant may have; no job more that can be erased is taken in",
    )
    inline_result_bytes: Count = Field(
        default=64 * KIB, description="Largest result kept in the event; a larger one becomes an artifact"
    )
