"""The price book in the bucket `prices`: what was in force is never changed, so a bill stays what it was."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.events import EVENTS
from switchyard.events.ledger.prices import PriceBook, PriceVersion, twice
from switchyard.events.vocabulary.causes import QueuedCause
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, Key, Mirror, json_values
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.settings import Settings

MOST_VERSIONS: Final = 1000
OUTCOMES: Final = frozenset({*EVENTS, *QueuedCause})
"""The words for ends of attempts, and some more. One that is none is a slip: nothing would be billed."""
MANY: Final = "succeeded, accepted, rejected, failed, cancelled, expired, released or lease_lost"


def _is_day(key: Key) -> None:
    if date.fromisoformat(key[0]).isoformat() != key[0]:
        raise ValueError("a day was expected, as in 2026-01-31")


PRICES: Final = Form(
    name=subjects.BUCKET_PRICES, parts=("start",), values=json_values(PriceVersion), check=_is_day,
    gone=Gone("PURGE", rolls_up=True),
)  # fmt: skip


class Prices:
    """The versions, kept current by push.

    Args:
        nc: an open connection.
        publisher: started, on the same connection; only writes need it.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher | None, settings: Settings) -> None:
        self._bucket = Bucket(nc, PRICES, publisher, timeout_s=settings.request_timeout_s)
        self._mirror = Mirror(self._bucket, on_change=self._changed)
        self._unreadable: set[date] = set()
        self._book: PriceBook | None = None
        self.changed: Final = self._mirror.changed
        """Set with every change: clear it before you look."""
        self.load: Final = self._mirror.load
        self.run: Final = self._mirror.run

    def versions(self) -> dict[date, PriceVersion]:
        """All of them, by the day from which each is in force, earliest first."""
        return {
            date.fromisoformat(start): entry.value
            for (start,), entry in sorted(self._mirror.entries.items())
            if entry.value is not None
        }

    def book(self) -> PriceBook:
        """What units cost, by these versions."""
        if self._book is None:
            self._book = PriceBook(self.versions())
        return self._book

    def check(self, since: date, until: date) -> None:
        """Let pass what is billed of these days, if all prices that are in force on one of them can be read.

        Args:
            since: the first day.
            until: the last.

        Raises:
            UnavailableError: some cannot, as what a newer version of the program wrote.
        """
        starts = {*self.versions(), *self._unreadable}
        first = max((start for start in starts if start <= since), default=since)
        wrong = sorted(start for start in self._unreadable if first <= start <= until)
        if wrong:
            raise UnavailableError(
                f"the prices from {wrong[0]} on cannot be read by this version of the program: "
                "upgrade the gateway, or set them again"
            )

    async def put(self, start: date, version: PriceVersion) -> bool:
        """Set the prices from a day on; whether there was none that begins then.

        A day that has begun has the prices that it has: one can only be given some if it has none, or some
        that cannot be read.

        Raises:
            InvalidError: two prices are for the same unit and kind, or no attempt ends as it is billed.
            ConflictError: code `price_in_force`.
            LimitError: there are too many versions.
            UnavailableError: the broker does not answer.
        """
        double = twice(version)
        if double is not None:
            of = "" if double.kind is None else f" of kind {double.kind}"
            raise InvalidError(f"prices: {double.unit[:80]!r}{of} has two", field="prices")
        for kind, outcomes in version.billed.items():
            if wrong := sorted({*outcomes} - OUTCOMES):
                message = f"billed.{kind}: no attempt ends as {wrong[0]!r}; many end as {MANY}"
                raise InvalidError(message, field=f"billed.{kind}")
        known = await self._read()
        is_kept = any(other <= start for other in known) and start not in self._unreadable
        if start <= today() and is_kept:
            message = f"{start} has prices that are in force; others may begin tomorrow at the earliest"
            raise ConflictError(message, code="price_in_force")
        if start not in known and len(known) >= MOST_VERSIONS:
            raise LimitError(f"there are {MOST_VERSIONS} versions, the most allowed", status=422)
        try:
            revision = self._revision(start)
            entry = await self._bucket.put(start.isoformat(), version, revision=revision)
        except (VersionConflictError, AckLostError) as error:
            raise UnavailableError(f"somebody else may have set the prices of {start}: {error}") from error
        self._mirror.note(entry)
        self._forget()
        return start not in known

    async def delete(self, start: date) -> None:
        """Take back a version that is not in force yet.

        Raises:
            NotFoundError: none begins then.
            ConflictError: code `price_in_force`; it is or was in force.
            UnavailableError: the broker does not answer.
        """
        if start not in await self._read():
            raise NotFoundError(f"no prices begin on {start}", field="start")
        if start <= today():
            raise ConflictError(f"the prices of {start} are or were in force", code="price_in_force")
        self._mirror.note(await self._bucket.delete(start.isoformat()))
        self._forget()

    async def _read(self) -> dict[date, PriceVersion]:
        """The versions as they stand, which the mirror may be a moment behind."""
        for entry in await self._bucket.load():
            self._mirror.note(entry)
        return self.versions()

    def _revision(self, start: date) -> int | None:
        entry = self._mirror.entries.get((start.isoformat(),))
        return None if entry is None else entry.revision

    def _changed(self, entry: Entry[PriceVersion]) -> None:
        start = date.fromisoformat(entry.key[0])
        (self._unreadable.add if entry.is_unreadable else self._unreadable.discard)(start)
        self._forget()

    def _forget(self) -> None:
        self._book = None


def today(now: datetime | None = None) -> date:
    """The day by UTC."""
    return (now or clock.now()).date()
