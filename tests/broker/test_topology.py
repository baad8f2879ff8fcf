from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId, LaneId
from switchyard.services.broker import topology, topology_spec
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.broker.topology import DriftError
from switchyard.services.broker.topology_spec import Difference, TopologyError, load
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0


@pytest.fixture
async def applied(nats_connection: Client) -> Client:
    await topology.apply(nats_connection)
    return nats_connection


async def _api(nc: Client, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = await nc.request(f"$JS.API.{name}", json.dumps(body).encode() if body else b"", timeout=5)
    document: dict[str, Any] = json.loads(answer.data)
    assert "error" not in document, document
    return document


async def _subjects(nc: Client, stream: str) -> dict[str, int]:
    state = (await _api(nc, f"STREAM.INFO.{stream}", {"subjects_filter": ">"}))["state"]
    counts: dict[str, int] = state.get("subjects") or {}
    return counts


def test_all_names_of_the_code_are_declared() -> None:
    declared = load()
    streams = {subjects.JOBS, subjects.WORK, subjects.PROGRESS, subjects.LOGS, subjects.TIMERS}
    buckets = {
        subjects.BUCKET_WORKERS,
        subjects.BUCKET_CAPABILITIES,
        subjects.BUCKET_LANES,
        subjects.BUCKET_KEYS,
        subjects.BUCKET_WAITS,
        subjects.BUCKET_SCHEDULES,
    }
    assert {stream.name for stream in declared.streams} >= streams | {f"KV_{name}" for name in buckets}
    assert f"OBJ_{subjects.STORE_FILES}" in {stream.name for stream in declared.streams}
    consumers = {(consumer.stream, consumer.durable_name) for consumer in declared.consumers}
    assert consumers == {
        (subjects.JOBS, subjects.KEEPER_EVENTS),
        (subjects.JOBS, subjects.KEEPER_FINALS),
        (subjects.JOBS, subjects.KEEPER_LEDGER),
        (subjects.JOBS, subjects.KEEPER_PARTS),
        (subjects.TIMERS, subjects.KEEPER_TIMERS),
        (subjects.SCHEDULES, subjects.KEEPER_SCHEDULES),
    }


def test_replicas_and_limits_apply_to_what_is_loaded() -> None:
    declared = load(replicas=3, max_bytes={"JOBS": 4096})
    assert {stream.num_replicas for stream in declared.streams} == {3}
    assert {stream.name: stream.max_bytes for stream in declared.streams}["JOBS"] == 4096


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise"),
        ({"storage": "tape"}, "storage"),
        ({"duplicate_window": "2 weeks"}, "expected a whole number and one of ms, s, m, h, got '2 weeks'"),
        ({"max_bytes": 1.5}, "max_bytes"),
    ],
)
def test_declaration_that_breaks_a_rule_is_refused(change: dict[str, Any], message: str) -> None:
    stream = load().streams[0].model_dump() | change
    with pytest.raises(ValueError, match=message):
        topology_spec.Stream.model_validate(stream)


async def test_apply_creates_everything_once(nats_connection: Client) -> None:
    missing = await topology.diff(nats_connection)
    changes = await topology.apply(nats_connection)
    declared = load()
    assert len(changes) == len(missing) == len(declared.streams) + len(declared.consumers)
    assert {change.action for change in changes} == {"created"}
    assert str(missing[0]) == "JOBS: declared, not found"
    assert await topology.diff(nats_connection) == []
    assert await topology.apply(nats_connection) == []


async def test_apply_by_several_processes_at_once_is_harmless(broker: NatsServer) -> None:
    connections = [await nats.connect(broker.url) for _ in range(4)]
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(topology.apply(connection) for connection in connections))
    assert await topology.diff(connections[0]) == []
    for connection in connections:
        await connection.close()


