"""What lists of tasks go by, in the order of each list that was asked for, so that a page is cut out of it.

A card is replaced when its task's document or job has changed; a list is made when it is first asked for,
and kept up with every card after that.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from switchyard.services.records.entries.index import Mark, Row

MOST_CARDS: Final = 100_000
"""Cards of all scopes that a process keeps; about a kilobyte each with its place in lists."""
MOST_LISTS: Final = 64
"""Lists of a scope that are kept."""
MOST_PLACES: Final = 500_000
"""Places in the lists of a scope that are kept, together."""

Filters = Mapping[str, Sequence[str] | None]
"""By field, the values of which a task has one; none, or none at all, asks for nothing."""
Place = tuple[str, ...]


class Card(NamedTuple):
    """A task as lists see it, and where its document stands."""

    row: Row
    job_id: str
    id: str
    queue: str
    priority: str
    claimed_by: str | None
    orchestrator_id: str | None
    needs_intervention: str
    created_at: str
    role: Any
    type: Any
    project_id: Any
    flow: Any
    hooks: str | None
    pr_number: Any


class CardList:
    """The cards that have some values, in order.

    Args:
        wanted: by field, the values of which a card has one.
        by_priority: the most urgent first and then the oldest, else the newest first.
    """

    def __init__(self, wanted: Mapping[str, Collection[str]], *, by_priority: bool) -> None:
        self._wanted = wanted
        self._by_priority = by_priority
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._places)

    def fill(self, cards: Iterable[Card]) -> None:
        """Put in all that there are."""
        self._places = sorted(self._place(card) for card in cards if self._has(card))

    def put(self, card: Card) -> None:
        """Put in a card, if it is to be there."""
        if self._has(card):
            insort(self._places, self._place(card))

    def drop(self, card: Card) -> None:
        """Take out a card, as it was put in."""
        if self._has(card):
            del self._places[bisect_left(self._places, self._place(card))]

    def digests(self, offset: int, limit: int) -> list[str]:
        """Those of a page."""
        count = len(self._places)
        if self._by_priority:
            page = self._places[offset : offset + limit]
        else:
            page = self._places[max(count - offset - limit, 0) : max(count - offset, 0)][::-1]
        return [place[-1] for place in page]

    def _has(self, card: Card) -> bool:
        return all(getattr(card, name) in values for name, values in self._wanted.items())

    def _place(self, card: Card) -> Place:
        by_time = (card.created_at, card.id, card.row.digest)
        return (card.priority, *by_time) if self._by_priority else by_time


class ScopeCards:
    """The cards of a scope, by the digest of their documents.

    Attributes:
        lock: held by who brings them up to date.
        mark: up to where the documents were followed.
        database_id: the read model of which `seq` was said.
        seq: up to where its jobs were followed.
        digests: by job, the digest of its task's document.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.mark: Mark | None = None
        self.database_id = ""
        self.seq = 0
        self.digests: dict[str, str] = {}
        self._cards: dict[str, Card] = {}
        self._lists: dict[Any, CardList] = {}

    def __len__(self) -> int:
        return len(self._cards)

    def clear(self) -> None:
        """Begin again."""
        self.mark, self.database_id, self.seq = None, "", 0
        self.digests, self._cards, self._lists = {}, {}, {}

    def put(self, digest: str, card: Card | None) -> None:
        """Put a card in the place of the one of its digest; None takes that out."""
        old = self._cards.pop(digest, None)
        for each in self._lists.values():
            if old is not None:
                each.drop(old)
            if card is not None:
                each.put(card)
        if card is not None:
            self._cards[digest] = card

    def drop(self, digest: str) -> None:
        """Forget a task."""
        card = self._cards.get(digest)
        self.put(digest, None)
        if card is not None:
            self.digests.pop(card.job_id, None)

    def count(self, wanted: Filters) -> int:
        """How many have the values that are asked for."""
        return len(self._list(wanted, by_priority=False))

    def page(self, wanted: Filters, offset: int, limit: int, *, by_priority: bool = False) -> list[Card]:
        """Those of a page."""
        digests = self._list(wanted, by_priority=by_priority).digests(offset, limit)
        return [self._cards[digest] for digest in digests]

    def all(self, wanted: Filters, *, by_priority: bool = False) -> list[Card]:
        """All that have the values that are asked for."""
        return self.page(wanted, 0, len(self._cards), by_priority=by_priority)

    def _list(self, wanted: Filters, *, by_priority: bool) -> CardList:
        """The list, which then stands last among those that were asked for."""
        values = {name: tuple(sorted(set(some))) for name, some in wanted.items() if some}
        key = (by_priority, frozenset(values.items()))
        found = self._lists.pop(key, None)
        if found is None:
            found = CardList(values, by_priority=by_priority)
            found.fill(self._cards.values())
        self._lists[key] = found
        places = sum(map(len, self._lists.values()))
        for name in list(self._lists)[:-1]:
            if len(self._lists) <= MOST_LISTS and places <= MOST_PLACES:
                break
            places -= len(self._lists.pop(name))
        return found


class Cards:
    """The cards of the scopes that were asked for last."""

    def __init__(self) -> None:
        self._scopes: dict[str, ScopeCards] = {}

    def of(self, tenant: str) -> ScopeCards:
        """Those of a scope; the scopes that nobody has asked for for the longest time are forgotten."""
        found = self._scopes.pop(tenant, None)
        if found is None:
            found = ScopeCards()
        self._scopes[tenant] = found
        total = sum(map(len, self._scopes.values()))
        for name in list(self._scopes)[:-1]:
            if total <= MOST_CARDS:
                break
            total -= len(self._scopes.pop(name))
        return found
