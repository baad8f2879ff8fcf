from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.services.broker.connection import listen
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.live import index, replay
from switchyard.services.gateway.live.index import LiveEvent
from switchyard.services.ids import new_id
from tests.gateway.live.site import (
    DEADLINE_S,
    LIFE,
    LiveGateway,
    crash,
    eventually,
    live_gateway,
    names,
    seqs,
)


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


async def test_every_transition_reaches_a_subscriber_in_order(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    jobs = [await gateway.live() for _ in range(3)]
    got = await reader.events(9)
    assert names(got) == LIFE * 3
    assert seqs(got) == list(range(1, 10))
    assert [message["event"]["job_id"] for message in got[::3]] == [job.id for job in jobs]
    assert got[-1]["cursor"].startswith(f"{gateway.feed.stream_id}:9:")
    assert got[2]["event"]["data"]["result"] == {"n": 1}


@pytest.mark.parametrize(
    ("recent", "page", "page_bytes"),
    [(0, 100, 1 << 20), (0, 2, 1 << 20), (0, 100, 1), (5, 100, 1 << 20), (4096, 100, 1 << 20)],
    ids=["from the log", "in pages", "in pages of few bytes", "from both", "from memory"],
)
@pytest.mark.parametrize("selection", ["all", "kinds", "jobs"])
async def test_resuming_at_any_cursor_gives_exactly_what_came_after_it(
    gateway: LiveGateway,
    monkeypatch: pytest.MonkeyPatch,
    recent: int,
    page: int,
    page_bytes: int,
    selection: str,
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", recent)
    monkeypatch.setattr(replay, "PAGE", page)
    monkeypatch.setattr(replay, "PAGE_OF_JOB", page)
    monkeypatch.setattr(replay, "PAGE_BYTES", page_bytes)
    jobs = [await gateway.live(kind=("simulate", "convert")[n % 2]) for n in range(6)]
    last = jobs[-1].seq
    await gateway.reached(last)
    wish: dict[str, Any]
    if selection == "all":
        wish, expected = {"all": True}, list(range(1, last + 1))
    elif selection == "kinds":
        wish, expected = {"kinds": ["convert"]}, [n + 1 for n in range(last) if (n // 3) % 2]
    else:
        chosen = [jobs[1].id, jobs[4].id]
        wish, expected = {"jobs": chosen}, [4, 5, 6, 13, 14, 15]
    reader = await gateway.reader()
    for seq in range(last + 1):
        got = await reader.subscribe(f"s{seq}", after=gateway.feed.cursor(seq), progress=False, **wish)
        assert seqs(got) == [n for n in expected if n > seq], seq
        assert got[-1] == {"type": "caught_up", "id": f"s{seq}", "cursor": gateway.feed.cursor(last)}


async def test_resuming_from_far_back_lets_the_broker_count_nothing(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", 0)
    await gateway.reached((await gateway.live()).seq)
    asked: list[bytes] = []
    await listen(
        gateway.nc, f"$JS.API.DIRECT.GET.{subjects.JOBS}", lambda message: asked.append(message.data)
    )
    reader = await gateway.reader()
    assert seqs(await reader.subscribe(kinds=["simulate"], after=gateway.feed.cursor(0))) == [1, 2, 3]
    await gateway.nc.flush()
    assert asked
    assert not [query for query in asked if b"next_by_subj" in query]


@pytest.mark.parametrize("recent", [8, 4096])
async def test_resuming_under_heavy_publishing_leaves_no_gap_and_no_duplicate(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, recent: int
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", recent)
    monkeypatch.setattr(replay, "PAGE", 7)

    async def write() -> None:
        for _ in range(40):
            await gateway.live()

    writers = [gateway.tasks.create_task(write()) for _ in range(5)]
    got: list[dict[str, Any]] = []
    total, cursor = 5 * 40 * 3, gateway.feed.cursor(0)
    while len(got) < total:
        # A reader that breaks off and comes back all the time.
        reader = await gateway.reader()
        await reader.send("subscribe", id="s1", all=True, after=cursor, progress=False)
        for message in await reader.events(min(17, total - len(got))):
            got.append(message)
            cursor = message["cursor"]
        await reader.socket.close()
    await asyncio.gather(*writers)
    assert seqs(got) == list(range(1, total + 1))


async def test_two_subscriptions_of_a_connection_each_get_every_event_once(gateway: LiveGateway) -> None:
    first = await gateway.live()
    await gateway.reached(first.seq)
    reader = await gateway.reader()
    await reader.subscribe("live", all=True)
    await reader.send("subscribe", id="late", kinds=["simulate"], after=gateway.feed.cursor(0))
    await gateway.live()
    got: dict[str, list[int]] = {"live": [], "late": []}
    while len(got["live"]) < 3 or len(got["late"]) < 6:
        message = await reader.until("event")
        for name in message["ids"]:
            got[name].append(message["event"]["seq"])
    assert got == {"live": [4, 5, 6], "late": [1, 2, 3, 4, 5, 6]}


async def test_a_broker_killed_and_restarted_costs_a_subscriber_nothing(
    gateway: LiveGateway, broker: NatsServer
) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    got = []
    for _ in range(3):
        await gateway.live()
        got += await reader.events(1)
        await crash(gateway, broker)
        await gateway.live()
        got += await reader.events(5)
    assert seqs(got) == list(range(1, 19))
    fresh = await gateway.reader()
    assert seqs(await fresh.subscribe(all=True, after=gateway.feed.cursor(0))) == list(range(1, 19))


async def test_a_cursor_of_another_log_is_answered_resync_and_goes_on_from_the_head(
    gateway: LiveGateway,
) -> None:
    job = await gateway.live()
    await gateway.reached(job.seq)
    reader = await gateway.reader()
    head = gateway.feed.cursor(3)
    got = await reader.subscribe(all=True, after="0123456789ab:2")
    assert got == [
        {"type": "subscribed", "id": "s1", "cursor": head},
        {
            "type": "resync", "id": "s1", "reason": "other_log", "head": head,
            "first": gateway.feed.cursor(0),
        },
        {"type": "caught_up", "id": "s1", "cursor": head},
    ]  # fmt: skip
    await gateway.live()
    assert seqs(await reader.events(3)) == [4, 5, 6]


async def test_a_cursor_ahead_of_the_head_is_answered_resync(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    got = await reader.subscribe(all=True, after=gateway.feed.cursor(1))
    assert [message.get("reason") for message in got] == [None, "ahead", None]


async def test_a_gateway_that_lags_behind_the_cursor_sends_nothing_twice(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    saw = gateway.feed._saw_event
    late: list[LiveEvent] = []
    monkeypatch.setattr(gateway.feed, "_saw_event", late.append)
    await gateway.live()
    await eventually(lambda: len(late) == 3)
    reader = await gateway.reader()
    # Another gateway has sent the first two.
    got = await reader.subscribe(all=True, after=gateway.feed.cursor(2))
    assert [message["type"] for message in got] == ["subscribed", "caught_up"]
    await reader.send("ping")
    assert (await reader.receive())["cursor"] == gateway.feed.cursor(2)
    for event in late:
        saw(event)
    assert seqs(await reader.events(1)) == [3]


async def test_a_cursor_of_a_purged_part_is_answered_resync(gateway: LiveGateway) -> None:
    jobs = [await gateway.live() for _ in range(3)]
    await api(gateway.nc, f"STREAM.PURGE.{subjects.JOBS}", {"seq": 5}, timeout_s=20)
    gateway.feed.recent.clear(gateway.feed.head)
    reader = await gateway.reader()
    got = await reader.subscribe("old", all=True, after=gateway.feed.cursor(3))
    assert (got[1]["type"], got[1]["reason"]) == ("resync", "purged")
    kept = await reader.subscribe("kept", all=True, after=got[1]["first"])
    assert seqs(kept) == [5, 6, 7, 8, 9]
    assert jobs[-1].seq == 9


async def test_a_cursor_older_than_summaries_are_kept_is_answered_resync(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, archive_ttl_s=1) as gateway:
        reader = await gateway.reader()
        await reader.subscribe(all=True)
        await gateway.live()
        cursor = (await reader.events(3))[0]["cursor"]
        gateway.feed.recent.clear(gateway.feed.head)
        number = 0

        async def is_too_old() -> bool:
            nonlocal number
            number += 1
            got = await (await gateway.reader()).subscribe(f"s{number}", all=True, after=cursor)
            return (got[1]["type"], got[1].get("reason")) == ("resync", "purged")

        async with asyncio.timeout(DEADLINE_S):
            while not await is_too_old():
                await asyncio.sleep(0.3)  # a tenant may open only so many connections


async def test_a_log_that_is_replaced_under_a_subscriber_is_reported_and_followed(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.live.feed.CHECK_S", 0.1)
    async with live_gateway(broker.url, tmp_path) as gateway:
        reader = await gateway.reader()
        await reader.subscribe(all=True)
        await gateway.live()
        await reader.events(3)
        old = gateway.feed.stream_id
        config = (await api(gateway.nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=20))["config"]
        for call, body in (("DELETE", None), ("CREATE", config)):
            answer = await api(gateway.nc, f"STREAM.{call}.{subjects.JOBS}", body, timeout_s=20)
            assert "error" not in answer
        message = await reader.until("resync")
        assert message["reason"] == "other_log"
        assert not message["head"].startswith(old)
        await gateway.live()
        got = await reader.events(3)
        assert seqs(got) == [1, 2, 3]
        assert not got[0]["cursor"].startswith(old)


async def test_an_event_of_a_newer_version_is_shown_as_it_stands(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    headers = {subjects.H_TENANT: "acme", subjects.H_KIND: "simulate", subjects.H_ACTOR: "user:ann"}
    body = b'{"v":99,"at":"2030-01-01T00:00:00Z","mood":"good"}'
    job_id = new_id()
    await gateway.publisher.publish(subjects.job_event(job_id, "cheered"), body, headers)
    (got,) = await reader.events(1)
    assert got["event"] == {
        "seq": 1, "type": "cheered", "at": "2030-01-01T00:00:00Z", "job_id": job_id,
        "actor": "user:ann", "data": {"mood": "good"}, "unreadable": "there is no event named 'cheered'",
    }  # fmt: skip


async def test_a_request_that_waits_for_a_jobs_end_is_woken_by_it(gateway: LiveGateway) -> None:
    job = await gateway.lease(await gateway.submit())
    waiting = gateway.tasks.create_task(gateway.feed.wait_final(job.id, job.seq, DEADLINE_S))
    assert not await gateway.feed.wait_final(job.id, job.seq, 0.05)
    done = await gateway.complete(job)
    assert await waiting
    await gateway.reached(done.seq)
    # The end came after what this caller has read, though before it began to wait.
    assert await gateway.feed.wait_final(job.id, job.seq, 0)
    assert not await gateway.feed.wait_final(job.id, done.seq, 0)


@pytest.mark.parametrize("name", ["hello", "claim_renewed", "succeeded"])
async def test_who_waits_for_a_job_learns_that_it_is_damaged(gateway: LiveGateway, name: str) -> None:
    job = await gateway.submit()
    await gateway.reached(job.seq)
    waiting = gateway.tasks.create_task(gateway.feed.wait_final(job.id, job.seq, DEADLINE_S))
    assert not await gateway.feed.wait_final(job.id, job.seq, 0.05)  # by now the other one waits too
    seq = await gateway.publisher.publish(subjects.job_event(job.id, name), b"{", {})
    assert await waiting
    # Also who asks after the message has passed.
    assert await gateway.feed.wait_final(job.id, job.seq, 0)
    assert not await gateway.feed.wait_final(job.id, seq, 0)