async def test_buckets_and_object_store_open_with_the_client_library(applied: Client) -> None:
    js = applied.jetstream()
    for bucket in ("workers", "lanes", "servers", "keys", "schedules"):
        kv = await js.key_value(bucket)
        await kv.put("key", b"value")
        assert (await kv.get("key")).value == b"value"
    store = await js.object_store("files")
    await store.put("name", b"content" * 100_000)
    assert (await store.get("name")).data == b"content" * 100_000
    assert await topology.diff(applied) == []


async def test_drift_is_reported_field_by_field_and_repaired(applied: Client) -> None:
    config = (await _api(applied, "STREAM.INFO.JOBS"))["config"]
    await _api(applied, "STREAM.UPDATE.JOBS", config | {"discard": "old", "max_age": 3600 * 10**9})
    config = (await _api(applied, "CONSUMER.INFO.TIMERS.keeper-timers"))["config"]
    update = {"stream_name": "TIMERS", "config": config | {"max_ack_pending": 7, "ack_wait": 5 * 10**9}}
    await _api(applied, "CONSUMER.CREATE.TIMERS.keeper-timers", update)

    expected = [
        "JOBS.discard: declared new, found old",
        "JOBS.max_age: declared 0s, found 3600s",
        "TIMERS > keeper-timers.ack_wait: declared 30s, found 5s",
        "TIMERS > keeper-timers.max_ack_pending: declared 1000000, found 7",
    ]
    assert sorted(map(str, await topology.diff(applied))) == expected
    changes = await topology.apply(applied)
    assert [(change.where, change.action) for change in changes] == [
        ("JOBS", "updated"),
        ("TIMERS > keeper-timers", "updated"),
    ]
    assert sorted(str(field) for change in changes for field in change.fields) == expected
    assert await topology.diff(applied) == []


async def test_every_declared_field_is_compared(applied: Client) -> None:
    sizes = {stream.name: stream.max_bytes for stream in load().streams if stream.max_bytes > 0}
    for declared in (*load(max_bytes=sizes).streams, *load().consumers):
        for name in declared.config():
            found = declared.config() | {name: "something else"}
            assert [difference.field for difference in declared.compare(found)] == [name]


async def test_missing_source_is_drift_that_apply_repairs(applied: Client) -> None:
    config = (await _api(applied, "STREAM.INFO.WORK"))["config"]
    source = {"name": "JOBS", "subject_transforms": [{"src": "job.*.*.*.*", "dest": "work.all"}]}
    await _api(applied, "STREAM.UPDATE.WORK", config | {"sources": [source]})
    (difference,) = await topology.diff(applied)
    assert (difference.where, difference.field) == ("WORK", "sources")
    await topology.apply(applied)
    assert await topology.diff(applied) == []


async def test_field_that_cannot_be_changed_is_refused_before_anything_is_touched(
    nats_connection: Client,
) -> None:
    js = nats_connection.jetstream()
    await js.add_stream(StreamConfig(name="WORK", retention=RetentionPolicy.LIMITS, max_consumers=9))
    with pytest.raises(DriftError) as caught:
        await topology.apply(nats_connection)
    assert "WORK.retention: declared workqueue, found limits" in str(caught.value)
    assert "WORK.max_consumers: declared 20000, found 9" in str(caught.value)
    assert Difference("JOBS", None) in caught.value.differences
    assert [stream.config.name for stream in await js.streams_info()] == ["WORK"]


async def test_change_that_only_the_broker_knows_to_refuse_is_an_error_with_the_diff(applied: Client) -> None:
    config = (await _api(applied, "STREAM.INFO.LOGS"))["config"]
    await _api(applied, "STREAM.UPDATE.LOGS", config | {"deny_delete": True})
    with pytest.raises(
        DriftError, match=r"refuses LOGS: .*deny(.|\n)*LOGS.deny_delete: declared false, found true"
    ):
        await topology.apply(applied)


