"""Answers about API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.records.keys import PREFIX, KeyRecord


class RateAnswer(Answer, frozen=True, kw_only=True):
    """How often a key may be used."""

    per_minute: int
    burst: int


class SpendAnswer(Answer, frozen=True, kw_only=True):
    """How much a key may be used for."""

    jobs_per_day: int


class KeyAnswer(Answer, frozen=True, kw_only=True):
    """An API key; `key` is its secret, which is shown once."""

    id: str
    tenant: str
    name: str
    prefix: str | None
    roles: Sequence[str]
    kinds: Sequence[str] | None
    rate: RateAnswer | None
    spend: SpendAnswer | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    expired: bool
    rotated_at: datetime | None
    earlier_until: Sequence[datetime]
    last_used_at: datetime | None
    key: str | UnsetType = UNSET


class KeysAnswer(Answer, frozen=True, kw_only=True):
    """The API keys of a tenant, the oldest first."""

    keys: Sequence[KeyAnswer]


def key_answer(
    record: KeyRecord, now: datetime, last_used_at: datetime | None, secret: str | UnsetType
) -> KeyAnswer:
    """A key as it is now."""
    rate = None if record.per_minute is None else RateAnswer(per_minute=record.per_minute, burst=record.burst)
    return KeyAnswer(
        id=record.id,
        tenant=record.tenant,
        name=record.name,
        prefix=None if record.foreign and record.rotated_at is None else f"{PREFIX}{record.id}",
        roles=record.roles,
        kinds=record.kinds,
        rate=rate,
        spend=None if record.jobs_per_day is None else SpendAnswer(jobs_per_day=record.jobs_per_day),
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        expired=record.expires_at is not None and record.expires_at <= now,
        rotated_at=record.rotated_at,
        earlier_until=[one.until for one in record.secrets if one.until is not None and one.until > now],
        last_used_at=last_used_at,
        key=secret,
    )
