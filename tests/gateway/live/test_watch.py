from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.records.workers import Offered
from tests.gateway.live.watching import Folded, Hands, Items, streamed, watching
from tests.gateway.rest import Gateway, gateway


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on a broker of its own: who lives there is the test's own."""
    async with gateway(broker.url, tmp_path) as running:
        yield running


def without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


async def test_workers_come_first_as_a_snapshot_and_then_as_they_change(api: Gateway) -> None:
    hands = Hands(api)
    first = await hands.come("w1", zone="eu")
    async with watching(api) as folded:
        await folded.watch("workers")
        assert folded.said[0]["type"] == "snapshot"
        assert folded.said[0]["reason"] == "new"
        await folded.until(lambda items: set(items) == {"w1"})
        second = await hands.come("w2", zone="us")
        await folded.until(lambda items: set(items) == {"w1", "w2"})
        assert [item["id"] for item in folded.said[-1]["added"]] == ["w2"]
        await hands.beat(first, state="paused")
        await folded.until(lambda items: items["w1"]["state"] == "paused")
        assert [item["id"] for item in folded.said[-1]["changed"]] == ["w1"]
        await hands.go(second)
        await folded.until(lambda items: set(items) == {"w1"})
        assert folded.said[-1]["removed"] == ["w2"]
        shown = (await api.get("/v1/workers")).json["workers"]
        assert folded.items["w1"] == without(shown[0], "at")


async def test_a_worker_whose_time_is_over_is_removed_though_nobody_says_so(api: Gateway) -> None:
    hands = Hands(api)
    record = await hands.come("w1")
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: "w1" in items)
        await hands.beat(record, ttl_s=1)
        await folded.until(lambda items: not items)
        assert folded.said[-1]["removed"] == ["w1"]


async def test_a_heartbeat_that_says_nothing_new_is_sent_to_nobody(api: Gateway) -> None:
    hands = Hands(api)
    first = await hands.come("w1")
    second = await hands.come("w2")
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: len(items) == 2)
        for _ in range(5):
            await hands.beat(first)
        await hands.beat(second, state="paused")
        await folded.until(lambda items: items["w2"]["state"] == "paused")
        assert [item["id"] for item in folded.said[-1]["changed"]] == ["w2"]
        assert all(message["type"] == "snapshot" or message["added"] for message in folded.said[:-1])


async def test_what_each_connector_runs_is_no_change(api: Gateway) -> None:
    hands = Hands(api)
    first = await hands.come("w1")
    first = await hands.beat(first, connectors=(Offered("one", "noop", 2),))
    second = await hands.come("w2")
    shown = [{"id": "one", "kind": "noop", "slots": 2}]
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: len(items) == 2 and items["w1"].get("connectors") == shown)
        await hands.beat(first, loads={"one": 1})
        await hands.beat(second, state="paused")
        await folded.until(lambda items: items["w2"]["state"] == "paused")
        assert [item["id"] for item in folded.said[-1]["changed"]] == ["w2"]


async def test_what_the_log_says_of_a_worker_is_sent_as_it_changes(api: Gateway) -> None:
    await Hands(api).come("w1")
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: "w1" in items)
        job = await api.submit()
        await api.complete(await api.lease(job["id"]))
        await folded.until(lambda items: items["w1"]["succeeded"] == 1)


async def test_queues_are_those_of_the_list_at_every_whole_state(api: Gateway) -> None:
    await Hands(api).come("w1")
    async with watching(api) as folded:
        await folded.watch("queues")
        await folded.until(lambda items: not items)
        jobs = [await api.submit(priority=priority) for priority in (10, 10, 90)]
        await folded.until(lambda items: sorted(each["waiting"] for each in items.values()) == [1, 2])
        listed = (await api.get("/v1/queues")).json["queues"]
        by_id = {f"{each['lane']}:{each['priority']}": each for each in listed}
        for name, item in folded.items.items():
            assert without(item, "id") == without(by_id[name], "oldest_waiting_s")
        leased = await api.lease(jobs[2]["id"])
        await folded.until(lambda items: any(each["running"] for each in items.values()))
        await api.complete(leased)
        await folded.until(lambda items: {each["priority"] for each in items.values()} == {10})
        assert folded.said[-1]["removed"] == [name for name in by_id if name.endswith(":90")]


