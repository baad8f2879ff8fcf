"""Every subject, stream, bucket and header name, but for those within buckets: their forms spell them.

An event whose subject names a lane and a priority puts its job into that lane: `WORK` sources
`job.*.*.*.*` as `work.<lane>.<priority>`.
"""

from __future__ import annotations

import base64
import functools
import re
from typing import Final

from switchyard.events.vocabulary.ids import JobId, LaneId

JOBS: Final = "JOBS"
WORK: Final = "WORK"
PROGRESS: Final = "PROGRESS"
LOGS: Final = "LOGS"
PREVIEWS: Final = "PREVIEWS"
TIMERS: Final = "TIMERS"
TOKENS: Final = "TOKENS"
QUARANTINE: Final = "QUARANTINE"
LEDGER: Final = "LEDGER"
BUCKET_WORKERS: Final = "workers"
BUCKET_CAPABILITIES: Final = "capabilities"
BUCKET_LANES: Final = "lanes"
BUCKET_LIMITS: Final = "limits"
BUCKET_KEYS: Final = "keys"
BUCKET_TICKETS: Final = "tickets"
BUCKET_CONTROLS: Final = "controls"
BUCKET_KINDS: Final = "kinds"
BUCKET_WAITS: Final = "waits"
BUCKET_SERVERS: Final = "servers"
BUCKET_SERVER_STATES: Final = "server_states"
BUCKET_MODELS: Final = "models"
BUCKET_MODEL_FETCHES: Final = "model_fetches"
BUCKET_SCHEDULES: Final = "schedules"
BUCKET_CLAIMS: Final = "claims"
BUCKET_OCTOPOID: Final = "octopoid"
SERVERS: Final = f"KV_{BUCKET_SERVERS}"
BUCKET_BACKENDS: Final = "backends"
BUCKET_WORKFLOWS: Final = "workflows"
BUCKET_BATCHES: Final = "batches"
BUCKET_BATCH_REFUSALS: Final = "batch_refusals"
BUCKET_PRICES: Final = "prices"
BUCKET_QUOTAS: Final = "quotas"
SCHEDULES: Final = f"KV_{BUCKET_SCHEDULES}"
BUCKET_FILE_KEYS: Final = "file_keys"
BUCKET_UPLOADS: Final = "uploads"
BUCKET_ERASURES: Final = "erasures"
STORE_FILES: Final = "files"
FILES: Final = f"OBJ_{STORE_FILES}"

KEEPER_EVENTS: Final = "keeper-events"
KEEPER_TIMERS: Final = "keeper-timers"
KEEPER_FINALS: Final = "keeper-finals"
KEEPER_SCHEDULES: Final = "keeper-schedules"
KEEPER_LEDGER: Final = "keeper-ledger"
KEEPER_PARTS: Final = "keeper-parts"

ALL_JOBS: Final = "job.>"
ALL_PROGRESS: Final = "progress.>"
ALL_CANCEL_REQUESTS: Final = "job.*.cancel_requested"
ALL_QUARANTINED: Final = "quarantine.>"
ALL_LINES: Final = "ledger.line.*"
LINES_A_BLOCK: Final = 4096
ALL_LANE_PAUSES: Final = f"$JS.EVENT.ADVISORY.CONSUMER.PAUSE.{WORK}.*"
ALL_TIMERS_SET: Final = "timer.set.>"
ALL_TIMERS_DUE: Final = "timer.due.>"
ALL_FILE_CHUNKS: Final = f"$O.{STORE_FILES}.C.>"
ALL_FILE_QUOTAS: Final = "quota.files.*"
ALL_FILE_ADDRESSES: Final = "address.files.*"
MODEL_REPORTS: Final = "models.report"
"""Where workers say to the gateways what they fetch, and are answered what to fetch next."""
ALL_FILE_METAS: Final = f"$O.{STORE_FILES}.M.>"

