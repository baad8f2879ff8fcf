from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.live.watch import board
from tests.gateway.live.servers import Servers, watched
from tests.gateway.live.site import DEADLINE_S, LiveGateway, eventually, live_gateway
from tests.gateway.live.watching import Folded

READERS = 200


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    monkeypatch.setattr(board, "PAUSE_S", 0.05)
    return Servers()


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path, servers: Servers) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway, watched(gateway, servers):
        yield gateway


async def test_another_kind_of_things_is_watched_by_its_own_page_alone(
    gateway: LiveGateway, servers: Servers
) -> None:
    servers.numbers["other/b"] = 1
    folded = Folded(await gateway.reader())
    await folded.watch("servers")
    assert set(folded.items) == {"acme/a"}
    everybody = Folded(await gateway.reader(gateway.token("acme", "operator")))
    await everybody.watch("servers", labels={"n": "1"})
    assert set(everybody.items) == {"other/b"}
    servers.put(c=1)
    assert set(await everybody.until(lambda items: len(items) == 2)) == {"other/b", "acme/c"}


async def test_many_readers_are_served_by_one_reading(gateway: LiveGateway, servers: Servers) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as gateway.http:
        await _serve_many(gateway, servers)


async def _serve_many(gateway: LiveGateway, servers: Servers) -> None:
    readers = [Folded(await gateway.reader()) for _ in range(READERS)]
    for folded in readers:
        await folded.watch("servers")
    before = servers.asked
    for n in range(1, 6):
        servers.put(a=n)
        for folded in readers:
            await folded.until(lambda items, n=n: items["acme/a"]["n"] == n)  # type: ignore[misc]
    assert servers.asked - before == 5
    assert servers.runs == 1
    assert {len(folded.said) for folded in readers} == {6}
    for folded in readers:
        await folded.reader.socket.close()
    await eventually(lambda: gateway.door.connections == 0)


async def test_a_slow_reader_gets_the_newest_state_and_no_backlog(
    gateway: LiveGateway, servers: Servers
) -> None:
    servers.padding = "x" * 1_000_000  # so that what it does not read waits in the gateway
    slow, quick = Folded(await gateway.reader(max_msg_size=0)), Folded(await gateway.reader(max_msg_size=0))
    await slow.watch("servers")
    await quick.watch("servers")
    for n in range(1, 101):
        servers.put(a=n)
        await quick.until(lambda items, n=n: items["acme/a"]["n"] == n)  # type: ignore[misc]
    assert len(quick.said) == 101
    await slow.until(lambda items: items["acme/a"]["n"] == 100)
    assert len(slow.said) < 60
    assert gateway.feed.slow_readers == 0


async def test_what_is_not_known_now_is_said_and_what_was_known_stays(
    gateway: LiveGateway, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "RETRY_S", 0.05)
    folded = Folded(await gateway.reader())
    await folded.watch("servers")
    servers.is_known = False
    servers.put(a=1)
    asked = servers.asked
    await eventually(lambda: servers.asked > asked + 1)
    await folded.reader.send("watch", id="new", what="servers", ids=["acme/a"])
    refused = await folded.reader.receive()
    assert (refused["id"], refused["code"]) == ("new", "unavailable")
    servers.is_known = True
    await folded.until(lambda items: items["acme/a"]["n"] == 1)
    assert [message["type"] for message in folded.said] == ["snapshot", "changes"]


async def test_filters_are_as_many_as_they_may_be(
    gateway: LiveGateway, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "VIEWS_OF_SCOPE", 2)
    folded = Folded(await gateway.reader())
    for number, ids in enumerate((["x", "y"], ["y", "x"], ["z"])):  # the first two are the same
        await Folded(folded.reader, f"f{number}").watch("servers", ids=ids)
    await folded.reader.send("watch", id="w", what="servers", ids=["v"])
    assert (await folded.reader.receive())["code"] == "too_many_filters"
    other = Folded(await gateway.reader(gateway.token("other")))
    await other.watch("servers", ids=["v"])


async def test_nothing_is_read_once_all_have_left(
    gateway: LiveGateway, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "LINGER_S", 0.05)
    folded = Folded(await gateway.reader())
    await folded.watch("servers")
    await folded.reader.send("unsubscribe", id="w")
    await eventually(lambda: servers._changed is None)
    await Folded(folded.reader, "again").watch("servers")
    assert servers.runs == 2


async def test_who_may_come_no_more_watches_no_more(gateway: LiveGateway, servers: Servers) -> None:
    gateway.settings.__dict__["socket_ping_s"] = 0.2
    token = gateway.token()
    folded = Folded(await gateway.reader(token))
    await folded.watch("servers")
    await gateway.revoke(token)
    assert (await folded.reader.closed())[0] == 4401
    view = next(iter(gateway.door.boards._boards["servers"]._views.values()))
    await eventually(lambda: not view.watchers)


async def test_a_gateway_that_stops_says_so(gateway: LiveGateway, servers: Servers) -> None:
    folded = Folded(await gateway.reader())
    await folded.watch("servers")
    gateway.door.close()
    async with asyncio.timeout(DEADLINE_S):
        assert (await folded.reader.closed())[0] == 1001