async def test_many_changes_are_few_messages_and_the_last_one_is_sent(api: Gateway) -> None:
    async with watching(api) as folded:
        await folded.watch("queues")
        await folded.until(lambda items: not items)
        await api.bulk(*({"kind": "noop"} for _ in range(100)))
        await api.bulk(*({"kind": "noop"} for _ in range(100)))
        await folded.until(lambda items: any(each["waiting"] == 200 for each in items.values()))
        assert len(folded.said) < 50


async def test_a_filter_selects_by_each_of_its_parts(api: Gateway) -> None:
    hands = Hands(api)
    await hands.come("eu-1", kind="noop", zone="eu", gpu={"gb": 24, "fast": True}, models=["a", "b"])
    await hands.come("eu-2", kind="other", zone="eu", gpu={"gb": 16, "fast": False})
    await hands.come("us-1", kind="noop", zone="us")
    wanted: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"eu-1", "eu-2", "us-1"}),
        ({"ids": ["us-1", "nobody"]}, {"us-1"}),
        ({"kinds": ["noop"]}, {"eu-1", "us-1"}),
        ({"labels": {"zone": "eu"}}, {"eu-1", "eu-2"}),
        ({"labels": {"gpu.gb": "24"}}, {"eu-1"}),
        ({"labels": {"gpu.fast": "false"}}, {"eu-2"}),
        ({"labels": {"models": "b"}}, {"eu-1"}),
        ({"labels": {"zone": "eu"}, "kinds": ["noop"]}, {"eu-1"}),
        ({"labels": {"gpu": "24"}}, set()),
    ]
    async with watching(api) as everybody:
        await everybody.watch("workers")
        await everybody.until(lambda items: len(items) == 3)
        for number, (fields, names) in enumerate(wanted):
            folded = Folded(everybody.reader, f"f{number}")
            await folded.watch("workers", **fields)
            assert set(folded.items) == names, fields
        for priority in (10, 90):
            await api.submit(priority=priority)
        folded = Folded(everybody.reader, "q")
        await folded.watch("queues", priorities=[90], kinds=["noop"])
        await folded.until(lambda items: len(items) == 1)
        assert [each["priority"] for each in folded.items.values()] == [90]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"what": "planets"}, "not_found", "what"),
        ({"what": "workers", "priorities": [1]}, "invalid", "priorities"),
        ({"what": "queues", "labels": {"a": "b"}}, "invalid", "labels"),
        ({"what": "workers", "kinds": []}, "invalid", "kinds"),
        ({"what": "workers", "labels": {}}, "invalid", "labels"),
        ({"what": "workers", "ids": ["x" * 257]}, "invalid", "ids[0]"),
        ({"what": "workers", "ids": [1]}, "invalid", "ids[0]"),
        ({"what": "workers", "tenant": "strangers"}, "forbidden", "tenant"),
        ({"what": "workers", "tenant": "*x"}, "invalid", "tenant"),
        ({"what": "queues", "tenant": "*"}, "forbidden", "tenant"),
        ({"what": "queues", "nonsense": 1}, "invalid", "nonsense"),
        ({}, "invalid", "what"),
    ],
)
async def test_a_wish_that_cannot_be_had_is_refused(
    api: Gateway, fields: dict[str, Any], code: str, field: str
) -> None:
    async with watching(api) as folded:
        await folded.reader.send("watch", id="w", **fields)
        refused = await folded.reader.receive()
        assert (refused["type"], refused["id"], refused["code"], refused["field"]) == (
            "error",
            "w",
            code,
            field,
        )
        await folded.watch("workers")  # the name is still free


async def test_each_sees_what_the_lists_show_it(api: Gateway) -> None:
    hands = Hands(api)
    await hands.come("shared")
    await hands.come("own", tenant=api.tenant)
    await hands.come("strange", tenant=api.stranger)
    await api.submit()
    await api.submit(priority=90)
    assert (
        await api.call("POST", "/v1/jobs", {"kind": "theirs"}, token=api.token(tenant=api.stranger))
    ).status == 201
    operator = api.token("operator")
    expected: list[tuple[str | None, str, dict[str, Any], set[str]]] = [
        (None, "workers", {}, {"shared", "own"}),
        (None, "workers", {"tenant": api.tenant}, {"shared", "own"}),
        (operator, "workers", {}, {"shared", "own", "strange"}),
        (operator, "workers", {"tenant": api.stranger}, {"shared", "strange"}),
        (None, "queues", {}, {"noop"}),
        (operator, "queues", {}, {"noop"}),
        (operator, "queues", {"tenant": api.stranger}, {"theirs"}),
        (operator, "queues", {"tenant": "*"}, {"noop", "theirs"}),
    ]
    for token, what, fields, wanted in expected:
        async with watching(api, token) as folded:
            await folded.watch(what, **fields)
            of = "id" if what == "workers" else "kind"
            await folded.until(partial(_are, of, wanted))