H_MSG_ID: Final = "Nats-Msg-Id"
H_EXPECTED_SEQ: Final = "Nats-Expected-Last-Subject-Sequence"
H_EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
H_SOURCE: Final = "Nats-Stream-Source"
H_SCHEDULE: Final = "Nats-Schedule"
H_SCHEDULE_TARGET: Final = "Nats-Schedule-Target"
H_TTL: Final = "Nats-TTL"
H_SIZE: Final = "Nats-Msg-Size"
H_ROLLUP: Final = "Nats-Rollup"
H_CHUNK: Final = "Switchyard-Chunk"
H_FILE: Final = "Switchyard-File"
H_TENANT: Final = "Switchyard-Tenant"
H_KIND: Final = "Switchyard-Kind"
H_ACTOR: Final = "Switchyard-Actor"
H_KEY: Final = "Switchyard-Key"
H_HOME: Final = "Switchyard-Actor-Tenant"
H_ANSWER: Final = "Switchyard-Answer"
H_TRACE: Final = "traceparent"

JOB_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
DEL: Final = "\x7f"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_NAME: Final = 63
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}\Z"


@functools.lru_cache(maxsize=16384)
def is_name(text: str) -> bool:
    """Whether it may stand for a kind, tenant or lane: in a subject, and in a header."""
    return len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


def job_filter(job_id: JobId) -> str:
    """All events of a job; the one filter string of every guarded write."""
    return f"job.{job_id}.>"


def job_of(subject: str) -> JobId | None:
    """The job that a message of the log is about; None when it is no event of a job at all.

    Anybody who may publish can put a message under `job.>`. One whose subject has a DEL character is in the
    stream, but neither the guard nor a read by subject knows of it (tried on nats-server 2.15.1).
    """
    tokens = subject.split(".", 3)
    is_job = len(tokens) > 2 and JOB_ID.fullmatch(tokens[1]) and DEL not in subject
    return JobId(tokens[1]) if is_job else None


def job_event(job_id: JobId, event: str) -> str:
    """An event that leaves its job outside the lanes."""
    return f"job.{job_id}.{event}"


def claimable_event(job_id: JobId, event: str, lane: LaneId, priority: int) -> str:
    """An event that puts its job into a lane."""
    return f"job.{job_id}.{event}.{lane}.{priority}"


def work(lane: LaneId, priority: int) -> str:
    """Where the jobs of a lane and priority wait."""
    return f"work.{lane}.{priority}"


def lane_consumer(lane: LaneId, priority: int) -> str:
    """The durable consumer of a lane and priority."""
    return f"{lane}_p{priority}"


def offer(worker: str, priority: int) -> str:
    """Where a worker on NATS hears of a job of a priority that another process has no use for."""
    return f"offer.{worker}.{priority}"


def offers_to(worker: str) -> str:
    """All that is offered to a worker."""
    return f"offer.{worker}.*"


def work_of(consumer: str) -> str:
    """Where the jobs that a lane's consumer gives out wait."""
    lane, _, priority = consumer.rpartition("_p")
    return work(LaneId(lane), int(priority))


def owner_of(entry: str) -> str:
    """Whose an entry of a bucket is: its tenant, with what stands between that and the last part."""
    return entry.split(".", 2)[2].rpartition(".")[0]


def quarantined(stream: str, seq: int) -> str:
    """Where the reference to a message that cannot be read stands."""
    return f"quarantine.{stream}.{seq}"


def all_quarantined(stream: str = "*") -> str:
    """The references to all such messages of a stream."""
    return f"quarantine.{stream}.*"


def parse_quarantined(subject: str) -> tuple[str, int]:
    """Stream and sequence of the message that a reference is to."""
    _, stream, seq = subject.split(".")
    return stream, int(seq)


def ledger(seq: int) -> str:
    """Where the lines of attempts stand whose end has a sequence of `JOBS`: with those of its block."""
    return f"ledger.line.{seq // LINES_A_BLOCK}"


def progress(job_id: str) -> str:
    """Where a job's progress is published."""
    return f"progress.{job_id}"


def preview(job_id: str) -> str:
    """Where a job's previews are published."""
    return f"preview.{job_id}"


