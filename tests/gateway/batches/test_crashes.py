"""Batches whose keepers, gateway or plan go away in the middle."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.keeper.batches import feeding
from switchyard.services.keeper.batches.hold import Hold
from tests.gateway.batches.site import Batches, batches, double, jsonl, keeper
from tests.gateway.batches.test_batches import KIND, doubled, each_once
from tests.worker.site import TestConnector


async def test_keepers_that_die_in_the_middle_lose_and_double_no_line(
    broker: NatsServer, tmp_path: Path
) -> None:
    connector = TestConnector(doubled, KIND)
    async with batches(broker.url, tmp_path) as at:
        made = await at.make(jsonl(*map(double, range(1, 601))), window=120)
        for least in (1, 150, 300, 450):
            async with keeper(at.api), at.api.worker(connector, name=f"w{least}", slots=8):
                await _until_taken(at, made["id"], least)
        async with keeper(at.api), at.api.worker(connector, name="last", slots=8):
            ended = await at.until(made["id"])
        results, errors = await at.outputs(made["id"])
        assert (ended["state"], len(results), errors) == ("completed", 600, [])
        each_once(results, errors, 600)
        await at.api.caught_up()
        jobs = (await at.get(made["id"]))["lines"]["jobs"]
        assert jobs == {"succeeded": 600}, "no line made a second job"


async def test_two_keepers_at_once_make_one_job_of_each_line(broker: NatsServer, tmp_path: Path) -> None:
    async with batches(broker.url, tmp_path) as at, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(keeper(at.api))
        await stack.enter_async_context(at.api.worker(TestConnector(doubled, KIND), slots=8))
        made = [await at.make(jsonl(*map(double, range(1, 101)))) for _ in range(4)]
        for one in made:
            await at.until(one["id"], "completed")
            results, errors = await at.outputs(one["id"])
            each_once(results, errors, 100)
            await at.api.caught_up()
            assert (await at.get(one["id"]))["lines"]["jobs"] == {"succeeded": 100}


async def test_lines_submitted_just_before_a_crash_are_cancelled_with_their_batch(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor is before them: nobody wrote down that they were submitted."""
    change = Hold.change

    async def dies(self: Hold, **fields: Any) -> None:
        if "cursor" in fields:
            raise asyncio.CancelledError
        await change(self, **fields)

    async with batches(broker.url, tmp_path) as at:
        made = await at.make(jsonl(*map(double, range(1, 301))), window=300)
        with monkeypatch.context() as patch:
            patch.setattr(Hold, "change", dies)
            async with keeper(at.api), asyncio.timeout(60):
                async for found in at.seen(made["id"]):
                    if found["lines"]["jobs"].get("queued") == feeding.CHUNK:
                        break
        assert found["lines"]["waiting"] == 300
        await at.api.call("POST", f"/v1/batches/{made['id']}/cancel")
        async with keeper(at.api):
            await at.until(made["id"], "cancelled")
        results, errors = await at.outputs(made["id"])
        each_once(results, errors, 300)
        assert sum(one["job"] is not None for one in errors) == feeding.CHUNK
        async with asyncio.timeout(60):
            async for found in at.seen(made["id"]):
                if found["lines"]["jobs"] == {"cancelled": feeding.CHUNK}:
                    break


async def test_batch_goes_on_when_its_input_is_deleted(broker: NatsServer, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def waits(attempt: Attempt) -> Any:
        await go.wait()
        return {"doubled": attempt.payload["n"] * 2}

    async with (
        batches(broker.url, tmp_path) as at,
        keeper(at.api),
        at.api.worker(TestConnector(waits, KIND), slots=8),
    ):
        made = await at.make(jsonl(*map(double, range(1, 51))), window=10)
        await _until_taken(at, made["id"], 10)
        assert (await at.api.call("DELETE", f"/v1/files/{made['input']}")).status == 204
        go.set()
        await at.until(made["id"], "completed")
        assert len((await at.outputs(made["id"]))[0]) == 50


async def test_batch_whose_plan_was_deleted_fails_and_leaves_no_job_behind(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with batches(broker.url, tmp_path) as at, keeper(at.api):
        made = await at.make(jsonl(*map(double, range(1, 51))), window=10)
        await _until_taken(at, made["id"], 10)
        plan = await _plan(at)
        assert (await at.api.call("DELETE", f"/v1/files/{plan}")).status == 204
        assert (await at.api.call("POST", f"/v1/batches/{made['id']}/cancel")).status == 202
        ended = await at.until(made["id"], "failed")
        assert [one["code"] for one in ended["faults"]] == ["plan_gone"]


async def test_limits_of_the_tenant_make_a_batch_wait_and_not_fail(
    broker: NatsServer, tmp_path: Path
) -> None:
    connector = TestConnector(doubled, KIND)
    async with batches(broker.url, tmp_path, tenant_jobs=5) as at, keeper(at.api):
        made = await at.make(jsonl(*map(double, range(1, 21))))
        async with asyncio.timeout(40):
            async for found in at.seen(made["id"]):
                if found["waits_for"]:
                    break
        assert "too_many_jobs" in found["waits_for"]
        async with at.api.worker(connector, slots=4):
            await at.until(made["id"], "completed")
        results, errors = await at.outputs(made["id"])
        assert (len(results), errors) == (20, [])


async def test_jobs_of_an_open_batch_are_not_archived(broker: NatsServer, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def last_waits(attempt: Attempt) -> Any:
        if attempt.payload["n"] == 20:
            await go.wait()
        return {"doubled": attempt.payload["n"] * 2}

    async with (
        batches(broker.url, tmp_path, keep_s=0.5) as at,
        keeper(at.api) as kept,
        at.api.worker(TestConnector(last_waits, KIND), slots=4),
    ):
        other = (await at.api.call("POST", "/v1/jobs", {"kind": KIND, "payload": {"n": 1}})).json["id"]
        made = await at.make(jsonl(*map(double, range(1, 21))))
        async with asyncio.timeout(60):
            while (await at.api.get(f"/v1/jobs/{other}")).json["state"] != "archived":
                await asyncio.sleep(0.1)
            async for found in at.seen(made["id"]):
                if found["lines"]["succeeded"] == 19:
                    break
            before = kept.retention.archived
            assert (await at.get(made["id"]))["lines"]["jobs"] == {"succeeded": 19, "running": 1}
            go.set()
            await at.until(made["id"], "completed")
            results, errors = await at.outputs(made["id"])
            assert (len(results), errors) == (20, [])
            while kept.retention.archived < before + 20:
                await asyncio.sleep(0.1)


async def _until_taken(at: Batches, batch: str, least: int) -> None:
    async with asyncio.timeout(60):
        async for found in at.seen(batch):
            if found["lines"]["total"] and found["lines"]["total"] - found["lines"]["waiting"] >= least:
                return


async def _plan(at: Batches) -> str:
    async with asyncio.timeout(60):
        while True:
            for one in await at.files():
                if ".plan." in one:
                    return one
            await asyncio.sleep(0.02)
