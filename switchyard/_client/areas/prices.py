"""The price book, for both clients: `client.prices`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncPrices.list` hides it
from collections.abc import Callable, Coroutine
from datetime import date
from typing import Any

import msgspec

from switchyard._client.transport import Transport
from switchyard.billing import Prices, PriceVersion

_ONE = msgspec.json.Decoder(Prices)


class _Book(msgspec.Struct):
    prices: list_[Prices]


class AsyncPrices:
    """What units cost, in versions that each hold from a day on; for role `operator`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, start: date, version: PriceVersion) -> Prices:
        """Set all prices from the start of a day in UTC until the next version begins.

        Raises:
            ConflictError: the day has begun and has prices.
            InvalidError: two prices are for the same unit and kind, or one cannot be.
        """
        body = msgspec.to_builtins(version)
        return _ONE.decode(await self._transport.call("PUT", _path(start), json=body, again=True))

    async def get(self, start: date) -> Prices:
        """The version that begins on a day."""
        return _ONE.decode(await self._transport.call("GET", _path(start)))

    async def list(self) -> list_[Prices]:
        """All versions, the earliest first."""
        return msgspec.json.decode(await self._transport.call("GET", "/v1/prices"), type=_Book).prices

    async def delete(self, start: date) -> None:
        """Take back a version that has not begun.

        Raises:
            ConflictError: it has.
        """
        await self._transport.call("DELETE", _path(start), again=False)


class SyncPrices:
    """`AsyncPrices` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], prices: AsyncPrices) -> None:
        self._run = run
        self._prices = prices

    def put(self, start: date, version: PriceVersion) -> Prices:
        """Set all prices from a day on; see `AsyncPrices.put`."""
        made: Prices = self._run(self._prices.put(start, version))
        return made

    def get(self, start: date) -> Prices:
        """The version that begins on a day."""
        found: Prices = self._run(self._prices.get(start))
        return found

    def list(self) -> list_[Prices]:
        """All versions, the earliest first."""
        found: list_[Prices] = self._run(self._prices.list())
        return found

    def delete(self, start: date) -> None:
        """Take back a version that has not begun."""
        self._run(self._prices.delete(start))


def _path(start: date) -> str:
    return f"/v1/prices/{start:%Y-%m-%d}"
