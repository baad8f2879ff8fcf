"""Idempotency keys of claims: which job a key was given, so that a lost answer is given again.

The intent is written before the `claimed` event, and that event tells whether it came to pass. So a gateway
that dies between the two, and the client that asks another one, leave no lease that nobody knows.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec
from nats.aio.client import Client

from events import subjects
from events.errors import ConflictError, UnavailableError, VersionConflictError
from events.job import Job
from services.event_store import EventStore
from services.log_reader import last_of_leader
from services.publisher import Publisher

MARGIN_S = 60.0


class Intent(msgspec.Struct, frozen=True):
    """What a claim is about to do.

    Args:
        request: hash of the claim's body.
        worker: who claims.
        job: what it is given.
        expires_at: when the lease ends; with the worker, it tells the claim's event from any other.
        places: as in the lease token.
    """

    request: str
    worker: str
    job: str
    expires_at: datetime
    places: tuple[str, ...] = ()


class Key:
    """One claim's key as it stands in the bucket `claims`."""

    def __init__(self, subject: str, request: str, intent: Intent | None, seq: int) -> None:
        self.request = request
        self.intent = intent
        self._subject = subject
        self._seq = seq

    async def write(self, publisher: Publisher, intent: Intent) -> None:
        """Say what is about to be done.

        Raises:
            UnavailableError: the broker does not answer, or another claim with this key is under way.
        """
        left_s = (intent.expires_at - datetime.now(UTC)).total_seconds() + MARGIN_S
        headers = {subjects.H_EXPECTED_SEQ: str(self._seq), subjects.H_TTL: f"{max(1, int(left_s))}s"}
        try:
            self._seq = await publisher.publish(self._subject, msgspec.json.encode(intent), headers)
        except VersionConflictError:
            raise UnavailableError("another claim with this idempotency key is under way") from None


class ClaimKeys:
    """Looks keys up."""

    def __init__(self, nc: Client, store: EventStore, *, timeout_s: float) -> None:
        self._nc = nc
        self._store = store
        self._timeout_s = timeout_s

    async def find(self, tenant: str, caller: str, key: str, request: str) -> Key:
        """The key as it stands, used or not.

        Raises:
            ConflictError: code `idempotency_conflict`; it stands for another claim.
            UnavailableError: the broker does not answer.
        """
        digest = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        subject = subjects.claim_entry(tenant, digest)
        stream = f"KV_{subjects.BUCKET_CLAIMS}"
        found = await last_of_leader(self._nc, stream, subject, timeout_s=self._timeout_s)
        if found is None or not found.data:
            return Key(subject, request, None, 0 if found is None else found.seq)
        intent = msgspec.json.decode(found.data, type=Intent)
        if intent.request != request:
            raise ConflictError("the idempotency key stands for another claim", code="idempotency_conflict")
        return Key(subject, request, intent, found.seq)

    async def lease_of(self, intent: Intent) -> Job | None:
        """The job under the very lease that was meant; None when it never was, or has ended."""
        last = await self._store.last_of_leader(intent.job)
        job = await self._store.load(intent.job, at_least=0 if last is None else last.seq)
        if job.lease is None or job.lease.worker != intent.worker:
            return None
        granted = await self._store.history(job.id, after=job.lease.fence - 1, limit=1)
        if not granted or getattr(granted[0].event, "expires_at", None) != intent.expires_at:
            return None
        return job