async def test_what_is_the_operators_is_kept_and_is_no_drift(applied: Client) -> None:
    config = (await _api(applied, "STREAM.INFO.LOGS"))["config"]
    metadata = config["metadata"] | {"owner": "ops"}
    await _api(applied, "STREAM.UPDATE.LOGS", config | {"metadata": metadata, "max_age": 3600 * 10**9})
    await topology.apply(applied)
    config = (await _api(applied, "STREAM.INFO.LOGS"))["config"]
    assert config["metadata"]["owner"] == "ops"
    assert config["max_age"] == 24 * 3600 * 10**9


async def test_how_long_lines_are_kept_is_a_setting(applied: Client) -> None:
    ages = Settings(log_keep_s=0).stream_ages_s()
    (change,) = await topology.apply(applied, max_age_s=ages)
    assert change.where == "LOGS"
    assert (await _api(applied, "STREAM.INFO.LOGS"))["config"]["max_age"] == 0
    assert await topology.diff(applied, max_age_s=ages) == []
    (difference,) = await topology.diff(applied, max_age_s=Settings(log_keep_s=60).stream_ages_s())
    assert str(difference) == "LOGS.max_age: declared 60s, found 0s"
    assert Settings().stream_ages_s() == {}


async def test_consumer_of_a_lane_is_no_drift(applied: Client) -> None:
    lane = ConsumerConfig(durable_name="simulate_p50", filter_subject=subjects.work(LaneId("simulate"), 50))
    await applied.jetstream().add_consumer(subjects.WORK, lane)
    assert await topology.diff(applied) == []


async def test_broker_that_is_too_small_says_so(nats_connection: Client) -> None:
    said = r"refuses JOBS: insufficient storage .*; the streams reserve 20\d\d\.\d GiB .*BROKER_FILE_BYTES"
    with pytest.raises(TopologyError, match=said):
        await topology.apply(nats_connection, max_bytes={"JOBS": 2 << 40})


async def test_broker_that_is_too_small_for_a_larger_limit_says_so(applied: Client) -> None:
    with pytest.raises(DriftError, match=r"refuses JOBS: insufficient storage .*BROKER_FILE_BYTES"):
        await topology.apply(applied, max_bytes={"JOBS": 2 << 40})


async def test_broker_without_memory_for_previews_says_so(nats_connection: Client) -> None:
    said = r"refuses PREVIEWS: insufficient memory .*; .* max_memory_store .*SWITCHYARD_PREVIEWS_BYTES"
    with pytest.raises(TopologyError, match=said):
        await topology.apply(nats_connection, max_bytes={"PREVIEWS": 2 << 40})


def test_each_broker_of_compose_may_hold_every_stream() -> None:
    (allowed,) = re.findall(r"max_file_store: (\d+)GB", (ROOT / "compose.yaml").read_text())
    assert int(allowed) << 30 >= load(replicas=3).reserved_bytes


async def test_broker_that_is_too_old_says_so(
    nats_connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "MIN_SERVER", (99, 0, 0))
    with pytest.raises(TopologyError, match=r"is too old; 99\.0\.0 or newer is needed"):
        await topology.apply(nats_connection)


