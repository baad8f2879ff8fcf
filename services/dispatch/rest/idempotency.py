"""Idempotency keys of claims: which job a key was given, so that a lost answer is given again.

The intent is written before the `claimed` event, and that event tells whether it came to pass. Whoever finds
an intent that may still come to pass carries it out, so that two requests with one key, of which the first is
late or its gateway dead, come to the same lease.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Claim
from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.events.numbers import Time
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry, Form, json_values
from switchyard.services.broker.bucket import Key as Place
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.settings import Settings

MARGIN_S = 60.0


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts the keys of each tenant that are remembered."""
    bounds = Bounds("idempotency keys of claims", settings.tenant_claims, code="too_many_claim_keys")
    return BucketUse(nc, CLAIMS.stream, bounds, timeout_s=settings.request_timeout_s, expires=True)


class Intent(msgspec.Struct, frozen=True):
    """What a claim is about to do.

    Args:
        request: hash of the claim's body.
        worker: who claims.
        revision: the capability revision that the match was made with.
        job: what it is given.
        seq: the job's last event; when it is still the last, the claim may still come.
        expires_at: when the lease ends; with the worker, it tells the claim's event from any other.
        places: as in the lease token.
    """

    request: str
    worker: str
    revision: int
    job: str
    seq: int
    expires_at: Time
    places: tuple[str, ...] = ()


def _names_a_job(_place: Place, intent: Intent) -> None:
    if subjects.JOB_ID.fullmatch(intent.job) is None:
        raise ValueError("it names no job")


CLAIMS: Final = Form(
    name=subjects.BUCKET_CLAIMS, parts=("tenant", "digest"), values=json_values(Intent), belongs=_names_a_job
)  # fmt: skip


class Key:
    """One claim's key as it stands in the bucket `claims`.

    Args:
        entry: what stands there; whatever cannot be read stands for no claim.
        request: hash of the claim's body.
        use: how many its tenant has, where that is counted.
    """

    def __init__(self, entry: Entry[Intent], request: str, use: BucketUse | None = None) -> None:
        self.place = entry.key
        self.request = request
        self.intent = entry.value
        self._use = use
        self._seq = entry.revision

    async def write(self, publisher: Publisher, intent: Intent) -> None:
        """Say what is about to be done.

        Raises:
            VersionConflictError: another claim with this key is under way.
            UnavailableError: the broker does not answer.
        """
        left_s = (intent.expires_at - clock.now()).total_seconds() + MARGIN_S
        bucket = Bucket.writer(CLAIMS, publisher)
        written = await bucket.put(self.place, intent, revision=self._seq, ttl_s=max(1, int(left_s)))
        self._seq = written.revision
        if self._use is not None:
            subject = CLAIMS.subject(self.place)
            self._use.learn(subject, written.size_bytes, self._seq, {subjects.H_TTL: f"{int(left_s)}s"})
        self.intent = intent


class ClaimKeys:
    """Looks keys up.

    Args:
        nc: an open connection.
        store: the log.
        timeout_s: seconds to wait for any answer of the broker.
        use: how many each tenant has, where new ones are to be refused for that.
    """

    def __init__(
        self, nc: Client, store: EventStore, *, timeout_s: float, use: BucketUse | None = None
    ) -> None:
        self._bucket = Bucket(nc, CLAIMS, timeout_s=timeout_s, use=use)
        self._store = store
        self._use = use

    async def find(self, tenant: str, caller: str, key: str, request: str) -> Key:
        """The key as it stands, used or not.

        Raises:
            ConflictError: code `idempotency_conflict`; it stands for another claim.
            LimitError: it is new, and the tenant has as many as it may.
            UnavailableError: the broker does not answer.
        """
        digest = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        entry = await self._bucket.get((tenant, digest))
        if entry.value is None and not entry.is_unreadable:
            self._bucket.check_room(entry.key, 1)
        if entry.value is not None and entry.value.request != request:
            raise ConflictError("the idempotency key stands for another claim", code="idempotency_conflict")
        return Key(entry, request, self._use)

    async def lease_of(self, intent: Intent) -> Job | None:
        """The job under the very lease that was meant; None when it never will be, or has been.

        Raises:
            UnavailableError: the broker does not answer.
        """
        job = await self._load(intent.job)
        if job.seq == intent.seq and intent.expires_at > clock.now():
            command = Claim(
                now=clock.now(), worker=intent.worker, revision=intent.revision,
                expires_at=intent.expires_at,
            )  # fmt: skip
            try:
                job, _ = await self._store.transition(job, command, actor=f"worker:{intent.worker}")
            except ConflictError:
                job = await self._load(intent.job)
        if job.lease is None or job.lease.worker != intent.worker:
            return None
        granted = await self._store.history(job.id, after=job.lease.fence - 1, limit=1)
        if not granted or getattr(granted[0].event, "expires_at", None) != intent.expires_at:
            return None
        return job

    async def _load(self, job_id: str) -> Job:
        last = await self._store.last_of_leader(job_id)
        return await self._store.load(job_id, at_least=0 if last is None else last.seq)
