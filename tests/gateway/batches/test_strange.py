"""Batches whose records a stranger or a newer version wrote, and tenants that have as much as they may."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switchyard.services import clock
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.files import erasures
from switchyard.services.ids import new_id
from switchyard.services.records.batches.record import BATCHES, Batch, BatchState
from tests.gateway.batches.site import DEADLINE_S, Batches, batches, double, jsonl, keeper
from tests.gateway.batches.test_batches import KIND, doubled
from tests.gateway.uploads.tus import Tus
from tests.worker.site import TestConnector


async def test_records_that_make_no_sense_stop_no_other_batch_and_are_shown(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with batches(broker.url, tmp_path) as at:
        junk, now = await at.upload(b"\xff is no plan\n" * 3), clock.now()
        odd = Batch(
            tenant=at.api.tenant, id=new_id(), state=BatchState.IN_PROGRESS, created_at=now, created_by="x",
            input=junk, plan=junk, lines=3, window=5, deadline_at=now + timedelta(hours=1),
        )  # fmt: skip
        newer = new_id()
        bodies = {
            odd.id: BATCHES.values.encode(odd),
            newer: BATCHES.values.encode(msgspec.structs.replace(odd, id=newer)).replace(
                b'"in_progress"', b'"at_rest"'
            ),
        }
        for batch, body in bodies.items():
            await at.api.publisher.publish(BATCHES.subject((at.api.tenant, batch)), body, {})
        connector = TestConnector(doubled, KIND)
        async with keeper(at.api), at.api.worker(connector):
            made = await at.make(jsonl(double(1)))
            assert (await at.until(made["id"]))["state"] == "completed"
            async with asyncio.timeout(DEADLINE_S):
                while len(await aside(at)) < len(bodies):
                    await asyncio.sleep(0.05)
            # A second one goes the same way: the keeper has not ended.
            again = await at.make(jsonl(double(2)))
            assert (await at.until(again["id"]))["state"] == "completed"
        assert (await at.api.get(f"/v1/batches/{newer}")).status == 404
        assert {one["subject"] for one in await aside(at)} == {
            BATCHES.subject((at.api.tenant, batch)) for batch in bodies
        }  # fmt: skip


async def aside(at: Batches) -> list[dict[str, Any]]:
    """What of the bucket was set aside."""
    answer = await at.api.get("/v1/quarantine?stream=KV_batches", token=at.api.token("admin"))
    found: list[dict[str, Any]] = answer.json["quarantine"]
    return list({one["subject"]: one for one in found}.values())


async def test_a_tenant_that_has_as_much_as_it_may_is_refused_by_name_and_others_are_not(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "FRESH_S", 0.0)
    limits = {"batches": 1, "uploads": 1, "erasures": 1}
    async with batches(broker.url, tmp_path, **limits) as at:
        api, other = at.api, at.api.token(tenant="other")
        tus, stranger = Tus(api.http, api.url, api.token()), Tus(api.http, api.url, other)
        begun = {"Upload_Length": "5"}
        assert [(await tus.call("POST", **begun)).status for _ in range(2)] == [201, 429]
        assert (await stranger.call("POST", **begun)).status == 201
        body = {"input": await at.upload(jsonl(double(1)))}
        assert (await api.call("POST", "/v1/batches", body)).status == 201
        full = await api.call("POST", "/v1/batches", body)
        assert (full.status, full.json["code"]) == (422, "too_many_batches")
        assert api.tenant in full.json["detail"]
        files = [
            (await api.call("POST", "/v1/files?name=a&erasable=true", b"x")).json["id"] for _ in range(2)
        ]
        assert (await api.call("DELETE", f"/v1/files/{files[0]}")).status == 204
        wish = {"kind": "noop", "erasable": True}
        for method, path, sent in (("DELETE", f"/v1/files/{files[1]}", None), ("POST", "/v1/jobs", wish)):
            refused = await api.call(method, path, sent)
            assert (refused.status, refused.json["code"]) == (429, "too_many_erasures"), refused
            assert api.tenant in refused.json["detail"]
        assert (await api.call("POST", "/v1/jobs", wish, token=other)).status == 201
        assert (await api.call("POST", "/v1/jobs", {"kind": "noop"})).status == 201