def log(job_id: JobId) -> str:
    """Where a job's log lines are published."""
    return f"log.{job_id}"


def timer(job_id: JobId, purpose: str) -> str:
    """The schedule of a wake-up; publishing again replaces it, purging cancels it."""
    return f"timer.set.{job_id}.{purpose}"


def timer_due(job_id: JobId, purpose: str) -> str:
    """Where a wake-up appears when its time has come."""
    return f"timer.due.{job_id}.{purpose}"


def job_timers(job_id: JobId) -> str:
    """All schedules of a job."""
    return f"timer.set.{job_id}.>"


def schedule_timer(tenant: str, name: str) -> str:
    """The wake-up of a schedule; a job's id is never `schedule`."""
    return f"timer.set.schedule.{tenant}.{name}"


def schedule_timer_due(tenant: str, name: str) -> str:
    """Where a schedule's wake-up appears when its time has come."""
    return f"timer.due.schedule.{tenant}.{name}"


def parse_schedule_due(subject: str) -> tuple[str, str] | None:
    """Tenant and name of a schedule's wake-up; None for that of a job.

    Raises:
        ValueError: they are none, such as a wildcard that would stand for the schedules of others.
    """
    tokens = subject.split(".")
    if tokens[2] != "schedule":
        return None
    _, _, _, tenant, name = tokens
    return _names(tenant, name)


def _names(tenant: str, name: str) -> tuple[str, str]:
    if not (is_name(tenant) and is_name(name)):
        raise ValueError("a tenant and a name were expected")
    return tenant, name


def parse_timer_due(subject: str) -> tuple[JobId, str]:
    """Job and purpose of a wake-up.

    Raises:
        ValueError: it is not that of a job.
    """
    _, _, job_id, purpose = subject.split(".", 3)
    if JOB_ID.fullmatch(job_id) is None or not is_name(purpose):
        raise ValueError("the wake-up is not that of a job")
    return JobId(job_id), purpose


SPEAKERS: Final = "speakers"
"""Where projectors announce themselves to each other, so that one speaks for all."""


def projected(database_id: str) -> str:
    """Where a projector reports how far its database has come."""
    return f"projected.{database_id}"


def rebuild(projector_id: str) -> str:
    """Where a projector is asked to rebuild its database."""
    return f"rebuild.{projector_id}"


def file_quota(tenant: str) -> str:
    """Where workers ask the gateways for room for a tenant's files."""
    return f"quota.files.{tenant}"


def file_addresses(tenant: str) -> str:
    """Where workers ask the gateways for addresses of a tenant's files in S3."""
    return f"address.files.{tenant}"


def token(sort: str, key: str, number: int | str) -> str:
    """A place under a limit `<tenant>.<name>`; `sort` is `run` (jobs at once) or `start` (a minute)."""
    return f"token.{sort}.{key}.{number}"


def is_start_token(subject: str) -> bool:
    """Whether a token is one for a start."""
    return subject.startswith("token.start.")


def token_consumer(sort: str, key: str) -> str:
    """The durable consumer of a limit's tokens; a dot may not stand in its name."""
    tenant, _, name = key.partition(".")
    return f"{sort}_{len(tenant)}_{tenant}_{name}"


def file_name(tenant: str, file_id: str) -> str:
    """A file's name in the object store `files`."""
    return f"{tenant}/{file_id}"


def parse_file_name(name: str) -> tuple[str, str]:
    """The tenant and the id of a file in the object store."""
    tenant, _, file_id = name.partition("/")
    return tenant, file_id


def file_meta(tenant: str, file_id: str) -> str:
    """Where the object store keeps what it knows of a file. Source: ADR-20."""
    name = base64.urlsafe_b64encode(file_name(tenant, file_id).encode()).decode()
    return f"$O.{STORE_FILES}.M.{name}"


def file_chunks(nuid: str) -> str:
    """Where the object store keeps the bytes of one version of a file. Source: ADR-20."""
    return f"$O.{STORE_FILES}.C.{nuid}"
