"""What was used and what it costs, for both clients: `client.usage`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import date
from typing import Any

import msgspec

from switchyard._client.transport import Transport
from switchyard.billing import Disk
from switchyard.models import Bill, UsageRow

PAGE = 500
_BILL = msgspec.json.Decoder(Bill)
_DISK = msgspec.json.Decoder(Disk)


class _Page(msgspec.Struct):
    usage: list[UsageRow]
    cursor: str | None = None


class AsyncUsage:
    """What attempts have used, as the ledger holds it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def summary(
        self,
        by: Sequence[str] = ("day",),
        *,
        since: date | None = None,
        until: date | None = None,
        tenant: str | None = None,
        **filters: Sequence[str],
    ) -> list[UsageRow]:
        """Sums by unit and by what is named.

        Args:
            by: some of `day`, `tenant`, `key`, `kind`, `operation`, `engine` and `outcome`.
            since: the first day, in UTC; that of this month by default.
            until: the last day; today by default.
            tenant: whose, for an operator; `*` is all.
            filters: `key`, `kind`, `operation`, `engine`, `outcome` or `unit`, each to the values that count.
        """
        found: list[UsageRow] = []
        cursor: str | None = None
        params = [("by", ",".join(by)), ("limit", str(PAGE)), *_params(since, until, tenant, filters)]
        while True:
            place = [] if cursor is None else [("cursor", cursor)]
            answer = await self._transport.call("GET", "/v1/usage/summary", params=[*params, *place])
            page = msgspec.json.decode(answer, type=_Page)
            found += page.usage
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def bill(
        self,
        *,
        since: date | None = None,
        until: date | None = None,
        tenant: str | None = None,
        **filters: Sequence[str],
    ) -> Bill:
        """What was billed, by kind and unit, and all of it; arguments as for `summary`."""
        params = _params(since, until, tenant, filters)
        return _BILL.decode(await self._transport.call("GET", "/v1/usage/bill", params=params))

    async def disk(self) -> Disk:
        """What each stream, tenant and kind takes of the disk; for role `operator`."""
        return _DISK.decode(await self._transport.call("GET", "/v1/disk"))


class SyncUsage:
    """`AsyncUsage` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], usage: AsyncUsage) -> None:
        self._run = run
        self._usage = usage

    def summary(self, by: Sequence[str] = ("day",), **options: Any) -> list[UsageRow]:
        """Sums by unit and by what is named; see `AsyncUsage.summary`."""
        found: list[UsageRow] = self._run(self._usage.summary(by, **options))
        return found

    def bill(self, **options: Any) -> Bill:
        """What was billed; see `AsyncUsage.bill`."""
        found: Bill = self._run(self._usage.bill(**options))
        return found

    def disk(self) -> Disk:
        """What each stream, tenant and kind takes of the disk; for role `operator`."""
        found: Disk = self._run(self._usage.disk())
        return found


def _params(
    since: date | None, until: date | None, tenant: str | None, filters: dict[str, Sequence[str]]
) -> list[tuple[str, str]]:
    params = [("tenant", tenant)] if tenant is not None else []
    params += [(name, f"{day:%Y-%m-%d}") for name, day in (("from", since), ("to", until)) if day is not None]
    for name, values in filters.items():
        params += [(name, value) for value in ([values] if isinstance(values, str) else values)]
    return params
