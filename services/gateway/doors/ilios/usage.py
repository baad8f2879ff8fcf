"""`/api/usage/*`: what was used and what it costs, as the ledger has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from msgspec import UNSET

from switchyard.events.errors import InvalidError
from switchyard.events.ledger.line import ATTEMPTS, MICRO
from switchyard.events.ledger.prices import BILLED, micro_cents
from switchyard.projections.ledger.report import Row, Wish
from switchyard.projections.ledger.usage import day_of
from switchyard.services import clock
from switchyard.services.gateway.app_keys import BILLING
from switchyard.services.gateway.doors.ilios import work
from switchyard.services.gateway.doors.ilios.answers import Breakdown, Filters, Share, Summary, Totals, iso
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.parts import OPERATION as PART

PAGES: Final = "pages"
TOKENS: Final = "tokens"
BY: Final = ("operation", "outcome")
START: Final = "startDate"
END: Final = "endDate"
SHOWN_CHARS: Final = 40
CENT: Final = 1_000_000
"""In micro-cents."""


async def summary(call: Call[None]) -> web.Response:
    """`GET /api/usage/summary`: all of it, from the day of one time to that of another.

    Raises:
        InvalidError: one of them is no time.
        UnavailableError: there is no read model.
    """
    start, end = _time(call, START), _time(call, END)
    found = _totals(await _rows(call, start, end))
    filters = Filters(
        start_date=UNSET if start is None else iso(start), end_date=UNSET if end is None else iso(end)
    )
    return json_response(Summary(summary=found, filters=filters))


async def breakdown(call: Call[None]) -> web.Response:
    """`GET /api/usage/breakdown`: the same by operation; without one is what lines from before it have."""
    by_operation: dict[str, list[Row]] = {}
    for row in await _rows(call, None, None):
        by_operation.setdefault(str(row.by[0]) or work.LATER, []).append(row)
    shares = []
    for operation, rows in sorted(by_operation.items()):
        found = _totals(rows)
        if found.total_operations:
            shares.append(
                Share(
                    operation=operation, count=found.total_operations,
                    total_input_tokens=found.total_input_tokens,
                    total_output_tokens=found.total_output_tokens,
                    total_cost_cents=found.total_cost_cents, total_cost_usd=found.total_cost_usd,
                )
            )  # fmt: skip
    return json_response(Breakdown(breakdown=shares))


async def _rows(call: Call[Any], start: datetime | None, end: datetime | None) -> list[Row]:
    wish = Wish(
        0 if start is None else day_of(start), day_of(end or clock.now()) + 1, BY,
        (call.caller.tenant,), kinds=(work.KIND,),
    )  # fmt: skip
    rows = (await call.part(BILLING).whole(call.caller, wish)).rows
    return [row for row in rows if row.by[0] != PART]  # a document in parts is one


def _totals(rows: Sequence[Row]) -> Totals:
    costs = micro_cents(sum(row.cost for row in rows))
    cents = (2 * costs + CENT) // (2 * CENT)
    count = _sum(rows, ATTEMPTS) // MICRO
    return Totals(
        total_documents=count, total_operations=count, total_input_tokens=_sum(rows, TOKENS) // MICRO,
        total_output_tokens=0, total_cost_cents=cents, total_cost_usd=f"{cents // 100}.{cents % 100:02}",
        total_pages=_sum(rows, PAGES) / MICRO, total_cost_micro_cents=costs,
    )  # fmt: skip


def _sum(rows: Iterable[Row], unit: str) -> int:
    """Millionths of a unit, of attempts that have made a document."""
    return sum(row.amount for row in rows if row.unit == unit and row.by[1] in BILLED)


def _time(call: Call[Any], name: str) -> datetime | None:
    text = call.request.query.get(name, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None or not 1970 <= found.year <= 9998:
        message = f"{name}: a time as in 2026-01-31T00:00:00Z was expected, not {text[:SHOWN_CHARS]!r}"
        raise InvalidError(message, field=name)
    return found
