"""Pushers check the servers of a registry: each of them once, whatever the servers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switchyard.services.access.sealing import KEY_FILE, Sealer
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.broker import connection
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.pusher.pusher import Pusher
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Outcome, Rhythm, ServerState
from switchyard.services.records.servers.record import Endpoints, Server
from switchyard.services.records.servers.store import Found, Servers
from tests import site
from tests.broker.shared import SharedBroker
from tests.pusher.servers import Answering, Reply, drip, never, slam
from tests.site import DEADLINE_S, Site, now

QUICK = Rhythm(shortest_s=0.4, longest_s=1.6, check_s=1.0)
TENANT = "t-health"


@pytest.fixture
async def here(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Site]:
    """Streams, and settings that allow servers on loopback."""
    values: dict[str, Any] = {"data_dir": tmp_path, "request_timeout_s": 10.0, "server_networks": PRIVATE}
    async with site.opened(Site, shared_broker.url, name="test", **values) as found:
        yield found
        registry = Servers(found.nc, found.publisher, found.settings)
        await registry.load()
        for one in registry.all(TENANT):
            await registry.delete(one.server, one.revision)


def server(url: str, **fields: Any) -> Server:
    made = Server(
        tenant=TENANT, id=new_id(), generation=new_id(), name="s", endpoints=Endpoints(url, url),
        profile="task", kinds=("k",), created_at=now(), created_by="user:a", updated_at=now(),
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


@contextlib.asynccontextmanager
async def pushers(here: Site, number: int = 1, rhythm: Rhythm = QUICK) -> AsyncIterator[list[Pusher]]:
    """So many pushers, each with a connection of its own."""
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        found, tasks = [], []
        for _ in range(number):
            nc = await connection.connect(here.nats_url, name="pusher")
            stack.push_async_callback(nc.close)
            found.append(Pusher(nc, here.settings, rhythm=rhythm))
            tasks.append(group.create_task(found[-1].run()))
        async with asyncio.timeout(DEADLINE_S):
            for one in found:
                await one.ready.wait()
        yield found
        for task in tasks:
            task.cancel()


async def until(here: Site, one: Server, wanted: Callable[[ServerState], bool]) -> ServerState:
    """The first state of a server that is as wanted."""
    registry = Servers(here.nc, here.publisher, here.settings)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            state = (await registry.get(one.tenant, one.id)).state
            if state is not None and wanted(state):
                return state
            await asyncio.sleep(0.02)


async def registered(here: Site, *servers: Server) -> Servers:
    registry = Servers(here.nc, here.publisher, here.settings)
    for one in servers:
        await registry.put(one, 0)
    return registry


async def test_a_server_goes_offline_after_three_failures_and_comes_back(here: Site) -> None:
    async with Answering(Reply()) as answering, pushers(here):
        one = server(answering.url)
        await registered(here, one)
        await until(here, one, lambda state: state.condition == "online")
        for behave, outcome in (
            (never, Outcome.TIMEOUT), (drip, Outcome.TIMEOUT), (slam, Outcome.CLOSED),
            (Reply(type="text/html"), Outcome.HTML), (Reply("302 F"), Outcome.REDIRECT),
        ):  # fmt: skip
            answering.behave = behave
            gone = await until(
                here, one,
                lambda state, outcome=outcome: (  # type: ignore[misc]
                    state.condition == "offline" and state.recent[0].outcome is outcome
                ),
            )  # fmt: skip
            assert gone.failures >= condition.OFFLINE
            answering.behave = Reply()
            await until(here, one, lambda state: state.condition != "offline")
        back = await until(here, one, lambda state: state.condition == "online")
        assert back.passes >= condition.SHAKY


async def test_each_server_is_checked_by_one_pusher_at_a_time(here: Site) -> None:
    rhythm = Rhythm(shortest_s=2.0, longest_s=2.0, check_s=5.0)
    async with Answering(Reply()) as answering, pushers(here, 4, rhythm) as running:
        ones = [server(answering.url) for _ in range(20)]
        registry = await registered(here, *ones)
        for one in ones:
            await until(here, one, lambda state: state.passes >= 4)
        made = 0
        for one in ones:
            state = (await registry.get(one.tenant, one.id)).state
            assert state is not None
            made += state.passes
        # When two check a server at once, one is stored; up to one of each is under way.
        assert len(answering.asked) <= made + len(ones)
        assert all(pusher.servers.find(TENANT, ones[0].id) for pusher in running)


async def test_a_server_out_of_use_is_left_alone(here: Site) -> None:
    async with Answering(Reply()) as quiet, Answering(Reply()) as busy, pushers(here):
        silent = Endpoints(quiet.url)
        used = server(busy.url, maintenance=True)
        await registered(here, server(quiet.url, enabled=False), server(quiet.url, endpoints=silent), used)
        await until(here, used, lambda state: state.passes >= 3)
        assert quiet.asked == []


async def test_credentials_that_cannot_be_read_make_a_server_offline_and_are_not_sent(here: Site) -> None:
    async with Answering(Reply()) as answering:
        one = server(answering.url)
        sealer = Sealer(here.settings.data_dir)
        sealed = ServerCredentials(sealer).seal(one.tenant, one.id, one.endpoints, {"X-Key": "secret"})
        one = msgspec.structs.replace(one, credentials=sealed)
        path = here.settings.data_dir / KEY_FILE
        kept = path.read_text()
        path.unlink()
        async with pushers(here):
            await registered(here, one)
            gone = await until(here, one, lambda state: state.failures >= condition.OFFLINE)
            assert gone.recent[0].outcome is Outcome.CREDENTIALS
            assert answering.asked == []
            path.write_text(kept)
            path.chmod(0o600)
            await until(here, one, lambda state: state.condition != "offline")
            assert "X-Key: secret" in answering.asked[0]


async def test_a_claim_of_a_pusher_that_died_ends(here: Site) -> None:
    rhythm = Rhythm(shortest_s=0.4, longest_s=1.6, check_s=0.3)
    async with Answering(Reply()) as answering:
        one = server(answering.url)
        registry = await registered(here, one)
        state = condition.claimed(condition.first(one, now()), "dead", now(), rhythm)
        assert await registry.claim(Found(one, 1, None), state)
        async with pushers(here, rhythm=rhythm):
            await until(here, one, lambda state: state.condition == "online")


async def test_of_two_claims_one_counts(here: Site) -> None:
    one = server("http://127.0.0.1:9000/")
    first, second = await registered(here, one), Servers(here.nc, here.publisher, here.settings)
    state = condition.first(one, now())
    claims = [condition.claimed(state, name, now(), QUICK) for name in ("p1", "p2")]
    found = Found(one, 1, None)
    both = await asyncio.gather(first.claim(found, claims[0]), second.claim(found, claims[1]))
    assert sorted(both) == [False, True]


async def test_a_claim_that_goes_by_a_state_of_before_does_not_count(here: Site) -> None:
    one = server("http://127.0.0.1:9000/")
    registry = await registered(here, one)
    found = Found(one, 1, None)
    state = condition.claimed(condition.first(one, now()), "p1", now(), QUICK)
    assert await registry.claim(found, state)
    assert not await registry.claim(found, state)  # though the registry knows the newest revision


async def test_a_state_written_with_another_clock_does_not_put_a_check_off(here: Site) -> None:
    async with Answering(Reply()) as answering, pushers(here):
        one = server(answering.url)
        registry = await registered(here, one)
        for days in (400, -400):
            then = now() + timedelta(days=days)
            await registry.change_state(
                one,
                lambda _, then=then: msgspec.structs.replace(  # type: ignore[misc]
                    condition.first(one, then), claimed_by="p", claimed_until=then
                ),
            )
            answering.asked.clear()
            await until(here, one, lambda state: state.passes > 0)
            assert answering.asked


async def test_a_server_that_is_removed_or_changed_during_a_check_keeps_no_state_of_before(
    here: Site,
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await gate.wait()
        await Reply()(reader, writer)

    async with Answering(wait) as answering, pushers(here, rhythm=Rhythm(check_s=DEADLINE_S)):
        one = server(answering.url)
        registry = await registered(here, one)
        async with asyncio.timeout(DEADLINE_S):
            await begun.wait()
        found: Found = await registry.get(one.tenant, one.id)
        again = msgspec.structs.replace(one, generation=new_id(), enabled=False)
        await registry.put(again, found.revision)
        gate.set()
        assert (await registry.get(one.tenant, one.id)).state is None


async def test_a_server_that_is_registered_otherwise_is_checked_again(here: Site) -> None:
    """What was found of it before keeps nobody from looking."""
    async with Answering(Reply()) as answering, pushers(here):
        one = server(answering.url)
        registry = await registered(here, one)
        await until(here, one, lambda state: state.condition == "online")
        found = await registry.get(one.tenant, one.id)
        again = msgspec.structs.replace(one, generation=new_id())
        await registry.put(again, found.revision)
        checked = await until(here, one, lambda state: state.condition == "online")
        assert checked.generation == again.generation
