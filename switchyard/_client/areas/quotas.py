"""Quotas, for both clients: `client.quotas`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncQuotas.list` hides it
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.billing import Quota, Quotas

ALL = "all"
_ONE = msgspec.json.Decoder(Quotas)


class _All(msgspec.Struct):
    quotas: list_[Quotas]


class AsyncQuotas:
    """What a tenant and its API keys may use in a day or a month; only role `operator` changes them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, quotas: Sequence[Quota], *, of: str = ALL, tenant: str | None = None) -> Quotas:
        """Set all quotas of a tenant or of a key; those that it had go.

        Args:
            quotas: 1 to 50, of each unit and period one at most; `used` and `ends_at` of them do not count.
            of: the id of an API key; all of the tenant by default.
            tenant: whose; that of the token by default.

        Raises:
            InvalidError: `of` is no id of a key, or a quota cannot be.
        """
        body = {"quotas": [{"unit": one.unit, "period": one.period, "most": one.most} for one in quotas]}
        raw = await self._transport.call("PUT", _path(of), json=body, params=_whose(tenant), again=True)
        return _ONE.decode(raw)

    async def get(self, of: str = ALL, *, tenant: str | None = None) -> Quotas:
        """Those of a tenant or of a key, with what was used."""
        return _ONE.decode(await self._transport.call("GET", _path(of), params=_whose(tenant)))

    async def list(self, *, tenant: str | None = None) -> list_[Quotas]:
        """Those of a tenant and of its keys, with what was used."""
        raw = await self._transport.call("GET", "/v1/quotas", params=_whose(tenant))
        return msgspec.json.decode(raw, type=_All).quotas

    async def delete(self, of: str = ALL, *, tenant: str | None = None) -> None:
        """Let a tenant or a key use any amount."""
        await self._transport.call("DELETE", _path(of), params=_whose(tenant), again=False)


class SyncQuotas:
    """`AsyncQuotas` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], quotas: AsyncQuotas) -> None:
        self._run = run
        self._quotas = quotas

    def put(self, quotas: Sequence[Quota], *, of: str = ALL, tenant: str | None = None) -> Quotas:
        """Set all quotas of a tenant or of a key; see `AsyncQuotas.put`."""
        made: Quotas = self._run(self._quotas.put(quotas, of=of, tenant=tenant))
        return made

    def get(self, of: str = ALL, *, tenant: str | None = None) -> Quotas:
        """Those of a tenant or of a key, with what was used."""
        found: Quotas = self._run(self._quotas.get(of, tenant=tenant))
        return found

    def list(self, *, tenant: str | None = None) -> list_[Quotas]:
        """Those of a tenant and of its keys, with what was used."""
        found: list_[Quotas] = self._run(self._quotas.list(tenant=tenant))
        return found

    def delete(self, of: str = ALL, *, tenant: str | None = None) -> None:
        """Let a tenant or a key use any amount."""
        self._run(self._quotas.delete(of, tenant=tenant))


def _path(of: str) -> str:
    return f"/v1/quotas/{quote(of, safe='')}"


def _whose(tenant: str | None) -> dict[str, str]:
    return {} if tenant is None else {"tenant": tenant}
