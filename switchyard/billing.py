"""What the client says of prices, quotas and the disk."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from switchyard.models import Model


class Price(Model, frozen=True, omit_defaults=True):
    """What a unit costs.

    Args:
        unit: its name.
        micro_cents: millionths of a cent for so many units as `per` says.
        per: 1, 1000, 1000000 or 1000000000.
        kind: the kind of jobs that it is for; None for those that have no price of their own.
        margin_bp: added to it, in hundredths of a percent, in the place of the version's own.
        least_micro_cents: what an attempt with this unit costs at least, margin and all.
        step_micro_cents: what an attempt costs is rounded up to a multiple of this; 0 for not.
    """

    unit: str
    micro_cents: int
    per: int = 1
    kind: str | None = None
    margin_bp: int | None = None
    least_micro_cents: int = 0
    step_micro_cents: int = 0


class PriceVersion(Model, frozen=True, omit_defaults=True):
    """The prices from a day on.

    Args:
        prices: what is named nowhere costs nothing.
        margin_bp: added to all of them, in hundredths of a percent; below 0 it is a discount.
        billed: the outcomes that are billed, by kind; `*` stands for the kinds that are not named. Without,
            `succeeded` and `accepted` are.
        note: for people.
    """

    prices: tuple[Price, ...] = ()
    margin_bp: int = 0
    billed: dict[str, list[str]] = msgspec.field(default_factory=dict)
    note: str = ""


class Prices(Model, frozen=True):
    """A version of the price book; `start` is the day, as in `2026-01-31`, from which it holds in UTC."""

    start: str
    in_force: bool
    version: PriceVersion


class Quota(Model, frozen=True):
    """What a tenant or an API key may use in a period.

    Args:
        unit: the one that it bounds; `micro_cents` is what is billed.
        period: a day or a month of UTC.
        most: whole units.
        used: as they are read, what was used in this period: a decimal number, exact to the millionth.
        ends_at: as they are read, when the next period begins.
    """

    unit: str
    period: Literal["day", "month"]
    most: int
    used: str | None = None
    ends_at: datetime | None = None


class Quotas(Model, frozen=True):
    """The quotas of a tenant (`of` is `all`) or of one of its API keys (its id)."""

    tenant: str
    of: str
    quotas: list[Quota]


class StreamDisk(Model, frozen=True):
    """A stream of the broker; None is without a limit of its own."""

    stream: str
    bytes: int
    limit_bytes: int | None = None


class TenantDisk(Model, frozen=True):
    """What a tenant takes: jobs that are not archived, as they were submitted, and files."""

    tenant: str
    jobs: int
    job_bytes: int
    files: int
    file_bytes: int


class KindDisk(Model, frozen=True):
    """What the jobs of a kind take that are not archived, as they were submitted."""

    kind: str
    jobs: int
    job_bytes: int


class Disk(Model, frozen=True):
    """What of the disk is taken; tenants and kinds with the most first, at most 1,000 of each."""

    streams: list[StreamDisk]
    read_model_bytes: int
    tenants: list[TenantDisk]
    kinds: list[KindDisk]
