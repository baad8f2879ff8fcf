"""What units cost: a price book in versions, each from a day on until the next one begins.

All is whole numbers. A cost is kept as a whole number of parts of a micro-cent (a millionth of a cent) until
it is shown, so that costs add up exactly whichever way attempts are put together; what is shown is rounded
half up.

A price may have a least for each attempt, and may round each up. What such an attempt costs does not follow
from a sum of amounts, so whoever adds attempts up keeps the cost of those apart, with the terms by which it
was made: `apart` and `terms` say what, and `cost` puts both together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from switchyard.events.ledger.line import MICRO
from switchyard.events.subjects import NAME_PATTERN

MOST_PRICES: Final = 1000
BASIS: Final = 10_000
"""Basis points of the whole."""
LARGEST_PER: Final = 10**9
PARTS: Final = MICRO * LARGEST_PER * BASIS
"""Parts of a micro-cent in which costs are kept."""
MOST_APART: Final = 10**18
"""Micro-cents from which on an attempt costs what its amount says, whatever the terms: so sums stay small."""
ANY: Final = "*"
BILLED: Final = ("succeeded", "accepted")
"""The outcomes that are billed where a version does not say."""

MicroCents = Annotated[int, Meta(ge=0, le=10**15)]
Step = Annotated[int, Meta(ge=0, le=10**12)]
Margin = Annotated[int, Meta(ge=-BASIS, le=100 * BASIS)]
KindName = Annotated[str, Meta(pattern=NAME_PATTERN)]
UnitName = Annotated[str, Meta(min_length=1, max_length=100)]
OutcomeName = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a unit costs.

    Args:
        unit: its name.
        micro_cents: for so many units as `per` says.
        per: how many units that buys.
        kind: the kind of jobs that it is for; None for those that have no price of their own.
        margin_bp: added to it, in hundredths of a percent, in the place of the version's own.
        least_micro_cents: what an attempt with this unit costs at least, margin and all, also one with an
            amount of 0.
        step_micro_cents: to a multiple of which what an attempt costs is rounded up; 0 for not.
    """

    unit: UnitName
    micro_cents: MicroCents
    per: Literal[1, 1000, 1000000, 1000000000] = 1
    kind: KindName | None = None
    margin_bp: Margin | None = None
    least_micro_cents: MicroCents = 0
    step_micro_cents: Step = 0


