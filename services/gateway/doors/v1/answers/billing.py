"""Usage, bills, prices, quotas, limits and the disk, as they are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, UnsetType, structs

from switchyard.events.ledger.prices import PriceVersion
from switchyard.projections.lists.brief import Brief
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.operation import RunningJob, running_job
from switchyard.services.records.limits import Limit


class UsageRow(Answer, frozen=True, kw_only=True):
    """One sum; of `day` to `outcome` those are there that were asked for.

    `amount` is a decimal number of units, exact to the millionth. `cost_micro_cents` is rounded half up.
    """

    day: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    kind: str | UnsetType = UNSET
    operation: str | UnsetType | None = UNSET
    engine: str | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    unit: str
    amount: str
    attempts: int
    cost_micro_cents: int


class UsageSummary(Answer, frozen=True, kw_only=True):
    """A page of sums; `ledger_seq` is the last message of the ledger that is in them."""

    since: str
    until: str
    by: Sequence[str]
    usage: Sequence[UsageRow]
    cursor: str | None
    ledger_seq: int


class BillAnswer(Answer, frozen=True, kw_only=True):
    """What was billed; the total is rounded once, and may differ from the sum of the rows in the end."""

    since: str
    until: str
    usage: Sequence[UsageRow]
    total_micro_cents: int
    ledger_seq: int


class PricesAnswer(Answer, frozen=True, kw_only=True):
    """A version of the price book, in force from the start of a day in UTC."""

    start: str
    in_force: bool
    version: PriceVersion


class PriceBookAnswer(Answer, frozen=True, kw_only=True):
    """All versions, the earliest first."""

    prices: Sequence[PricesAnswer]


class QuotaUse(Answer, frozen=True, kw_only=True):
    """A quota, how much of it was used in this period, and when the next one begins."""

    unit: str
    period: Literal["day", "month"]
    most: int
    used: str
    ends_at: datetime


class QuotaAnswer(Answer, frozen=True, kw_only=True):
    """The quotas of a tenant (`of` is `all`) or of one of its API keys."""

    tenant: str
    of: str
    quotas: Sequence[QuotaUse]


class QuotasAnswer(Answer, frozen=True, kw_only=True):
    """All quotas of a tenant and its keys."""

    quotas: Sequence[QuotaAnswer]


class StreamDisk(Answer, frozen=True, kw_only=True):
    """A stream of the broker; null is without a limit of its own."""

    stream: str
    bytes: int
    limit_bytes: int | None


class TenantDiskAnswer(Answer, frozen=True, kw_only=True):
    """What a tenant takes: jobs that are not archived, as they were submitted, and files."""

    tenant: str
    jobs: int
    job_bytes: int
    files: int
    file_bytes: int


class KindDiskAnswer(Answer, frozen=True, kw_only=True):
    """What the jobs of a kind take that are not archived, as they were submitted."""

    kind: str
    jobs: int
    job_bytes: int


class DiskAnswer(Answer, frozen=True, kw_only=True):
    """What of the disk is taken; tenants and kinds with the most first, at most 1,000 of each."""

    streams: Sequence[StreamDisk]
    read_model_bytes: int
    tenants: Sequence[TenantDiskAnswer]
    kinds: Sequence[KindDiskAnswer]


class LimitAnswer(Answer, frozen=True, kw_only=True):
    """A limit."""

    name: str
    tenant: str
    concurrency: int | None
    per_minute: int | None
    requests_per_minute: int | None
    keep_s: float | None
    keep_dead_s: float | None
    erase_s: float | None
    changed_at: datetime


class Holder(RunningJob, frozen=True, kw_only=True):
    """A job that takes one of a limit's places, and where it runs."""

    worker: str | None


class LimitUseAnswer(LimitAnswer, frozen=True, kw_only=True):
    """A limit, and how much of it is in use; `jobs` are some that run, null for who may not see them."""

    running: int
    starts_left: bool
    jobs: Sequence[Holder] | None


class LimitsAnswer(Answer, frozen=True, kw_only=True):
    """The limits of a tenant, by name."""

    limits: Sequence[LimitAnswer]


def limit_fields(tenant: str, name: str, limit: Limit) -> dict[str, Any]:
    """The fields of a limit's answer."""
    return {
        "name": name, "tenant": tenant, "concurrency": limit.concurrency, "per_minute": limit.per_minute,
        "requests_per_minute": limit.requests_per_minute, "keep_s": limit.keep_s,
        "keep_dead_s": limit.keep_dead_s, "erase_s": limit.erase_s, "changed_at": limit.changed_at,
    }  # fmt: skip


def holder(job: Brief, progress: Mapping[str, Any] | None) -> Holder:
    """A job that takes one of a limit's places."""
    return Holder(**structs.asdict(running_job(job, progress)), worker=job.worker)
