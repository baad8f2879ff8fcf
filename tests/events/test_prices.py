from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import msgspec
import pytest

from switchyard.events.ledger.line import MICRO
from switchyard.events.ledger.prices import Price, PriceBook, PriceVersion, micro_cents, sum_of, twice

CENT = 1_000_000
"""Micro-cents."""
EPOCH = date(1970, 1, 1)


def day(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


def cost(book: PriceBook, units: int, *, unit: str = "pages", kind: str = "convert", **said: str) -> int:
    """What so many units cost, in micro-cents."""
    on, outcome = said.get("on", "2026-01-15"), said.get("outcome", "succeeded")
    return micro_cents(book.cost(day(on), kind, unit, outcome, units * MICRO))


def version(*prices: Price, **more: object) -> PriceVersion:
    return msgspec.convert({"prices": prices, **more}, PriceVersion, from_attributes=True)


def book(*prices: Price, **more: object) -> PriceBook:
    return PriceBook({date(2026, 1, 1): version(*prices, **more)})


PAGE = Price(unit="pages", micro_cents=CENT)


def test_a_unit_costs_its_price_and_what_has_none_costs_nothing() -> None:
    prices = book(PAGE)
    assert cost(prices, 3) == 3 * CENT
    assert cost(prices, 3, unit="bytes") == 0


def test_a_price_of_the_kind_goes_before_one_for_all_also_where_it_is_nothing() -> None:
    prices = book(
        PAGE, Price(unit="pages", micro_cents=0, kind="free"), Price(unit="s", micro_cents=7, kind="a")
    )
    assert cost(prices, 3, kind="free") == 0
    assert cost(prices, 3, kind="other") == 3 * CENT
    assert cost(prices, 2, unit="s", kind="a") == 14
    assert cost(prices, 2, unit="s", kind="b") == 0


@pytest.mark.parametrize(
    ("per", "units", "expected"), [(1000, 1500, 3), (10**6, 10**6, 2), (10**9, 10**9, 2)]
)
def test_a_price_may_stand_for_many_units(per: int, units: int, expected: int) -> None:
    prices = book(msgspec.convert({"unit": "tokens", "micro_cents": 2, "per": per}, Price))
    assert cost(prices, units, unit="tokens") == expected


@pytest.mark.parametrize(
    ("margin", "own", "expected"),
    [(0, None, 10_000), (3000, None, 13_000), (3000, 0, 10_000), (-10_000, None, 0), (0, -5, 9_995)],
)
def test_a_margin_is_added_and_the_price_s_own_takes_its_place(
    margin: int, own: int | None, expected: int
) -> None:
    prices = book(Price(unit="pages", micro_cents=10_000, margin_bp=own), margin_bp=margin)
    assert cost(prices, 1) == expected


def test_only_outcomes_that_are_billed_cost() -> None:
    plain = book(PAGE)
    assert [cost(plain, 1, outcome=name) for name in ("succeeded", "accepted", "failed", "erased")] == [
        CENT, CENT, 0, 0,
    ]  # fmt: skip
    chosen = book(PAGE, billed={"*": ["failed"], "convert": ["lost"]})
    assert [cost(chosen, 1, outcome=name) for name in ("succeeded", "failed", "lost")] == [0, 0, CENT]
    assert [cost(chosen, 1, kind="other", outcome=name) for name in ("succeeded", "failed")] == [0, CENT]


def test_a_version_is_in_force_from_its_day_until_the_next_one() -> None:
    prices = PriceBook({
        date(2026, 3, 1): version(Price(unit="pages", micro_cents=3)),
        date(2026, 1, 1): version(Price(unit="pages", micro_cents=1)),
    })  # fmt: skip
    days = {
        "2025-12-31": 0,
        "2026-01-01": 1,
        "2026-02-28": 1,
        "2026-03-01": 3,
        "2400-01-01": 3,
        "1969-12-31": 0,
    }
    for _ in range(2):  # the second time it is remembered
        assert {on: cost(prices, 1, on=on) for on in days} == days
    assert cost(PriceBook({}), 1) == 0


def test_costs_add_up_exactly_whichever_way_they_are_put_together() -> None:
    prices = book(msgspec.convert({"unit": "tokens", "micro_cents": 1, "per": 10**9}, Price), margin_bp=1)
    row = (day("2026-01-15"), "convert", "tokens", "succeeded", 1)

    def rows(count: int) -> Iterator[tuple[int, str, str, str, int]]:
        return iter([row] * count)

    assert sum_of(prices, rows(999)) + sum_of(prices, rows(1)) == sum_of(prices, [(*row[:4], 1000)]) > 0
    assert micro_cents(sum_of(prices, rows(1))) == 0


@pytest.mark.parametrize(
    ("least", "step", "amounts", "expected"),
    [
        (2 * CENT, CENT, (0, 1, 2, 3, 10), (2, 2, 3, 4, 13)),  # cents, as an Ilios bills a document
        (2 * CENT, 0, (0, 1, 2, 3), (2, 2, 2.6, 3.9)),
        (0, CENT, (0, 1, 3), (0, 2, 4)),
        (0, 0, (1, 3), (1.3, 3.9)),
    ],
)
def test_an_attempt_costs_a_least_and_is_rounded_up_by_itself(
    least: int, step: int, amounts: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    page = Price(unit="pages", micro_cents=CENT, least_micro_cents=least, step_micro_cents=step)
    prices, on = book(page, margin_bp=3000), day("2026-01-15")
    rows = [(on, "convert", "pages", "succeeded", amount * MICRO) for amount in amounts]
    assert [micro_cents(sum_of(prices, [row])) for row in rows] == [round(cents * CENT) for cents in expected]
    assert micro_cents(sum_of(prices, rows)) == round(sum(expected) * CENT)
    assert sum_of(prices, [(*row[:3], "failed", row[4]) for row in rows]) == 0


def test_what_costs_more_than_sums_can_hold_costs_what_its_amount_says() -> None:
    dear = book(Price(unit="pages", micro_cents=10**15, step_micro_cents=7))
    row = (day("2026-01-15"), "convert", "pages", "succeeded", 10**6 * MICRO)
    assert micro_cents(sum_of(dear, [row])) == 10**21


def test_a_unit_that_has_two_prices_for_a_kind_is_found() -> None:
    again = Price(unit="pages", micro_cents=2)
    assert twice(version(PAGE, Price(unit="pages", micro_cents=2, kind="a"))) is None
    assert twice(version(PAGE, again)) == again
