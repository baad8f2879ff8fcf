"""The tokens of a limit follow its record, and none is lost when others are taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.limit_tokens import Grant, Tokens
from switchyard.services.records.limits import Limit, Limits
from tests.broker.raw_nats import raw_publisher
from tests.worker.site import Site, open_site

KEY = "acme.gpu"
PLACES = 4
DEADLINE_S = 90.0


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


@pytest.fixture
async def limits(site: Site) -> AsyncIterator[Limits]:
    async with Publisher(site.nc) as publisher:
        limits = Limits(site.nc, publisher, site.settings)
        await limits.put(KEY, limit(PLACES))
        yield limits


def limit(places: int) -> Limit:
    return Limit(concurrency=places, per_minute=None, changed_at=datetime.now(UTC))


async def opened(site: Site) -> Tokens:
    tokens = Tokens(site.nc, site.settings, wake=lambda: None)
    await tokens.load()
    await tokens.puller.start()
    return tokens


async def hand_back(tokens: Tokens, grants: list[Grant]) -> None:
    for grant in grants:
        await tokens.end(grant, started=False)


async def until_taken(tokens: Tokens, wanted: int) -> list[Grant]:
    """So many places, which may have to come back first."""
    grants: list[Grant] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(grants) < wanted:
            grants += await tokens.take((KEY,), wanted - len(grants))
            for grant in grants:
                await tokens.renew(grant)
            await asyncio.sleep(0.05)
    return grants


async def restart(site: Site, broker: NatsServer) -> None:
    await broker.restart()
    async with asyncio.timeout(DEADLINE_S):
        while not site.nc.is_connected:
            await asyncio.sleep(0.05)


async def places(site: Site) -> dict[str, int]:
    query = {"subjects_filter": subjects.token("run", KEY, "*")}
    info = await api(site.nc, f"STREAM.INFO.{subjects.TOKENS}", query, timeout_s=20)
    return info["state"].get("subjects") or {}


def own(number: int) -> dict[str, int]:
    return {subjects.token("run", KEY, place): 1 for place in range(number)}


async def test_no_place_is_lost_with_tokens_that_were_taken_away_and_a_restart_of_the_broker(
    site: Site, limits: Limits, broker: NatsServer
) -> None:
    tokens = await opened(site)
    for name in ("junk", "99999"):
        async with raw_publisher(site.url) as publisher:
            await publisher.publish(subjects.token("run", KEY, name).encode())
        await hand_back(tokens, await tokens.take((KEY,), PLACES + 1))
        await limits.apply(KEY)
    assert await places(site) == own(PLACES)
    await tokens.puller.stop()

    await restart(site, broker)
    tokens = await opened(site)
    await until_taken(tokens, PLACES)
    assert await tokens.take((KEY,), 1) == []
    await tokens.puller.stop()


async def test_places_that_the_broker_takes_for_acknowledged_come_back(
    site: Site, limits: Limits, broker: NatsServer
) -> None:
    tokens = await opened(site)
    consumer = f"{subjects.TOKENS}.{subjects.token_consumer('run', KEY)}"
    info: dict[str, Any] = {}
    while info.get("num_pending") != 0 or info["num_ack_pending"] != 0:  # until all are lost
        for name in ("junk", "99999"):
            token = subjects.token("run", KEY, name)
            await site.nc.request(token, b"", timeout=5)
            await hand_back(tokens, await tokens.take((KEY,), PLACES + 1))
            await site.nc.flush()
            await api(site.nc, f"STREAM.PURGE.{subjects.TOKENS}", {"filter": token}, timeout_s=20)
        await restart(site, broker)
        info = await api(site.nc, f"CONSUMER.INFO.{consumer}", timeout_s=20)
    await limits.apply(KEY)
    taken = await until_taken(tokens, PLACES)
    await limits.apply(KEY)  # they are in use, not lost
    for grant in taken:
        await tokens.renew(grant)
    assert await tokens.take((KEY,), 1) == []
    await tokens.puller.stop()


async def test_a_lower_limit_leaves_the_places_that_it_has(site: Site, limits: Limits) -> None:
    tokens = await opened(site)
    await hand_back(tokens, await tokens.take((KEY,), PLACES))
    await limits.put(KEY, limit(1))
    assert await places(site) == own(1)
    await until_taken(tokens, 1)
    assert await tokens.take((KEY,), 1) == []
    await tokens.puller.stop()


@pytest.mark.parametrize("name", ["*", "0", "junk", "\x00", "a\x0bb"])
async def test_what_a_stranger_adds_is_taken_away_and_nothing_else(
    site: Site, limits: Limits, name: str
) -> None:
    async with raw_publisher(site.url) as publisher:
        for _ in range(2):
            await publisher.publish(subjects.token("run", KEY, name).encode())
    assert await places(site) != own(PLACES)
    await limits.apply(KEY)
    assert await places(site) == own(PLACES)
    tokens = await opened(site)
    assert len(await tokens.take((KEY,), PLACES + 1)) == PLACES
    await tokens.puller.stop()