def _are(of: str, wanted: set[str], items: Items) -> bool:
    return {each[of] for each in items.values()} == wanted


async def test_who_comes_back_gets_what_it_lacks_and_hears_where_that_is_all(
    api: Gateway, broker: NatsServer, tmp_path: Path
) -> None:
    hands = Hands(api)
    await hands.come("w1")
    second = await hands.come("w2")
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: len(items) == 2)
        before = folded.revision
    async with watching(api) as again:
        first = await again.watch("workers", after=before)
        assert first == {
            "type": "changes", "id": "w", "what": "workers", "added": [], "changed": [], "removed": [],
            "revision": before,
        }  # fmt: skip
        await hands.come("w3")
        await hands.go(second)
        await again.until(lambda items: set(items) == {"w3"})
    async with watching(api) as later:
        first = await later.watch("workers", after=before)
        assert first["type"] == "changes"
        assert [item["id"] for item in first["added"]] == ["w3"]
        assert first["removed"] == ["w2"]
        now = first["revision"]
        unknown = Folded(later.reader, "x")
        first = await unknown.watch("workers", after="f" * 32)
        assert (first["type"], first["reason"], set(unknown.items)) == ("snapshot", "unknown", {"w1", "w3"})
    async with (
        gateway(broker.url, tmp_path / "other") as other,
        watching(other, other.token("operator")) as moved,
    ):
        first = await moved.watch("workers", after=now)
        assert (first["type"], first["added"], first["revision"]) == ("changes", [], now)


async def test_nothing_follows_the_end_of_a_subscription(api: Gateway) -> None:
    hands = Hands(api)
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.reader.send("watch", id="w", what="queues")
        assert (await folded.reader.receive())["code"] == "duplicate_id"
        await folded.reader.send("unsubscribe", id="w")
        assert (await folded.reader.receive())["type"] == "unsubscribed"
        other = Folded(folded.reader, "v")
        await other.watch("workers")
        await hands.come("w1")
        message = await folded.reader.receive()
        assert message["id"] == "v"
        await folded.reader.send("unsubscribe", id="w")
        assert (await folded.reader.receive())["code"] == "not_found"


async def test_a_state_is_watched_as_server_sent_events(api: Gateway) -> None:
    hands = Hands(api)
    await hands.come("w1", zone="eu")
    await hands.come("w2", zone="us")
    async with watching(api) as folded:
        await folded.watch("workers")
        await folded.until(lambda items: len(items) == 2)
    async with streamed(api, "/v1/watch/workers?label=zone:eu&kind=noop&id=w1&id=w2") as events:
        place, first = await anext(events)
        assert (first["type"], first["id"], first["revision"]) == ("snapshot", "stream", place)
        assert [item["id"] for item in first["items"]] == ["w1"]
    async with streamed(api, "/v1/watch/workers?label=zone:eu&after=0", Last_Event_ID=str(place)) as events:
        other, again = await anext(events)
        assert (again["type"], other) == ("changes", place)
        await hands.come("w3", zone="eu")
        _, news = await anext(events)
        assert [item["id"] for item in news["added"]] == ["w3"]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/watch/planets", 404, "what"),
        ("/v1/watch/workers?colour=red", 400, "colour"),
        ("/v1/watch/workers?kind=a%20b", 400, "kind"),
        ("/v1/watch/workers?label=zone", 400, "label"),
        ("/v1/watch/workers?label=zone:eu&label=zone:us", 400, "label"),
        ("/v1/watch/workers?tenant=../x", 400, "tenant"),
        ("/v1/watch/workers?priority=1", 400, "priority"),
        ("/v1/watch/queues?priority=101", 400, "priority"),
        ("/v1/watch/queues?priority=x", 400, "priority"),
        ("/v1/watch/queues?tenant=strangers", 403, "tenant"),
        ("/v1/watch/queues?after=a&after=b", 400, "after"),
    ],
)
async def test_a_stream_that_cannot_be_had_is_refused(
    api: Gateway, path: str, status: int, field: str
) -> None:
    refused = await api.get(path)
    assert (refused.status, refused.json["field"]) == (status, field), refused.json