class Terms(NamedTuple):
    """What a unit costs in one attempt.

    Args:
        factor: parts of a micro-cent for a millionth of it.
        least: micro-cents, at least.
        step: micro-cents, to a multiple of which it is rounded up; 0 for not.
    """

    factor: int
    least: int = 0
    step: int = 0

    def apart(self, amount: int) -> int | None:
        """Micro-cents of an attempt whose cost is not its amount times the factor; None where it is.

        Args:
            amount: millionths of the unit.
        """
        cost = amount * self.factor
        if not (self.least or self.step) or cost >= MOST_APART * PARTS:
            return None
        if not self.step:
            return self.least if cost < self.least * PARTS else None
        steps = -(-cost // (self.step * PARTS))
        return max(self.least, steps * self.step)

    def __str__(self) -> str:
        """The same for the same terms, and "" where no attempt is apart."""
        return f"{self.factor}/{self.least}/{self.step}" if self.least or self.step else ""


NOTHING: Final = Terms(0)


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The prices from a day on.

    Args:
        prices: by unit and kind; what is named nowhere costs nothing.
        margin_bp: added to all of them, in hundredths of a percent; below 0 it is a discount.
        billed: outcomes that are billed, by kind; `*` stands for the kinds that are not named.
        note: for people.
    """

    prices: Annotated[tuple[Price, ...], Meta(max_length=MOST_PRICES)] = ()
    margin_bp: Margin = 0
    billed: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9_-]{0,62})\Z")],
            Annotated[tuple[OutcomeName, ...], Meta(max_length=20)],
        ],
        Meta(max_length=1000),
    ] = {}
    note: Annotated[str, Meta(max_length=500)] = ""


def twice(version: PriceVersion) -> Price | None:
    """A price whose unit and kind have another one in the same version."""
    seen = set()
    for price in version.prices:
        if (price.unit, price.kind) in seen:
            return price
        seen.add((price.unit, price.kind))
    return None


class _Rates:
    """A version, ready to be looked up."""

    def __init__(self, version: PriceVersion) -> None:
        self._billed = {kind: frozenset(outcomes) for kind, outcomes in version.billed.items()}
        self._others = self._billed.get(ANY, frozenset(BILLED))
        self._terms = {(price.unit, price.kind): _terms(price, version) for price in version.prices}

    def is_billed(self, kind: str, outcome: str) -> bool:
        return outcome in self._billed.get(kind, self._others)

    def terms(self, kind: str, unit: str) -> Terms:
        found = self._terms.get((unit, kind))
        return self._terms.get((unit, None), NOTHING) if found is None else found


def _terms(price: Price, version: PriceVersion) -> Terms:
    margin = version.margin_bp if price.margin_bp is None else price.margin_bp
    factor = price.micro_cents * (LARGEST_PER // price.per) * (BASIS + margin)
    return Terms(factor, price.least_micro_cents, price.step_micro_cents)


class Apart(NamedTuple):
    """The part of a sum that is not priced by its amount.

    Args:
        amount: millionths of the unit.
        cost: in micro-cents.
    """

    amount: int = 0
    cost: int = 0


NONE_APART: Final = Apart()


class PriceBook:
    """All versions.

    Args:
        versions: by the day from which each is in force.
    """

    def __init__(self, versions: Mapping[date, PriceVersion]) -> None:
        self._starts = sorted(versions)
        self._rates = [_Rates(versions[start]) for start in self._starts]
        self._by_day: dict[int, _Rates | None] = {}

    def cost(
        self, day: int, kind: str, unit: str, outcome: str, amount: int, apart: Apart = NONE_APART
    ) -> int:
        """What an amount costs that attempts used on a day, in parts of a micro-cent.

        Args:
            day: since 1970, in UTC: that on which the attempts ended.
            kind: the jobs'.
            unit: what was used.
            outcome: how the attempts ended.
            amount: millionths of the unit.
            apart: those of them, and what they cost, that `Terms.apart` says something of.
        """
        rates = self._of(day)
        if rates is None or not rates.is_billed(kind, outcome):
            return 0
        return (amount - apart.amount) * rates.terms(kind, unit).factor + apart.cost * PARTS

    def terms(self, day: int, kind: str, unit: str) -> Terms:
        """What a unit costs in an attempt of a day, if the attempt is billed."""
        rates = self._of(day)
        return NOTHING if rates is None else rates.terms(kind, unit)

    def _of(self, day: int) -> _Rates | None:
        if day not in self._by_day:
            self._by_day[day] = self._in_force(day)
        return self._by_day[day]

    def _in_force(self, day: int) -> _Rates | None:
        place = bisect_right(self._starts, date.fromordinal(date(1970, 1, 1).toordinal() + day))
        return self._rates[place - 1] if place else None


def micro_cents(cost: int) -> int:
    """A cost as it is shown: whole micro-cents, half of one rounded up."""
    return (2 * cost + PARTS) // (2 * PARTS)


def sum_of(book: PriceBook, rows: Iterable[tuple[int, str, str, str, int]]) -> int:
    """What attempts cost together, in parts of a micro-cent.

    Args:
        book: what units cost.
        rows: one for each unit of each attempt: day, kind, unit, outcome and amount.
    """
    total = 0
    for day, kind, unit, outcome, amount in rows:
        alone = book.terms(day, kind, unit).apart(amount)
        apart = NONE_APART if alone is None else Apart(amount, alone)
        total += book.cost(day, kind, unit, outcome, amount, apart)
    return total
