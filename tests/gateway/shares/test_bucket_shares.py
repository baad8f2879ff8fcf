"""What one tenant may have of schedules, documents, keys, files, lines and places; by small limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.broker.shared import SharedBroker
from tests.gateway.leases.test_leases import Worker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Answer, Gateway, gateway
from tests.gateway.shares.test_lane_shares import submit
from tests.gateway.shares.test_shares import others_go_on, until, used

# --- Octopoid


async def test_a_task_over_the_limit_is_refused_and_leaves_no_document(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=1, octopoid_bytes=20_000) as api:
        octo, other = Octopoid(api), Octopoid(api)
        await octo.register()
        await other.register()
        await octo.create("t")
        full = await octo.call("POST", "/tasks", octo.task("u"))
        assert (full.status, full.json["code"]) == (429, "too_many_jobs")
        assert (await octo.call("GET", "/tasks/u")).status == 404
        message = {"task_id": "t", "from_actor": "a", "type": "note", "content": "x" * 15_000}
        assert (await octo.call("POST", "/messages", message)).status == 201
        refused = await octo.call("POST", "/messages", message)
        assert (refused.status, refused.json["code"]) == (429, "too_many_bytes")
        assert (await octo.patch("t", content="x" * 15_000)).status == 429
        assert (await other.call("POST", "/messages", message)).status == 201
        assert (await other.create("t"))["queue"] == "incoming"


# --- Schedules, claims, files, lines


async def schedule(api: Gateway, name: str, *, tenant: str | None = None, size: int = 1) -> Answer:
    body = {
        "name": name,
        "cron": "0 0 1 1 *",
        "job": {"kind": api.tenant, "payload": {"x": "y" * size}},
    }
    return await api.call("POST", "/v1/schedules", body, token=api.token(tenant=tenant))


async def test_schedules_are_limited_in_number_and_bytes_at_all_gateways(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"schedules": 3, "schedule_bytes": 5000}
    async with (
        gateway(shared_broker.url, tmp_path / "a", **limits) as one,
        gateway(shared_broker.url, tmp_path / "b", **limits) as other,
    ):
        answers = await asyncio.gather(*(schedule(one, f"s{number}") for number in range(8)))
        assert sorted(answer.status for answer in answers) == [201] * 3 + [422] * 5

        async def seen() -> bool:
            return await used(other, "schedules", one.tenant) == 3

        await until(seen)
        refused = await schedule(other, "s9", tenant=one.tenant)
        assert (refused.status, refused.json["code"]) == (422, "too_many_schedules")
        assert "has 3 schedules, of at most 3" in refused.json["detail"]
        made = next(number for number, answer in enumerate(answers) if answer.status == 201)
        assert (await one.call("DELETE", f"/v1/schedules/s{made}")).status == 204
        large = await schedule(one, "large", size=6000)
        assert (large.status, large.json["code"]) == (429, "too_many_bytes")
        assert (await schedule(one, "small")).status == 201
        assert (await one.call("POST", "/v1/schedules/small/pause")).status == 200
        assert (await schedule(one, "s", tenant=one.stranger)).status == 201


async def test_keys_of_claims_are_limited_and_claims_without_go_on(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_claims=1) as api:
        worker = Worker(api, kinds=[api.tenant], wait_s=5)
        for _ in range(3):
            await submit(api)
        first = await worker.claim(headers={"Idempotency_Key": "a"})
        assert first.status == 201
        again = await worker.claim(headers={"Idempotency_Key": "a"})
        assert again.json["job"]["id"] == first.json["job"]["id"]
        refused = await worker.claim(headers={"Idempotency_Key": "b"})
        assert (refused.status, refused.json["code"]) == (429, "too_many_claim_keys")
        assert (await worker.claim()).status == 201
        assert await used(api, "claim_keys") == 1
        await others_go_on(api)


async def test_files_are_limited_in_number(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_files=2) as api:

        async def upload(tenant: str | None = None) -> Answer:
            return await api.call("POST", "/v1/files", b"x", token=api.token(tenant=tenant))

        assert [(await upload()).status for _ in range(2)] == [201, 201]
        refused = await upload()
        assert (refused.status, refused.json["code"]) == (413, "quota_exceeded")
        assert f"tenant {api.tenant} keeps 2 files" in refused.json["detail"]
        assert (await upload(api.stranger)).status == 201


async def test_a_result_that_becomes_a_file_counts_as_one(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(
        shared_broker.url, tmp_path, tenant_files=1, inline_result_bytes=10, tenant_bytes=1000
    ) as api:
        worker = Worker(api, kinds=[api.tenant], wait_s=5)
        await submit(api)
        claimed = await worker.claim()
        large = await worker.say(claimed, "succeed", {"result": "x" * 2000})
        assert (large.status, large.json["code"]) == (413, "quota_exceeded")
        assert (await worker.say(claimed, "succeed", {"result": "x" * 20})).status == 200
        await submit(api)
        claimed = await worker.claim()
        assert (await worker.say(claimed, "succeed", {"result": "x" * 20})).status == 413
        assert (await worker.say(claimed, "succeed", {"result": "x"})).status == 200


async def test_log_lines_of_a_tenant_that_has_had_too_many_are_dropped(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_log_lines_bytes=2000) as api:
        worker = Worker(api, kinds=[api.tenant], wait_s=5)
        await submit(api)
        claimed = await worker.claim()
        said = await worker.say(claimed, "logs", {"lines": ["x" * 1000] * 3})
        assert (said.status, said.json["lines_dropped"]) == (200, 2)
        assert (await worker.say(claimed, "logs", {"lines": ["y" * 10]})).json.get("lines_dropped") is None
        assert (await worker.say(claimed, "logs", {"lines": ["z" * 1000]})).json["lines_dropped"] == 1
        assert (await worker.say(claimed, "succeed", {})).status == 200


async def test_claims_that_wait_leave_room_for_those_of_others(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, claimers=3, tenant_claimers=2) as api:
        worker = Worker(api, kinds=[api.tenant])

        async def wait(name: str) -> Answer:
            while (answer := await worker.claim(worker=name, wait_s=60)).status == 429:
                pass  # what asks whether all places are taken had the last one
            return answer

        waiting = [asyncio.create_task(wait(f"w{n}")) for n in range(2)]

        async def is_full() -> bool:
            answer = await worker.claim()
            return answer.status == 429 and answer.json["code"] == "too_many_claims"

        await until(is_full)
        await others_go_on(api)
        for _ in waiting:
            await submit(api)
        assert [(await claimed).status for claimed in waiting] == [201, 201]
        assert (await worker.claim()).status == 204


async def test_uploads_that_stand_still_leave_room_for_those_of_others(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, transfers=2, tenant_transfers=1) as api:
        go_on = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"x"
            await go_on.wait()

        async def slow() -> int:
            headers = {"Authorization": f"Bearer {api.token()}"}
            while True:
                async with api.http.post(f"{api.url}/v1/files", data=body(), headers=headers) as answer:
                    if answer.status != 429:
                        return answer.status

        async def is_full() -> bool:
            answer = await api.call("POST", "/v1/files", b"x")
            return answer.status == 429 and answer.json["code"] == "too_many_transfers"

        upload = asyncio.create_task(slow())
        await until(is_full)
        other = await api.call("POST", "/v1/files", b"x", token=api.token(tenant=api.stranger))
        assert other.status == 201
        go_on.set()
        assert await upload == 201
