"""Jobs that retention took: archived, then unknown, and their ids and keys free again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.keeper.loop import Keeper
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

BODY = {"kind": "noop", "labels": {"batch": "b1"}}


@contextlib.asynccontextmanager
async def keeping(api: Gateway) -> AsyncIterator[None]:
    model = ReadModel(path_in(api.settings.data_dir))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Keeper(api.nc, api.settings, model).run())
        yield
        task.cancel()
    model.close()


async def test_a_job_is_archived_then_unknown_and_its_idempotency_key_makes_a_new_one(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, keep_s=0.5, archive_ttl_s=2) as api, keeping(api):
        made = await api.call("POST", "/v1/jobs", BODY, Idempotency_Key="k1")
        path = f"/v1/jobs/{made.json['id']}"
        await api.complete(await api.lease(made.json["id"]))
        seen = set()
        async with asyncio.timeout(DEADLINE_S * 2):
            while (answer := await api.get(path)).status == 200:
                seen.add(answer.json["state"])
            assert "archived" in seen
            assert (answer.status, answer.json["code"]) == (404, "not_found")
            while (await api.get("/v1/jobs?label=batch:b1")).json.get(
                "jobs"
            ) != []:  # 503 while it is built again
                pass
        assert (await api.call("DELETE", path)).status == 404
        again = await api.call("POST", "/v1/jobs", BODY, Idempotency_Key="k1")
        assert (again.status, again.json["id"], again.json["state"]) == (201, made.json["id"], "queued")
        assert (await api.get(path)).json["state"] == "queued"


async def test_a_job_that_was_archived_by_hand_goes_as_others_do(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, keep_s=3600, archive_ttl_s=1) as api, keeping(api):
        job = await api.submit()
        await api.complete(await api.lease(job["id"]))
        assert (await api.call("DELETE", f"/v1/jobs/{job['id']}")).json["state"] == "archived"
        async with asyncio.timeout(DEADLINE_S * 2):
            while (await api.get(f"/v1/jobs/{job['id']}")).status != 404:
                pass


async def test_a_time_that_is_set_shorter_holds_for_what_has_ended(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, keep_s=20.0) as api, keeping(api):
        kept, other = await api.submit(), await api.submit(kind="other")
        for job in (kept, other):
            await api.complete(await api.lease(job["id"]))
        body = {"keep_s": 0.01}
        assert (await api.call("PUT", "/v1/kinds/other", body, token=api.token("admin"))).status == 200
        async with asyncio.timeout(DEADLINE_S * 2):
            while (await api.get(f"/v1/jobs/{other['id']}")).json["state"] != "archived":
                pass
        assert (await api.get(f"/v1/jobs/{kept['id']}")).json["state"] == "succeeded"
