"""`/v1/usage/summary` and `/v1/usage/bill`: what was used, by whatever is asked for, and what it costs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.ledger.line import shown
from switchyard.events.ledger.prices import micro_cents
from switchyard.projections.ledger.report import BY, Row, Wish
from switchyard.projections.ledger.usage import date_of
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import BILLING
from switchyard.services.gateway.doors.v1.answers.billing import BillAnswer, UsageRow, UsageSummary
from switchyard.services.gateway.doors.v1.parts import PAGED, SEE, TENANT, page_limit
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import Query, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Media, OneOf, Parameter, Route
from switchyard.services.ledger.prices import today

CSV: Final = "text/csv"
EPOCH: Final = date(1970, 1, 1)
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NOT_TAKEN: Final = re.compile(r"q *= *0(\.0{0,3})?")
MOST_DAYS: Final = 3660
MOST_WORDS: Final = 100
WORD_CHARS: Final = 300
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With which a cell begins that a spreadsheet takes for a formula."""
FORMAT: Final = Parameter("format")
DAYS: Final = (Parameter("from"), Parameter("to"))
FILTERS: Final = ("key", "kind", "operation", "engine", "outcome", "unit")
REFUSED: Final = ((422, "too_much_usage"),)


async def summary(call: Call[None]) -> web.Response:
    """Sums over days, put together as asked for; as CSV all at once."""
    query = call.query
    by = _by(query)
    since, until, wish = _wish(call, by)
    billing = call.part(BILLING)
    if is_csv(call):
        found = await billing.whole(call.caller, wish)
        return csv_response((*by, "unit", "amount", "attempts", "cost_micro_cents"), cells(by, found.rows))
    page = await billing.page(call.caller, wish, limit=page_limit(call), cursor=query.text("cursor"))
    return json_response(
        UsageSummary(
            since=since.isoformat(), until=until.isoformat(), by=by, usage=rows_of(by, page.rows),
            cursor=page.cursor, ledger_seq=page.ledger_seq,
        )
    )  # fmt: skip


async def bill(call: Call[None]) -> web.Response:
    """What was billed by kind and unit, and all of it."""
    by = ("tenant", "kind")
    since, until, wish = _wish(call, by)
    found = await call.part(BILLING).bill(call.caller, wish)
    if is_csv(call):
        return csv_response((*by, "unit", "amount", "attempts", "cost_micro_cents"), cells(by, found.rows))
    return json_response(
        BillAnswer(
            since=since.isoformat(), until=until.isoformat(), usage=rows_of(by, found.rows),
            total_micro_cents=micro_cents(found.cost), ledger_seq=found.ledger_seq,
        )
    )  # fmt: skip


def rows_of(by: Sequence[str], rows: Iterable[Row]) -> list[UsageRow]:
    """Sums as they are answered."""
    return [
        UsageRow(
            **_named(by, row), unit=row.unit, amount=shown(row.amount), attempts=row.lines,
            cost_micro_cents=micro_cents(row.cost),
        )
        for row in rows
    ]  # fmt: skip


def cells(by: Sequence[str], rows: Iterable[Row]) -> Iterable[list[Any]]:
    """Sums as the cells of a table."""
    for row in rows:
        numbers = shown(row.amount), row.lines, micro_cents(row.cost)
        names = [str(value or "") for value in _named(by, row).values()]
        yield [*map(harmless, names), harmless(row.unit), *numbers]


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def csv_response(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> web.Response:
    """A table. Source: RFC 4180."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(rows)
    return web.Response(body=text.getvalue().encode(), content_type=CSV, charset="utf-8")


def is_csv(call: Call[Any]) -> bool:
    """Whether the answer is to be CSV: by the parameter, or else because the caller takes nothing else."""
    wanted = call.query.text("format")
    if wanted is None:
        wanted, *weights = call.request.headers.get(hdrs.ACCEPT, "").lower().partition(",")[0].split(";")
        return wanted.strip() == CSV and not any(NOT_TAKEN.fullmatch(one.strip()) for one in weights)
    if wanted not in ("csv", "json"):
        raise wrong("format", wanted, "csv or json")
    return wanted == "csv"


def _named(by: Sequence[str], row: Row) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(by, row.by, strict=True))
    if "day" in found:
        found["day"] = date_of(int(found["day"]))
    for name in {"key", "operation"} & found.keys():
        found[name] = found[name] or None
    return found


def _wish(call: Call[Any], by: tuple[str, ...]) -> tuple[date, date, Wish]:
    """The first day, the last, and what is asked for; without them, this month until today."""
    query, now = call.query, today()
    until = _day(query, "to") or now
    since = _day(query, "from") or min(until, now).replace(day=1)
    if since > until:
        raise wrong("from", since.isoformat(), f"a day that is not after {until}")
    if (until - since).days >= MOST_DAYS:
        raise wrong("from", since.isoformat(), f"at most {MOST_DAYS} days")
    tenant = wide_scope(call.caller, query, wide=Role.OPERATOR)
    some = {f"{name}s": _words(query, name) for name in FILTERS}
    wish = Wish(
        (since - EPOCH).days, (until - EPOCH).days + 1, by, None if tenant is None else (tenant,), **some
    )
    return since, until, wish


def _day(query: Query, name: str) -> date | None:
    value = query.text(name)
    if value is None:
        return None
    try:
        found = date.fromisoformat(value) if DAY.fullmatch(value) else None
    except ValueError:
        found = None
    if found is None or not EPOCH <= found <= date.max - timedelta(days=1):
        raise wrong(name, value, "a day, as in 2026-01-31,")
    return found


def _by(query: Query) -> tuple[str, ...]:
    words = {word for value in query.all("by") for word in value.split(",")} or {"day"}
    for word in sorted(words):
        if word not in BY:
            raise wrong("by", word, f"one of {', '.join(BY)}")
    return tuple(name for name in BY if name in words)


def _words(query: Query, name: str) -> tuple[str, ...]:
    """The values of a filter; any text may be the name of a unit."""
    words = query.all(name)
    if len(words) > MOST_WORDS:
        raise wrong(name, words[-1], f"at most {MOST_WORDS} values")
    for word in words:
        if len(word) > WORD_CHARS:
            raise wrong(name, word, f"at most {WORD_CHARS} characters")
    return tuple(words)


_FILTERS: Final = tuple(Parameter(name, repeated=True) for name in FILTERS)
ROUTES: Final = (
    Route(
        method="GET", path="/v1/usage/summary", handler=summary, summary="Add up what was used",
        roles=SEE, query=(TENANT, *DAYS, Parameter("by", repeated=True), *_FILTERS, FORMAT, *PAGED),
        answers={200: OneOf((UsageSummary, Media(CSV)))}, errors=REFUSED,
    ),
    Route(
        method="GET", path="/v1/usage/bill", handler=bill, summary="Read what was billed",
        roles=SEE, query=(TENANT, *DAYS, *_FILTERS, FORMAT),
        answers={200: OneOf((BillAnswer, Media(CSV)))}, errors=REFUSED,
    ),
)  # fmt: skip
