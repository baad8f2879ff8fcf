"""Usage and bills, as the read model adds up the ledger."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, NamedTuple

from switchyard.events.errors import LimitError
from switchyard.projections.ledger.report import Report, Row, Wish, report
from switchyard.projections.reader import ReadModel
from switchyard.services.access.principal import Caller, Role
from switchyard.services.concurrency import Turns
from switchyard.services.intake.budgets import Budgets
from switchyard.services.ledger.prices import Prices
from switchyard.services.ledger.quotas import Quotas

EPOCH: Final = date(1970, 1, 1)
WHOLE: Final = 100_000
"""Rows of an answer that has no pages."""
OF_A_BILL: Final = ("tenant", "kind")
SEES_ALL_KEYS: Final = frozenset({Role.TENANT_ADMIN, Role.OPERATOR, Role.ADMIN})


class Bill(NamedTuple):
    """What somebody owes.

    Args:
        rows: those that cost something, by tenant, kind and unit.
        cost: that of all together, in parts of a micro-cent.
        ledger_seq: the last message of the ledger that is in it.
    """

    rows: list[Row]
    cost: int
    ledger_seq: int


class Billing:
    """Answers from the read model, in a thread of its own.

    Args:
        read_model: what was used.
        prices: what it costs.
        quotas: what may be used.
        budgets: what of that was.
        turns: who may have it added up.
    """

    def __init__(
        self, read_model: ReadModel, prices: Prices, quotas: Quotas, budgets: Budgets, turns: Turns
    ) -> None:
        self._read_model = read_model
        self.prices = prices
        self.quotas = quotas
        self.budgets = budgets
        self._turns = turns

    async def page(self, caller: Caller, wish: Wish, *, limit: int, cursor: str | None = None) -> Report:
        """A page of sums that the caller may see.

        Raises:
            InvalidError: the cursor is not one of ours.
            LimitError: code `too_much_usage`; it takes too long to add up.
            UnavailableError: there is no read model, or prices of these days cannot be read.
        """
        wish = _seen_by(caller, wish)
        self.prices.check(EPOCH + timedelta(wish.since), EPOCH + timedelta(wish.until - 1))
        path, book = self._read_model.path, self.prices.book()
        owner = caller.home or caller.tenant
        return await self._turns.run(owner, report, path, wish, book, limit=limit, cursor=cursor)

    async def whole(self, caller: Caller, wish: Wish) -> Report:
        """All of the sums at once.

        Raises:
            LimitError: code `too_much_usage`; it takes too long to add up, or there are too many.
            UnavailableError: as for `page`.
        """
        found = await self.page(caller, wish, limit=WHOLE)
        if found.cursor is not None:
            message = f"there are over {WHOLE} rows: ask for fewer days, or read it page by page as JSON"
            raise LimitError(message, status=422, code="too_much_usage")
        return found

    async def bill(self, caller: Caller, wish: Wish) -> Bill:
        """What was billed by tenant, kind and unit, and all of it together.

        Raises:
            LimitError, UnavailableError: as for `whole`.
        """
        found = await self.whole(caller, wish._replace(by=OF_A_BILL))
        rows = [row for row in found.rows if row.cost]
        return Bill(rows, sum(row.cost for row in rows), found.ledger_seq)


def _seen_by(caller: Caller, wish: Wish) -> Wish:
    """What of it a caller may see: with a key, what that was used for, unless it is an admin's."""
    if caller.key and caller.roles.isdisjoint(SEES_ALL_KEYS):
        return wish._replace(keys=(caller.key,), tenants=(caller.tenant,))
    return wish
