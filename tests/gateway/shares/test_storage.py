"""Room: sizes that are kept, a reserve for the ends of jobs, and what is said and done when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.projections.reader import ReadModel
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api as ask
from switchyard.services.broker.server.server import NatsServer, start_broker
from switchyard.services.broker.topology_spec import TopologyError, load
from switchyard.services.cli.doctor import storage as doctor_storage
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records import room
from switchyard.services.settings import Settings
from switchyard.services.settings.loading import load_settings
from switchyard.services.settings.stream_sizes import StreamSizes, stream_of
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

SMALL = 4 * 1024 * 1024
PAYLOAD = {"x": "y" * 20_000}


async def size_of(nc: Client, stream: str) -> int:
    return int((await ask(nc, f"STREAM.INFO.{stream}", timeout_s=20))["config"]["max_bytes"])


async def resize(nc: Client, stream: str, size: int) -> None:
    config = (await ask(nc, f"STREAM.INFO.{stream}", timeout_s=20))["config"]
    assert "error" not in await ask(nc, f"STREAM.UPDATE.{stream}", config | {"max_bytes": size}, timeout_s=20)


# --- Sizes


def test_every_stream_with_a_limit_has_a_setting_for_it() -> None:
    limited = {stream.name for stream in load().streams if stream.max_bytes > 0}
    assert {stream_of(name) for name in StreamSizes.model_fields} == limited
    sizes = {name: number for number, name in enumerate(StreamSizes.model_fields, 1)}
    assert set(Settings.model_validate(sizes).stream_bytes()) == limited


def test_a_size_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_JOBS_BYTES", "17179869184")
    monkeypatch.setenv("SWITCHYARD_KV_LANES_BYTES", "1048576")
    assert load_settings().settings.stream_bytes() == {"JOBS": 16 << 30, "KV_lanes": 1 << 20}


@pytest.mark.parametrize("stream", ["JOBS", "LOGS", "KV_lanes", "OBJ_files"])
@pytest.mark.parametrize("size", [SMALL, 9 << 30, -1])
async def test_a_size_that_the_operator_has_changed_is_kept(
    nats_connection: Client, stream: str, size: int
) -> None:
    await topology.apply(nats_connection)
    await resize(nats_connection, stream, size)
    assert await topology.diff(nats_connection) == []
    assert await topology.apply(nats_connection) == []
    assert await size_of(nats_connection, stream) == size


async def test_a_size_that_is_set_is_applied(nats_connection: Client) -> None:
    await topology.apply(nats_connection)
    for size in (9 << 30, SMALL):
        await topology.apply(nats_connection, max_bytes={"JOBS": size})
        assert await size_of(nats_connection, "JOBS") == size


async def test_a_size_below_what_a_stream_holds_is_refused_aloud_and_changes_nothing(
    nats_connection: Client,
) -> None:
    await topology.apply(nats_connection)
    await nats_connection.jetstream().publish("job.x.hello", b"y" * 10_000)
    with pytest.raises(TopologyError, match=r"JOBS holds \d+ bytes, more than the 5000 that SWITCHYARD"):
        await topology.apply(nats_connection, max_bytes={"JOBS": 5000, "LOGS": 1 << 20})
    assert await size_of(nats_connection, "LOGS") == 1 << 30


async def test_a_limit_on_what_must_have_none_is_taken_away(nats_connection: Client) -> None:
    await topology.apply(nats_connection)
    await resize(nats_connection, "WORK", SMALL)
    [difference] = await topology.diff(nats_connection)
    assert (difference.where, difference.field) == ("WORK", "max_bytes")
    await topology.apply(nats_connection)
    assert await size_of(nats_connection, "WORK") == -1


# --- The reserve


@pytest.fixture
async def small(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setattr(
        "switchyard.services.intake.shares.EVENTS_BYTES", 0
    )  # or the tenant's share may be spent first
    async with gateway(broker.url, tmp_path, max_bytes={"JOBS": SMALL}, tenant_log_share=1.0) as api:
        yield api


async def fill(api: Gateway) -> list[dict[str, Any]]:
    """Submit until no more is taken in."""
    jobs: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.call("POST", "/v1/jobs", {"kind": "noop", "payload": PAYLOAD})
            if answer.status == 429:  # for a moment a job may count both here and in the read model
                assert answer.json["code"] == "log_share_spent"
                await asyncio.sleep(0.1)
                continue
            if answer.status != 201:
                assert (answer.status, answer.json["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                assert "kept for the ends of jobs" in answer.json["detail"]
                return jobs
            jobs.append(answer.json)


async def test_new_jobs_are_refused_before_the_log_is_full_and_the_others_can_end(small: Gateway) -> None:
    first = await small.submit()
    held = await small.lease(first["id"])
    jobs = await fill(small)
    log = room.fill_of(await ask(small.nc, "STREAM.INFO.JOBS", timeout_s=20))
    assert 0.94 < log.share < 0.97
    for body in ({"kind": "noop"}, {"kind": "noop", "delay_s": 60}):
        assert (await small.call("POST", "/v1/jobs", body)).status == 503
    assert [line["error"]["code"] for line in await small.bulk({"kind": "noop"})] == ["unavailable"]
    assert (await small.complete(held, {"n": 1})).status.value == "succeeded"
    for job in jobs[:20]:
        assert (await small.call("POST", f"/v1/jobs/{job['id']}/cancel")).status == 200
    dead = await small.fail(await small.lease(jobs[20]["id"]), "broken", retryable=False)
    assert (await small.call("POST", f"/v1/jobs/{dead.id}/discard")).status == 200


async def test_a_log_that_is_nearly_full_is_reported_and_one_with_room_again_takes_jobs(
    small: Gateway,
) -> None:
    settings = small.settings
    assert (await doctor_storage.streams(small.nc, settings)).status == "ok"
    jobs = await fill(small)
    storage = (await small.get("/readyz")).json["checks"]["storage"]
    assert not storage["ok"]
    assert storage["log_limit"] == SMALL
    assert storage["log_bytes"] >= 0.94 * SMALL
    found = await doctor_storage.streams(small.nc, settings)
    assert (found.status, "SWITCHYARD_JOBS_BYTES" in found.found) == ("fail", True)
    metrics = (await small.get("/metrics", token=small.token("admin"))).raw.decode()
    assert 'switchyard_stream_limit_bytes{part="projector",stream="JOBS"} 4.194304e+06' in metrics
    assert 'switchyard_stream_bytes{part="projector",stream="JOBS"}' in metrics
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(Keeper(small.nc, settings).run())
        for job in jobs[:30]:
            await small.call("POST", f"/v1/jobs/{job['id']}/cancel")
            assert (await small.call("DELETE", f"/v1/jobs/{job['id']}")).status == 200
        async with asyncio.timeout(DEADLINE_S):
            while (await small.call("POST", "/v1/jobs", {"kind": "noop"})).status != 201:
                await asyncio.sleep(0.1)
        keeper.cancel()
    assert (await small.get("/readyz")).json["checks"]["storage"]["ok"]


# --- One finished job, archived


async def test_a_finished_job_is_archived_and_its_history_purged(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path) as api, asyncio.TaskGroup() as group:
        keeper = group.create_task(Keeper(api.nc, api.settings, ReadModel(tmp_path / "none")).run())
        job = await api.submit()
        path = f"/v1/jobs/{job['id']}"
        refused = await api.call("DELETE", path)
        assert (refused.status, refused.json["code"]) == (409, "illegal_transition")
        done = await api.complete(await api.lease(job["id"]), {"n": 1})
        for token in (api.token("viewer"), api.token(tenant=api.stranger)):
            assert (await api.call("DELETE", path, token=token)).status in (403, 404)
        for _ in range(2):  # the second time its effect is there
            answer = await api.call("DELETE", path)
            assert (answer.status, answer.json["state"], answer.json["archived_as"]) == (
                200, "archived", "succeeded",
            )  # fmt: skip
        async with asyncio.timeout(DEADLINE_S):
            while len(await api.store.history(job["id"])) != 1:
                await asyncio.sleep(0.02)
        [last] = await api.store.history(job["id"])
        assert last.seq == done.seq + 1
        assert last.actor == "user:ann"
        assert (await api.get(f"{path}/result")).status == 410
        assert (await api.call("DELETE", "/v1/jobs/0198c0de-0000-7000-8000-000000000000")).status == 404
        keeper.cancel()


# --- One bound


async def test_a_request_is_answered_within_its_bound_while_the_broker_is_away(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, answer_s=1.0, request_timeout_s=5.0) as api:
        job = await api.submit()
        await broker.kill()
        calls = [
            ("POST", "/v1/jobs", {"kind": "noop"}),
            ("POST", "/v1/jobs", {"kind": "noop", "requires": {"a": 1}}),
            ("POST", f"/v1/jobs/{job['id']}/cancel", None), ("GET", f"/v1/jobs/{job['id']}?wait=1", None),
            ("PATCH", f"/v1/jobs/{job['id']}", {"priority": 3}), ("DELETE", f"/v1/jobs/{job['id']}", None),
        ]  # fmt: skip
        started = time.monotonic()
        answers = await asyncio.gather(*(api.call(method, path, body) for method, path, body in calls))
        assert [answer.status for answer in answers] == [503] * len(calls)
        assert all(answer.headers["Retry-After"] for answer in answers)
        assert time.monotonic() - started < 10  # eight tries of five seconds take 40


# --- A disk that is full


@contextlib.asynccontextmanager
async def on_disk(disk: Path) -> AsyncIterator[tuple[NatsServer, Gateway]]:
    server = await start_broker(disk)
    try:
        async with gateway(server.url, disk, answer_s=2.0, request_timeout_s=1.0) as api:
            yield server, api
    finally:
        await server.stop()


async def test_jobs_are_refused_before_the_disk_is_full_and_taken_in_once_there_is_room(disk: Path) -> None:
    async with on_disk(disk) as (_, api):
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (40 << 20))
        jobs = await fill(api)
        assert jobs
        assert not (await api.get("/readyz")).json["checks"]["storage"]["ok"]
        assert (await api.call("POST", f"/v1/jobs/{jobs[0]['id']}/cancel")).status == 200
        ballast.unlink()
        async with asyncio.timeout(DEADLINE_S):
            while (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status != 201:
                await asyncio.sleep(0.1)
        assert (await api.get("/readyz")).json["checks"]["storage"]["ok"]
        for job in jobs:
            assert (await api.get(f"/v1/jobs/{job['id']}")).status == 200


async def test_a_disk_filled_by_others_is_reported_and_nothing_acknowledged_is_lost(disk: Path) -> None:
    async with on_disk(disk) as (server, api):
        kept = [await api.submit() for _ in range(20)]
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)
        for one in kept:  # what still goes into the log fills the last of it
            started = time.monotonic()
            reason = {"reason": "x" * 900}
            if (await api.call("POST", f"/v1/jobs/{one['id']}/cancel", reason)).status == 503:
                break
            assert time.monotonic() - started < DEADLINE_S / 2
        answer = await api.call("POST", "/v1/jobs", {"kind": "noop", "payload": PAYLOAD})
        assert answer.status == 503
        checks = (await api.get("/readyz")).json["checks"]
        assert not all(check["ok"] for check in checks.values())
        said = await doctor_storage.streams(api.nc, api.settings)
        assert said.status == "fail"
        if "reads" in checks:  # the broker has met the end of the disk itself
            assert "start the broker again" in checks["reads"]["advice"]
            assert "start it again" in said.advice
        (disk / "ballast").unlink()
        await server.restart()
        async with asyncio.timeout(DEADLINE_S):
            while (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status != 201:
                await asyncio.sleep(0.1)
        for old in kept:
            assert (await api.get(f"/v1/jobs/{old['id']}")).status == 200
        assert subjects.JOBS in {fill.stream for fill in await room.fills(api.nc, timeout_s=20)}
