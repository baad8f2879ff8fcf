"""Batches as they are watched, by readers of every kind."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switchyard._client.areas import batches as areas
from switchyard._client.watch import watch
from switchyard.client import AsyncClient, NotFoundError
from switchyard.services import clock
from switchyard.services.cli.client import Api
from switchyard.services.cli.commands.batching import end
from switchyard.services.cli.commands.batching.end import ended
from switchyard.services.cli.commands.usage import states
from switchyard.services.gateway.live.watch import board
from switchyard.services.ids import new_id
from switchyard.services.records.batches.record import BATCHES, Batch, BatchState
from switchyard.services.records.batches.store import Batches
from tests.broker.shared import SharedBroker
from tests.gateway.live.site import DEADLINE_S
from tests.gateway.live.watching import Folded, streamed, watching
from tests.gateway.rest import Gateway, gateway
from tests.switchyard.cable import cable

pytestmark = pytest.mark.shared_gateway


class Hands:
    """Writes what a keeper says of batches."""

    def __init__(self, api: Gateway) -> None:
        self._api = api
        self._store = Batches(api.nc, api.publisher, api.settings)

    async def make(self, tenant: str = "", **fields: Any) -> Batch:
        now = clock.now()
        batch = Batch(
            tenant=tenant or self._api.tenant, id=new_id(), state=BatchState.IN_PROGRESS, created_at=now,
            created_by="ann", input=new_id(), lines=3, window=5, deadline_at=now + timedelta(hours=1),
            **fields,
        )  # fmt: skip
        await self._store.bucket.create((batch.tenant, batch.id), batch)
        return batch

    async def change(self, batch: Batch, **fields: Any) -> None:
        await self._store.change(
            batch.tenant, batch.id, lambda found: msgspec.structs.replace(found, **fields)
        )

    async def end(self, batch: Batch) -> None:
        await self.change(
            batch, state=BatchState.COMPLETED, taken=3, succeeded=2, failed=1, ended_at=clock.now()
        )

    async def forget(self, batch: Batch) -> None:
        await self._store.bucket.delete((batch.tenant, batch.id))


async def test_batches_come_first_as_a_snapshot_and_then_as_they_change(api: Gateway) -> None:
    hands = Hands(api)
    first = await hands.make()
    async with watching(api) as folded:
        await folded.watch("batches")
        await folded.until(lambda items: set(items) == {first.id})
        second = await hands.make(name="nightly")
        await folded.until(lambda items: set(items) == {first.id, second.id})
        assert [item["name"] for item in folded.said[-1]["added"]] == ["nightly"]
        await hands.change(first, owner="k1", owned_until=clock.now())  # says nothing to who watches
        await hands.end(second)
        await folded.until(lambda items: items[second.id]["state"] == "completed")
        assert [item["id"] for item in folded.said[-1]["changed"]] == [second.id]
        shown = (await api.get(f"/v1/batches/{second.id}")).json
        del shown["job"], shown["lines"]["jobs"]
        assert folded.items[second.id] == shown
        await hands.forget(first)
        await folded.until(lambda items: set(items) == {second.id})
        assert folded.said[-1]["removed"] == [first.id]


async def test_nobody_hears_of_another_tenant_s_batch(api: Gateway) -> None:
    hands = Hands(api)
    own, strange = await hands.make(), await hands.make(tenant=api.stranger)
    operator = api.token("operator")
    async with watching(api) as folded, watching(api, operator) as everybody:
        await folded.watch("batches", ids=[own.id, strange.id])
        await everybody.watch("batches", ids=[own.id, strange.id], tenant="*")
        await everybody.until(lambda items: set(items) == {own.id, strange.id})
        await hands.end(strange)
        await everybody.until(lambda items: items[strange.id]["state"] == "completed")
        await hands.end(own)
        await folded.until(lambda items: items.get(own.id, {}).get("state") == "completed")
        assert all(strange.id not in repr(message) for message in folded.said)
        for fields in ({"tenant": api.stranger}, {"tenant": "*"}):
            await folded.reader.send("watch", id="x", what="batches", **fields)
            assert (await folded.reader.receive())["code"] == "forbidden"
    async with watching(api, operator) as asked:
        await asked.watch("batches", tenant=api.stranger)
        await asked.until(lambda items: set(items) == {strange.id})


async def test_batches_have_no_other_filter_than_their_ids(api: Gateway) -> None:
    for query in ("kind=noop", "label=a:b", "priority=1"):
        refused = await api.get(f"/v1/watch/batches?{query}")
        assert (refused.status, refused.json["field"]) == (400, query.partition("=")[0]), refused.json
    async with streamed(api, "/v1/watch/batches?id=no%20batch&id=..") as events:
        assert (await anext(events))[1]["items"] == []


async def test_a_record_that_a_newer_version_wrote_is_there_for_nobody(api: Gateway) -> None:
    hands = Hands(api)
    batch = await hands.make()
    async with watching(api) as folded:
        await folded.watch("batches")
        await folded.until(lambda items: set(items) == {batch.id})
        body = BATCHES.values.encode(batch).replace(b'"in_progress"', b'"at_rest"')
        await api.publisher.publish(BATCHES.subject((batch.tenant, batch.id)), body, {})
        await folded.until(lambda items: not items)
        assert (await api.get(f"/v1/batches/{batch.id}")).status == 404
        other = await hands.make()
        await folded.until(lambda items: set(items) == {other.id})


async def test_a_batch_that_ends_while_the_gateway_restarts_is_heard_of(
    api: Gateway, shared_broker: SharedBroker, tmp_path: Path
) -> None:
    hands = Hands(api)
    async with asyncio.timeout(DEADLINE_S), cable("http://127.0.0.1:1") as wire:
        async with gateway(shared_broker.url, tmp_path) as first:
            token = first.token(tenant=api.tenant)
            wire.leads_to(first.url)
            batch, other = await hands.make(), await hands.make()
            client = AsyncClient(wire.url, token, retries=60)
            waiting = asyncio.create_task(client.batches.wait(batch.id))
            command = asyncio.create_task(waited(Api(wire.url, token), batch))
            async with watching(first, token) as folded:
                await folded.watch("batches")
                await folded.until(lambda items: set(items) == {batch.id, other.id})
                before = folded.revision
        await hands.end(batch)
        async with client, gateway(shared_broker.url, tmp_path) as second:
            wire.leads_to(second.url)
            assert (await waiting).lines.succeeded == 2
            assert (await command)["lines"]["succeeded"] == 2
            async with watching(second, token) as again:
                await again.watch("batches", after=before)
                await again.until(lambda items: items[batch.id]["state"] == "completed")
                assert set(again.items) == {batch.id, other.id}


async def waited(api: Api, batch: Batch) -> dict[str, Any]:
    """What a command does that waits for a batch."""
    async with api:
        return await ended(api, {"id": batch.id, "state": batch.state.value})


async def test_who_waits_hears_of_the_end_though_connections_break(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (areas, end):
        monkeypatch.setattr(module, "LOOK_S", 3600.0)  # so whoever looks again and again comes too late
    hands = Hands(api)
    batch = await hands.make()
    async with (
        asyncio.timeout(DEADLINE_S),
        cable(api.url) as wire,
        AsyncClient(wire.url, api.token(), retries=60) as client,
    ):
        waiting = asyncio.create_task(client.batches.wait(batch.id))
        command = asyncio.create_task(waited(Api(wire.url, api.token()), batch))
        states: list[areas.Batch] = []
        async for state in client.batches.watch(ids=[batch.id]):
            states.append(state.items[batch.id])
            if len(states) == 3:
                break
            wire.cut()
            await hands.change(batch, taken=len(states))
        wire.cut()
        await hands.end(batch)
        found = await waiting
        assert (found.state, found.lines.succeeded, found.lines.failed) == ("completed", 2, 1)
        assert (await command)["state"] == "completed"
        assert [one.lines.waiting for one in states] == [3, 2, 1]


async def test_who_waits_for_a_batch_that_is_forgotten_hears_of_it(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(areas, "LOOK_S", 3600.0)
    hands = Hands(api)
    batch = await hands.make()
    async with asyncio.timeout(DEADLINE_S), AsyncClient(api.url, api.token()) as client:
        waiting = asyncio.create_task(client.batches.wait(batch.id))
        async for state in client.batches.watch(ids=[batch.id]):
            if batch.id in state.items:
                break
        await hands.forget(batch)
        with pytest.raises(NotFoundError):
            await waiting


async def test_who_waits_at_a_gateway_that_says_nothing_of_batches_looks_again_and_again(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for module in (areas, end):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(areas, "watch", partial(unknown, asked))
    monkeypatch.setattr(end, "states", partial(also_unknown, asked))
    hands = Hands(api)
    batch = await hands.make()
    async with asyncio.timeout(DEADLINE_S), AsyncClient(api.url, api.token()) as client:
        waiting = asyncio.create_task(client.batches.wait(batch.id))
        command = asyncio.create_task(waited(Api(api.url, api.token()), batch))
        while asked.count("client") < 3 or asked.count("command") < 3:
            await asyncio.sleep(0.01)
        await hands.end(batch)
        assert (await waiting).state == "completed"
        assert (await command)["state"] == "completed"


async def test_who_waits_though_its_tenant_watches_all_that_it_may_looks_again_and_again(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "VIEWS_OF_SCOPE", 2)
    for module in (areas, end):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    hands = Hands(api)
    batch, other = await hands.make(), await hands.make(tenant=api.stranger)
    async with watching(api) as folded, AsyncClient(api.url, api.token()) as client:
        for number in range(2):
            await Folded(folded.reader, f"f{number}").watch("batches", ids=[f"x{number}"])
        await folded.reader.send("watch", id="w", what="batches", ids=[batch.id])
        assert (await folded.reader.receive())["code"] == "too_many_filters"
        refused = await api.get(f"/v1/watch/batches?id={batch.id}")
        assert (refused.status, refused.json["code"]) == (429, "too_many_filters")
        waiting = asyncio.create_task(client.batches.wait(batch.id))
        command = asyncio.create_task(waited(Api(api.url, api.token()), batch))
        async with watching(api, api.token(tenant=api.stranger)) as stranger:
            await stranger.watch("batches", ids=[other.id])
            await stranger.until(lambda items: set(items) == {other.id})
        await hands.end(batch)
        assert (await waiting).state == "completed"
        assert (await command)["state"] == "completed"


def unknown(asked: list[str], transport: Any, kind: Any, _: str, selection: Any, **options: Any) -> Any:
    """What a client hears of a gateway that knows no batches."""
    asked.append("client")
    return watch(transport, kind, "planets", selection, **options)


def also_unknown(asked: list[str], api: Api, _: str, wish: Any) -> Any:
    asked.append("command")
    return states(api, "planets", wish)
