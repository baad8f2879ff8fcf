from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing

import pytest

from switchyard._client import watch
from switchyard.client import (
    AsyncClient,
    Client,
    ForbiddenError,
    NotFoundError,
    Queue,
    Watched,
    WorkerConnector,
)
from switchyard.services.records.workers import Offered
from tests.gateway.live.watching import Hands
from tests.gateway.rest import Gateway
from tests.switchyard.cable import cable


async def test_a_state_that_is_watched_outlives_its_connections(api: Gateway) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        async with asyncio.timeout(40), aclosing(shaky.watch_queues()) as states:
            state = await anext(states)
            assert (state.items, state.added) == ({}, [])
            for number in range(1, 7):
                await api.submit()
                while not state.items or next(iter(state.items.values())).waiting < number:
                    state = await anext(states)
                assert len(state.added) + len(state.changed) == 1
                if number % 2:
                    wire.cut()
            (queue,) = state.items.values()
            assert (queue.kind, queue.id) == ("noop", f"{queue.lane}:{queue.priority}")
        assert wire.connections >= 3


async def test_workers_are_watched_by_what_they_declare(api: Gateway, client: AsyncClient) -> None:
    hands, zone = Hands(api), api.tenant
    first = await hands.come(f"{zone}-1", zone=zone)
    await hands.come(f"{zone}-2", zone="elsewhere")
    async with asyncio.timeout(40), aclosing(client.watch_workers(labels={"zone": zone})) as states:
        state = await anext(states)
        while not state.items:
            state = await anext(states)
        assert (list(state.items), state.items[first.id].slots) == ([first.id], 2)
        await hands.go(first)
        state = await anext(states)
        assert (state.items, state.removed) == ({}, [first.id])


async def test_a_worker_s_tenants_and_connectors_are_read(api: Gateway, client: AsyncClient) -> None:
    hands, name = Hands(api), f"{api.tenant}-c"
    record = await hands.come(name, zone=name)
    await hands.beat(record, connectors=(Offered("one", "noop", 2),), tenants=(api.tenant, "other"))
    async with asyncio.timeout(40), aclosing(client.watch_workers(labels={"zone": name})) as states:
        while name not in (state := await anext(states)).items or not state.items[name].connectors:
            pass
    shown = state.items[name]
    assert (shown.tenants, shown.exclude_tenants) == ([api.tenant], [])
    assert shown.connectors == [WorkerConnector(id="one", kind="noop", slots=2)]


async def test_what_cannot_be_watched_is_refused(client: AsyncClient) -> None:
    with pytest.raises(ForbiddenError):
        await anext(client.watch_queues(tenant="*"))
    with pytest.raises(NotFoundError):
        await anext(watch.watch(client._transport, Queue, "planets", {}))


async def test_a_plain_program_watches_too(api: Gateway) -> None:
    found: list[Watched[Queue]] = []

    def program() -> None:
        with Client(api.url, api.token()) as plain:
            for state in plain.watch_queues(kinds=["noop"]):
                found.append(state)
                if state.items:
                    break

    thread: Callable[[], None] = threading.Thread(target=program).start
    thread()
    await api.submit()
    async with asyncio.timeout(40):
        while not found or not found[-1].items:
            await asyncio.sleep(0.01)
