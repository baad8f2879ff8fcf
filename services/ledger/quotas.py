"""What a tenant, or one of its API keys, may use in a day or a month: the bucket `quotas`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.ledger.line import MOST
from switchyard.events.ledger.prices import UnitName
from switchyard.services.broker.bucket import Bucket, Form, Gone, Key, Mirror, json_values
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.keys import ID
from switchyard.services.settings import Settings

ALL: Final = "all"
COST: Final = "micro_cents"
"""The unit of a budget: what is billed."""

Most = Annotated[int, Meta(ge=0, le=MOST * 10**6)]


class Allowed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One quota.

    Args:
        unit: the one that it bounds; `micro_cents` is what is billed.
        period: a day or a month of UTC.
        most: whole units; once so many were used in the period, no job is taken in.
    """

    unit: UnitName
    period: Literal["day", "month"]
    most: Most


class Quota(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """All quotas of a tenant, or of a key."""

    quotas: Annotated[tuple[Allowed, ...], Meta(min_length=1, max_length=50)]


def _are_names(key: Key) -> None:
    if not subjects.is_name(key[0]) or not (key[1] == ALL or ID.fullmatch(key[1])):
        raise ValueError("a tenant, and `all` or the id of a key, were expected")


QUOTAS: Final = Form(
    name=subjects.BUCKET_QUOTAS, parts=("tenant", "of"), values=json_values(Quota), check=_are_names,
    gone=Gone("PURGE", rolls_up=True),
)  # fmt: skip


class Quotas:
    """All of them, kept current by push.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._bucket = Bucket(nc, QUOTAS, publisher, timeout_s=settings.request_timeout_s)
        self._mirror = Mirror(self._bucket)
        self.load: Final = self._mirror.load
        self.run: Final = self._mirror.run

    def of(self, tenant: str, of: str = ALL) -> tuple[Allowed, ...]:
        """Those of a tenant, or of one of its keys; none where it may use any amount."""
        found = self._mirror.get((tenant, of))
        return () if found is None else found.quotas

    def all(self, tenant: str) -> dict[str, tuple[Allowed, ...]]:
        """Those of a tenant and of its keys, by `all` and the keys' ids."""
        return {
            key[1]: entry.value.quotas
            for key, entry in sorted(self._mirror.entries.items())
            if key[0] == tenant and entry.value is not None
        }

    async def put(self, tenant: str, of: str, quota: Quota) -> None:
        """Set all of a tenant, or of a key.

        Raises:
            InvalidError: `of` is neither, or two are of the same unit and period.
            UnavailableError: the broker does not answer.
        """
        _check(of)
        places = [(one.unit, one.period) for one in quota.quotas]
        if len(places) != len(set(places)):
            raise InvalidError("quotas: two are of the same unit and period", field="quotas")
        self._mirror.note(await self._bucket.put((tenant, of), quota))

    async def delete(self, tenant: str, of: str) -> None:
        """Let a tenant, or a key, use any amount.

        Raises:
            InvalidError: `of` is neither.
            NotFoundError: it has no quotas.
            UnavailableError: the broker does not answer.
        """
        _check(of)
        if not self.of(tenant, of):
            raise NotFoundError(f"tenant {tenant} has no quotas for {of}", field="of")
        self._mirror.note(await self._bucket.delete((tenant, of)))


def _check(of: str) -> None:
    if of != ALL and ID.fullmatch(of) is None:
        raise InvalidError(f"of: {ALL!r} or the id of an API key was expected", field="of")
