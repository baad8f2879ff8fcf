"""Whether a tenant and its API key may use more today and this month.

What counts is what the ledger holds, as the read model adds it up: jobs that run, and those that wait, are
not in it. So a quota is passed by what was taken in before the attempt that reached it stood there, and by
comes in within the next `FRESH_S` and the lag of keeper and projector. Without the read model, what was
last known counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.ledger.line import MICRO
from switchyard.events.ledger.prices import PriceBook, micro_cents
from switchyard.projections.ledger.report import Wish, report
from switchyard.projections.ledger.usage import day_of
from switchyard.projections.reader import ReadModel
from switchyard.services.access.principal import Caller
from switchyard.services.ledger.prices import Prices
from switchyard.services.ledger.quotas import ALL, COST, Allowed, Quotas

FRESH_S: Final = 2.0
MOST_KNOWN: Final = 10_000
UNITS: Final = 20_000
"""Units of one period that are added up; a tenant has at most 500 in a day."""

Period = Literal["day", "month"]
Used = Mapping[str, int]
"""Millionths by unit; of `micro_cents` too."""


class _Known:
    __slots__ = ("begins", "looking", "read_at", "used")

    def __init__(self, begins: datetime) -> None:
        self.begins = begins
        self.read_at = -FRESH_S
        self.used: Used = {}
        self.looking = asyncio.Lock()


class Budgets:
    """Looks for one process.

    Args:
        quotas: what everybody may use.
        prices: what it costs.
        read_model: what was used.
    """

    def __init__(self, quotas: Quotas, prices: Prices, read_model: ReadModel) -> None:
        self._quotas = quotas
        self._prices = prices
        self._read_model = read_model
        self._known: OrderedDict[tuple[str, str, Period], _Known] = OrderedDict()

    async def check(self, caller: Caller, now: datetime) -> None:
        """Let a job of a caller pass whose tenant and key have something left.

        Raises:
            LimitError: code `quota_spent` (429), or `budget_spent` (402) where it is money.
        """
        for of in (ALL, caller.key):
            for allowed in self._quotas.of(caller.tenant, of) if of else ():
                used = await self.used(caller.tenant, of, allowed.period, now)
                if used.get(allowed.unit, 0) >= allowed.most * MICRO:
                    raise _spent(caller.tenant, of, allowed, now)

    async def used(self, tenant: str, of: str, period: Period, now: datetime) -> Used:
        """What was used since a period began, at most `FRESH_S` ago."""
        begins = begin_of(period, now)
        known = self._known.get((tenant, of, period))
        if known is None or known.begins != begins:
            known = self._known[tenant, of, period] = _Known(begins)
        self._known.move_to_end((tenant, of, period))
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        async with known.looking:
            if time.monotonic() - known.read_at >= FRESH_S:
                wish = Wish(
                    day_of(begins), day_of(now) + 2, by=(), tenants=(tenant,), keys=() if of == ALL else (of,)
                )
                with contextlib.suppress(UnavailableError, LimitError):
                    known.used = await asyncio.to_thread(self._sums, wish, self._prices.book())
                known.read_at = time.monotonic()
        return known.used

    def _sums(self, wish: Wish, book: PriceBook) -> Used:
        rows = report(self._read_model.path, wish, book, limit=UNITS).rows
        used = {row.unit: row.amount for row in rows}
        return used | {COST: micro_cents(sum(row.cost for row in rows)) * MICRO}


def begin_of(period: Period, now: datetime) -> datetime:
    """When the day or month of a time began, in UTC."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if period == "day" else day.replace(day=1)


def end_of(period: Period, now: datetime) -> datetime:
    """When the next one begins."""
    begins = begin_of(period, now)
    if period == "day":
        return begins + timedelta(days=1)
    return (begins + timedelta(days=32)).replace(day=1)


def _spent(tenant: str, of: str, allowed: Allowed, now: datetime) -> LimitError:
    whose = f"tenant {tenant}" if of == ALL else "this key"
    message = (
        f"{whose} may use {allowed.most} {allowed.unit} a {allowed.period}, and has; "
        f"the next begins at {end_of(allowed.period, now):%Y-%m-%dT%H:%M:%SZ}"
    )
    # No time to come again: a client that waits until then would seem to hang for days.
    if allowed.unit == COST:
        return LimitError(message, status=402, code="budget_spent")
    return LimitError(message, code="quota_spent")