async def test_broker_that_is_gone_is_unavailable(
    broker: NatsServer, nats_connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.kill()
    monkeypatch.setattr(topology, "API_TIMEOUT_S", 0.2)
    with pytest.raises(UnavailableError):
        await topology.diff(nats_connection)


async def test_claimable_event_appears_in_its_lane_with_headers_body_and_origin(applied: Client) -> None:
    js = applied.jetstream()
    job, body = new_id(), os.urandom(2_000)
    await js.publish(subjects.job_event(job, "scheduled"), b"{}")
    claimable = subjects.claimable_event(job, "submitted", LaneId("simulate-0a1b2c3d4e5f"), 75)
    headers = {subjects.H_MSG_ID: "event-1", subjects.H_TENANT: "acme", subjects.H_EXPECTED_SEQ: "1"}
    headers[subjects.H_EXPECTED_SUBJECT] = subjects.job_filter(job)
    ack = await js.publish(claimable, body, headers=headers)

    work = await js.pull_subscribe(
        subjects.work(LaneId("simulate-0a1b2c3d4e5f"), 75), "lane", stream=subjects.WORK
    )
    (message,) = await work.fetch(1, timeout=DEADLINE_S)
    await message.ack_sync()
    assert message.subject == "work.simulate-0a1b2c3d4e5f.75"
    assert message.data == body
    assert message.headers is not None
    stream, sequence, _, _, origin, *_ = message.headers[subjects.H_SOURCE].split(" ")
    assert (stream, int(sequence), origin) == ("JOBS", ack.seq, claimable)
    assert message.headers[subjects.H_TENANT] == "acme"
    assert message.headers[subjects.H_MSG_ID] == "event-1"
    assert subjects.H_EXPECTED_SEQ not in message.headers  # the guard is for JOBS alone
    assert await _subjects(applied, subjects.WORK) == {}


async def test_events_that_name_no_lane_stay_out_of_work(applied: Client) -> None:
    js = applied.jetstream()
    first, last = new_id(), new_id()
    for event in ("leased", "succeeded", "claimed"):
        await js.publish(subjects.job_event(first, event), b"{}")
    await js.publish(subjects.claimable_event(last, "queued", LaneId("simulate"), 50), b"{}")
    work = await js.pull_subscribe(subjects.work(LaneId("simulate"), 50), "lane", stream=subjects.WORK)
    (message,) = await work.fetch(1, timeout=DEADLINE_S)
    assert message.headers is not None
    assert message.headers[subjects.H_SOURCE].split(" ")[1] == "4"
    assert (await _subjects(applied, subjects.WORK)) == {"work.simulate.50": 1}


async def test_event_log_refuses_deletion_of_single_events(applied: Client) -> None:
    js = applied.jetstream()
    job = new_id()
    ack = await js.publish(subjects.job_event(job, "leased"), b"{}")
    with pytest.raises(nats.js.errors.APIError, match="message delete not permitted"):
        await js.delete_msg(subjects.JOBS, ack.seq)


async def test_full_event_log_refuses_new_events_and_keeps_old_ones(nats_connection: Client) -> None:
    await topology.apply(nats_connection, max_bytes={"JOBS": 4096})
    js = nats_connection.jetstream()
    first = subjects.job_event(new_id(), "leased")
    await js.publish(first, b"x" * 2_000)
    with pytest.raises(nats.js.errors.APIError) as caught:
        await js.publish(subjects.job_event(new_id(), "leased"), b"x" * 4_000)
    assert (caught.value.code, caught.value.err_code) == (503, 10077)
    assert (await js.get_last_msg(subjects.JOBS, first)).data == b"x" * 2_000


async def _set_timer(nc: Client, job: str, purpose: str, *, in_s: float, body: bytes = b"") -> None:
    due = datetime.now(UTC) + timedelta(seconds=in_s)
    headers = {
        subjects.H_SCHEDULE: due.strftime("@at %Y-%m-%dT%H:%M:%S.%fZ"),
        subjects.H_SCHEDULE_TARGET: subjects.timer_due(JobId(job), purpose),
    }
    await nc.jetstream().publish(subjects.timer(JobId(job), purpose), body, headers=headers)


async def test_timer_fires_once_and_is_gone_when_acknowledged(applied: Client) -> None:
    job = new_id()
    await _set_timer(applied, job, "retry", in_s=0.1, body=b"wake")
    due = await applied.jetstream().pull_subscribe_bind(subjects.KEEPER_TIMERS, stream=subjects.TIMERS)
    (message,) = await due.fetch(1, timeout=DEADLINE_S)
    assert (message.subject, message.data) == (subjects.timer_due(job, "retry"), b"wake")
    assert await _subjects(applied, subjects.TIMERS) == {subjects.timer_due(job, "retry"): 1}
    await message.ack_sync()
    assert await _subjects(applied, subjects.TIMERS) == {}


async def test_timer_set_again_replaces_and_purge_cancels(applied: Client) -> None:
    js = applied.jetstream()
    replaced, cancelled, last = new_id(), new_id(), new_id()
    await _set_timer(applied, replaced, "retry", in_s=3600, body=b"first")
    await _set_timer(applied, replaced, "retry", in_s=0.1, body=b"second")
    await _set_timer(applied, cancelled, "retry", in_s=0.3)
    await _set_timer(applied, cancelled, "deadline", in_s=0.3)
    await _set_timer(applied, last, "retry", in_s=0.6)
    await js.purge_stream(subjects.TIMERS, subject=subjects.job_timers(cancelled))

    due = await js.pull_subscribe_bind(subjects.KEEPER_TIMERS, stream=subjects.TIMERS)
    fired: list[tuple[str, bytes]] = []
    while not fired or fired[-1][0] != subjects.timer_due(last, "retry"):
        for message in await due.fetch(1, timeout=DEADLINE_S):
            fired.append((message.subject, message.data))
            await message.ack_sync()
    assert fired == [
        (subjects.timer_due(replaced, "retry"), b"second"),
        (subjects.timer_due(last, "retry"), b""),
    ]
    assert await _subjects(applied, subjects.TIMERS) == {}


async def test_timers_of_one_purpose_that_nobody_fetches_do_not_pile_up(applied: Client) -> None:
    job = new_id()
    due = await applied.subscribe(subjects.timer_due(job, "retry"))
    raw = await applied.jetstream().pull_subscribe_bind(subjects.KEEPER_TIMERS, stream=subjects.TIMERS)
    for _ in range(3):
        await _set_timer(applied, job, "retry", in_s=-1)
        (message,) = await raw.fetch(1, timeout=DEADLINE_S)  # fetched, never acknowledged
        assert message.subject == subjects.timer_due(job, "retry")
    assert await _subjects(applied, subjects.TIMERS) == {subjects.timer_due(job, "retry"): 1}
    assert due.pending_msgs == 0  # what a schedule produces does not reach plain subscribers


async def test_timer_outlives_a_killed_broker(broker: NatsServer, applied: Client) -> None:
    missed, ahead = new_id(), new_id()
    await _set_timer(applied, missed, "retry", in_s=0.05)
    await _set_timer(applied, ahead, "retry", in_s=1)
    await broker.kill()
    await broker.restart()
    due = await applied.jetstream().pull_subscribe_bind(subjects.KEEPER_TIMERS, stream=subjects.TIMERS)
    fired: set[str] = set()
    async with asyncio.timeout(DEADLINE_S):
        while len(fired) < 2:
            for message in await due.fetch(1, timeout=DEADLINE_S):
                fired.add(message.subject)
                await message.ack_sync()
    assert fired == {subjects.timer_due(missed, "retry"), subjects.timer_due(ahead, "retry")}


async def test_key_of_a_worker_expires_with_a_marker_for_watchers(applied: Client) -> None:
    watch = await applied.jetstream().subscribe("$KV.workers.w1", ordered_consumer=True)
    headers = {"Nats-TTL": "1s"}
    await applied.jetstream().publish("$KV.workers.w1", b"{}", headers=headers)
    put, marker = [await watch.next_msg(timeout=DEADLINE_S) for _ in range(2)]
    await watch.unsubscribe()
    assert put.data == b"{}"
    assert marker.headers is not None
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge"


async def test_progress_is_conflated_and_lines_of_output_are_not(applied: Client) -> None:
    js, job = applied.jetstream(), new_id()
    for _ in range(20):
        await js.publish(subjects.progress(job), b"{}")
        await js.publish(subjects.log(job), b"line")
    assert await _subjects(applied, subjects.PROGRESS) == {subjects.progress(job): 8}
    assert await _subjects(applied, subjects.LOGS) == {subjects.log(job): 20}
