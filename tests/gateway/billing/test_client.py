"""Prices, quotas and the disk through both clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from switchyard._client.transport import Pauses
from switchyard.client import AsyncClient, Client, Price, PriceVersion, Quota
from switchyard.errors import ConflictError, ForbiddenError, InvalidError, LimitError, NotFoundError
from switchyard.services import clock
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.rest import Gateway, gateway

LATER = date(2999, 1, 1)
VERSION = PriceVersion(
    prices=(Price(unit="pages", micro_cents=7), Price(unit='a,"b"\n', micro_cents=1, per=1000, kind="ocr")),
    margin_bp=-5, billed={"ocr": ["failed"]}, note="n",
)  # fmt: skip


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as running:
        yield running


async def test_prices_are_set_read_listed_and_taken_back(api: Gateway) -> None:
    async with AsyncClient(api.url, api.token("operator")) as client:
        made = await client.prices.put(LATER, VERSION)
        assert (made.start, made.in_force, made.version) == ("2999-01-01", False, VERSION)
        assert await client.prices.get(LATER) == made
        assert await client.prices.list() == [made]
        await client.prices.delete(LATER)
        with pytest.raises(NotFoundError):
            await client.prices.get(LATER)
        today = clock.now().date()
        assert (await client.prices.put(today, PriceVersion())).in_force
        with pytest.raises(ConflictError):
            await client.prices.put(today, VERSION)
        with pytest.raises(ConflictError):
            await client.prices.delete(today)
        twice = PriceVersion(prices=(Price(unit="x", micro_cents=1), Price(unit="x", micro_cents=2)))
        with pytest.raises(InvalidError):
            await client.prices.put(LATER, twice)
    async with AsyncClient(api.url, api.token("submitter")) as client:
        with pytest.raises(ForbiddenError):
            await client.prices.list()


async def test_quotas_are_set_read_listed_and_removed(api: Gateway) -> None:
    wanted = [Quota(unit="pages", period="day", most=3), Quota(unit="micro_cents", period="month", most=9)]
    async with AsyncClient(api.url, api.token("operator")) as client:
        made = await client.quotas.put(wanted, tenant=api.tenant)
        assert (made.tenant, made.of) == (api.tenant, "all")
        assert [(one.unit, one.period, one.most, one.used) for one in made.quotas] == [
            ("pages", "day", 3, "0"), ("micro_cents", "month", 9, "0"),
        ]  # fmt: skip
        assert all(one.ends_at is not None and one.ends_at > clock.now() for one in made.quotas)
        assert await client.quotas.put(made.quotas, tenant=api.tenant) == made
        assert await client.quotas.list(tenant=api.tenant) == [made]
        async with AsyncClient(api.url, api.token("viewer")) as other:
            assert await other.quotas.get() == made
            with pytest.raises(ForbiddenError):
                await other.quotas.delete()
        with pytest.raises(InvalidError):
            await client.quotas.put(wanted * 2, tenant=api.tenant)
        with pytest.raises(InvalidError):
            await client.quotas.put(wanted, of="../x", tenant=api.tenant)
        await client.quotas.delete(tenant=api.tenant)
        with pytest.raises(NotFoundError):
            await client.quotas.get(tenant=api.tenant)


@pytest.mark.parametrize(
    ("unit", "status", "code"), [("pages", 429, "quota_spent"), ("micro_cents", 402, "budget_spent")]
)
async def test_a_job_over_a_quota_is_refused_at_once(
    api: Gateway, monkeypatch: pytest.MonkeyPatch, unit: str, status: int, code: str
) -> None:
    async def wait(_: Pauses, error: Exception) -> None:
        raise AssertionError("it was sent again") from error

    monkeypatch.setattr(Pauses, "wait", wait)
    async with AsyncClient(api.url, api.token("operator")) as client:
        await client.quotas.put([Quota(unit=unit, period="day", most=0)], tenant=api.tenant)
    async with AsyncClient(api.url, api.token("submitter")) as client:
        with pytest.raises(LimitError) as refused:
            await client.submit("simulate")
    assert (refused.value.status, refused.value.code) == (status, code)


async def test_the_client_without_asyncio_does_the_same(api: Gateway) -> None:
    def use() -> None:
        with Client(api.url, api.token("operator")) as client:
            made = client.prices.put(LATER, VERSION)
            assert (client.prices.get(LATER), client.prices.list()) == (made, [made])
            client.prices.delete(LATER)
            quotas = client.quotas.put([Quota(unit="x", period="day", most=0)])
            assert (client.quotas.get(), client.quotas.list()) == (quotas, [quotas])
            client.quotas.delete()
            disk = client.usage.disk()
            assert "LEDGER" in {one.stream for one in disk.streams}
            assert disk.read_model_bytes > 0

    await asyncio.to_thread(use)
