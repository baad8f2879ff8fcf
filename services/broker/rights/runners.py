"""What those may do who run jobs."""

from __future__ import annotations

from typing import Final

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api_subject
from switchyard.services.broker.rights.grants import (
    CANCELS,
    EVERYBODY,
    PAUSES,
    Right,
    Rights,
    delete,
    durable,
    events,
    files,
    follow,
    kv,
    output,
    put,
    read,
    take,
    write,
)

WORKER_EVENTS: Final = ("leased", "succeeded", "failed", "proposed", "parted", "dead", "cancelled", "expired")
"""What workers append; with what they hand back (`queued`), put off (`scheduled`) or delegate (`claimed`)."""
CLAIMABLE: Final = ("queued",)
_ATTEMPT_FOLLOWS: Final = (
    subjects.BUCKET_KINDS,
    subjects.BUCKET_LANES,
    subjects.BUCKET_LIMITS,
    subjects.BUCKET_CONTROLS,
    subjects.BUCKET_WORKERS,
    subjects.BUCKET_BACKENDS,
)


def _attempts() -> list[Right]:
    """What whoever runs jobs needs: lanes and limits, jobs and their events, files and output."""
    return [
        *follow(*map(kv, _ATTEMPT_FOLLOWS)),
        *read(subjects.JOBS, subjects.WORK, subjects.TOKENS, kv(subjects.BUCKET_CAPABILITIES)),
        *events((*WORKER_EVENTS, "claimed", "claim_renewed", "scheduled"), CLAIMABLE),
        *take(subjects.WORK),
        *delete(subjects.WORK),
        *take(subjects.TOKENS),
        *output(),
        *files(),
        *write(subjects.BUCKET_BACKENDS),
        put("offer.*.*", "pass on a job that another worker fits better"),
        put(subjects.ALL_FILE_QUOTAS, "ask for room for files"),
        put(subjects.ALL_FILE_ADDRESSES, "ask for addresses of files in S3"),
    ]


def pusher() -> Rights:
    """Who pushes jobs to prediction servers."""
    publish = [
        *EVERYBODY,
        *_attempts(),
        *follow(kv(subjects.BUCKET_SERVERS), kv(subjects.BUCKET_SERVER_STATES)),
        *write(subjects.BUCKET_SERVER_STATES),
        *durable(subjects.TOKENS),
        *delete(subjects.TOKENS),
        Right(api_subject(f"CONSUMER.DELETE.{subjects.TOKENS}.*"), "a server is gone"),
        put("token.>", "make a place for each of a server's slots"),
    ]
    return Rights(tuple(publish), (CANCELS, PAUSES))


def worker() -> Rights:
    """Who runs jobs, on any machine."""
    publish = [
        *EVERYBODY,
        *_attempts(),
        *write(subjects.BUCKET_WORKERS, subjects.BUCKET_CAPABILITIES),
        put(subjects.MODEL_REPORTS, "say what it fetches"),
    ]
    return Rights(tuple(publish), (CANCELS, PAUSES, Right("offer.*.*", "be given jobs by others")))
