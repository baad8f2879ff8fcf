from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from switchyard.events.commands import Archive, Submit
from switchyard.events.errors import UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.live import index, labels, replay
from switchyard.services.gateway.live.index import Pairs
from switchyard.services.ids import new_id
from tests.gateway.live.site import (
    DEADLINE_S,
    LIFE,
    LiveGateway,
    Reader,
    live_gateway,
    names,
    now,
    seqs,
)

EU = {"zone": "eu"}


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


async def jobs_of(reader: Reader, count: int) -> list[str]:
    return [message["event"]["job_id"] for message in await reader.events(count)]


async def test_a_subscription_by_label_gets_the_jobs_that_have_all_of_them(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe("one", labels=EU)
    await reader.subscribe("both", labels={"zone": "eu", "team": "ml"}, events=["succeeded"])
    await reader.subscribe("kind", labels=EU, kinds=["convert"], events=["succeeded"])
    await reader.subscribe("other", labels={"zone": "us"})
    await gateway.live(zone="eu-2", team="ml")
    await gateway.live()
    first = await gateway.live(zone="eu", team="ml")
    second = await gateway.live(kind="convert", zone="eu")
    got = await reader.events(6)
    assert names(got) == LIFE * 2
    assert [message["event"]["job_id"] for message in got] == [first.id] * 3 + [second.id] * 3
    assert [set(message["ids"]) for message in got] == [
        {"one"}, {"one"}, {"one", "both"}, {"one"}, {"one"}, {"one", "kind"},
    ]  # fmt: skip


@pytest.mark.parametrize("known_bytes", [0, labels.KNOWN_BYTES], ids=["nothing remembered", "all remembered"])
async def test_no_event_is_missing_of_a_job_that_began_long_ago(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, known_bytes: int
) -> None:
    monkeypatch.setattr(labels, "KNOWN_BYTES", known_bytes)
    old = await gateway.submit(zone="eu")
    strange = await gateway.submit(zone="us")
    await gateway.reached(strange.seq)
    gateway.feed.recent.clear(gateway.feed.head)
    reader = await gateway.reader()
    await reader.subscribe(labels=EU)
    await gateway.complete(await gateway.lease(strange))
    await gateway.complete(await gateway.lease(old))
    young = await gateway.live(zone="eu")
    assert await jobs_of(reader, 5) == [old.id] * 2 + [young.id] * 3


async def test_a_job_that_was_scheduled_or_archived_keeps_its_labels(gateway: LiveGateway) -> None:
    start_at = now() + timedelta(hours=1)
    spec = JobSpec(kind="simulate", tenant="acme", lane=LaneId("simulate-1"), labels=EU, start_at=start_at)
    later, _ = await gateway.store.transition(Job(id=new_id()), Submit(now=now(), job=spec), actor="user:a")
    ended = await gateway.live(zone="eu")
    archived, _ = await gateway.store.transition(ended, Archive(now=now()), actor="keeper")
    await gateway.reached(archived.seq)
    found = await gateway.feed.labels.of([later.id, ended.id, new_id()])
    assert [dict(pairs) for pairs in found.values()] == [EU, EU, {}]


@pytest.mark.parametrize("recent", [0, 5, 4096], ids=["from the log", "from both", "from memory"])
@pytest.mark.parametrize("known_bytes", [0, labels.KNOWN_BYTES], ids=["nothing remembered", "all remembered"])
async def test_resuming_by_label_gives_exactly_what_came_after_the_cursor(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, recent: int, known_bytes: int
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", recent)
    monkeypatch.setattr(replay, "PAGE", 2)
    monkeypatch.setattr(labels, "KNOWN_BYTES", known_bytes)
    monkeypatch.setattr(labels, "JOBS_AT_ONCE", 1)
    for number in range(6):
        last = await gateway.live(zone=("us", "eu")[number % 2])
    await gateway.reached(last.seq)
    expected = [number + 1 for number in range(last.seq) if (number // 3) % 2]
    reader = await gateway.reader()
    for seq in range(last.seq + 1):
        got = await reader.subscribe(
            f"s{seq}", after=gateway.feed.cursor(seq), progress=False, labels=EU, all=True
        )
        assert seqs(got) == [each for each in expected if each > seq], seq
        assert got[-1] == {"type": "caught_up", "id": f"s{seq}", "cursor": gateway.feed.cursor(last.seq)}


async def test_resuming_by_label_under_heavy_publishing_leaves_no_gap_and_no_duplicate(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", 8)
    monkeypatch.setattr(replay, "PAGE", 7)
    monkeypatch.setattr(labels, "KNOWN_BYTES", 4 * labels.JOB_BYTES)

    async def write() -> None:
        for number in range(30):
            await gateway.live(zone=("us", "eu")[number % 2])

    writers = [gateway.tasks.create_task(write()) for _ in range(4)]
    cursor = gateway.feed.cursor(0)
    got: list[dict[str, Any]] = []
    while len(got) < 4 * 15 * 3:
        reader = await gateway.reader()
        await reader.send("subscribe", id="s", labels=EU, after=cursor)
        for _ in range(min(25, 180 - len(got))):
            message = await reader.until("event")
            got.append(message)
            cursor = message["cursor"]
        await reader.socket.close()
    await asyncio.gather(*writers)
    assert seqs(got) == sorted(set(seqs(got)))
    assert names(got).count("succeeded") == 60


async def test_a_broker_that_does_not_answer_delays_events_and_loses_none(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await gateway.submit(zone="eu")
    await gateway.reached(old.seq)
    gateway.feed.recent.clear(gateway.feed.head)
    of, refused = gateway.feed.labels.of, 0

    async def refuse(jobs: Any) -> Mapping[str, Pairs]:
        nonlocal refused
        refused += 1
        if refused > 2:
            return await of(jobs)
        raise UnavailableError("the broker does not answer")

    reader = await gateway.reader()
    await reader.subscribe(labels=EU)
    monkeypatch.setattr(gateway.feed.labels, "of", refuse)
    await gateway.complete(await gateway.lease(old))
    assert await jobs_of(reader, 2) == [old.id] * 2
    assert refused > 2


async def test_nobody_gets_another_tenants_jobs_by_label(gateway: LiveGateway) -> None:
    ours, admin = await gateway.reader(), await gateway.reader(gateway.token("root", "admin"))
    await ours.subscribe(labels=EU)
    await admin.subscribe("every", labels=EU, events=["succeeded"])
    await admin.subscribe("theirs", labels=EU, tenants=["other"], events=["succeeded"])
    await ours.send("subscribe", id="s2", labels=EU, tenants=["other"])
    refusal = await ours.until("error")
    assert (refusal["code"], refusal["field"]) == ("forbidden", "tenants[0]")
    theirs = await gateway.live("other", zone="eu")
    mine = await gateway.live(zone="eu")
    assert await jobs_of(ours, 3) == [mine.id] * 3
    got = await admin.events(2)
    assert [(message["event"]["job_id"], sorted(message["ids"])) for message in got] == [
        (theirs.id, ["every", "theirs"]), (mine.id, ["every"]),
    ]  # fmt: skip
    again = await gateway.reader()
    replayed = await again.subscribe(labels=EU, after=gateway.feed.cursor(0))
    assert {message["event"]["job_id"] for message in replayed if message["type"] == "event"} == {mine.id}


@pytest.mark.parametrize("known_bytes", [0, labels.KNOWN_BYTES], ids=["nothing remembered", "all remembered"])
async def test_progress_and_lines_come_by_label_too(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, known_bytes: int
) -> None:
    monkeypatch.setattr(labels, "KNOWN_BYTES", known_bytes)
    ours = await gateway.lease(await gateway.submit(zone="eu"))
    strange = await gateway.lease(await gateway.submit(zone="us"))
    await gateway.reached(strange.seq)
    for job in (ours, strange):
        await gateway.report(job, 0.25)
    reader = await gateway.reader()
    await reader.send("subscribe", id="s1", labels=EU, logs=True)
    shown = await reader.until("progress")
    assert (shown["job_id"], shown["progress"]["fraction"]) == (ours.id, 0.25)
    for job in (strange, ours):
        await gateway.report(job, 0.5)
    shown = await reader.until("progress")
    assert (shown["job_id"], shown["progress"]["fraction"]) == (ours.id, 0.5)
    for job in (strange, ours):
        await gateway.say(job, "page 4")
        await gateway.complete(job)
    rest = await reader.collect("event")
    assert [(message["type"], message.get("job_id")) for message in rest[:-1]] == [("log", ours.id)]
    assert rest[-1]["event"]["job_id"] == ours.id


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"labels": {}}, "labels"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"zone": 1}}, "labels"),
        ({"labels": {"zone": "x" * 257}}, "labels"),
        ({"labels": {f"n{number}": "" for number in range(17)}}, "labels"),
        ({"labels": ["zone"]}, "labels"),
        ({"labels": EU, "jobs": [new_id()]}, "labels"),
        ({"labels": EU, "all": True, "kinds": ["simulate"]}, "all"),
        ({"labels": EU, "previews": True}, "previews"),
    ],
)
async def test_wrong_labels_are_refused(gateway: LiveGateway, wish: dict[str, Any], field: str) -> None:
    reader = await gateway.reader()
    await reader.send("subscribe", id="s1", **wish)
    refusal = await reader.until("error")
    assert refusal["code"] == "invalid"
    assert refusal["field"].partition("[")[0].partition(".")[0] == field


async def test_who_has_gone_costs_nobody_a_read(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe(labels=EU)
    assert gateway.feed.labels.are_wanted("acme")
    assert not gateway.feed.labels.are_wanted("other")
    await reader.send("unsubscribe", id="s1")
    await reader.until("unsubscribed")
    assert not gateway.feed.labels.are_wanted("acme")


async def sse(gateway: LiveGateway, query: str) -> tuple[int, aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    response = await gateway.http.get(f"{gateway.url}/v1/events/stream?{query}", headers=headers)
    gateway.responses.append(response)
    return response.status, response


async def test_server_sent_events_come_by_label(gateway: LiveGateway) -> None:
    await gateway.live(zone="us")
    ours = await gateway.live(zone="eu", team="a:b")
    await gateway.reached(ours.seq)
    status, response = await sse(
        gateway, f"label=zone:eu&label=team:a:b&progress=false&after={gateway.feed.cursor(0)}"
    )
    assert status == 200
    found = b""
    async with asyncio.timeout(DEADLINE_S):
        while b"caught_up" not in found:
            found += await response.content.readany()
    assert found.count(b"event: event") == 3
    assert found.count(ours.id.encode()) >= 3
    for query in ("label=zone", "label=:eu", "label=zone:eu&label=zone:us", f"label=a:b&job={new_id()}"):
        status, response = await sse(gateway, query)
        assert (status, (await response.json())["field"]) == (400, "label"), query
