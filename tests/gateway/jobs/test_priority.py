from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.services.broker.reader import last_message, read_range
from switchyard.services.records.lanes import lane_for
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

UNKNOWN = "01a206f7-c7a1-7287-aad5-27ef529fe738"


async def test_a_waiting_job_moves_to_the_lane_of_its_new_priority(api: Gateway) -> None:
    kind = f"k-{api.tenant}"
    job = await api.submit(kind=kind, priority=20)
    answer = await api.call("PATCH", f"/v1/jobs/{job['id']}", {"priority": 81})
    assert (answer.status, answer.json["priority"], answer.json["state"]) == (200, 81, "queued")
    assert int(answer.headers["Switchyard-Seq"]) == answer.json["seq"] > job["seq"]
    (event,) = (await api.store.history(job["id"]))[1:]
    assert (event.name, event.actor, event.event.cause) == ("queued", "user:ann", "reprioritised")  # type: ignore[union-attr]
    lane = lane_for(kind)
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await read_range(api.nc, "WORK", subjects.work(lane, 81), timeout_s=20)):
            pass  # the broker sources it
    assert [message.headers[subjects.H_SOURCE].split(" ")[1] for message in found] == [str(event.seq)]
    entry = f"$KV.lanes.{lane}.81"
    assert await last_message(api.nc, "KV_lanes", entry, timeout_s=20) is not None


async def test_the_same_priority_again_changes_nothing(api: Gateway) -> None:
    job = await api.submit(priority=20)
    answer = await api.call("PATCH", f"/v1/jobs/{job['id']}", {"priority": 20})
    assert (answer.status, answer.json["seq"]) == (200, job["seq"])


async def test_a_job_that_does_not_wait_in_a_lane_keeps_its_priority(api: Gateway) -> None:
    job = await api.submit()
    await api.lease(job["id"])
    answer = await api.call("PATCH", f"/v1/jobs/{job['id']}", {"priority": 60})
    assert (answer.status, answer.json["code"]) == (409, "illegal_transition")
    assert "cancel" in answer.json["allowed"]
    scheduled = await api.submit(delay_s=600)
    answer = await api.call("PATCH", f"/v1/jobs/{scheduled['id']}", {"priority": 60})
    assert (answer.status, answer.json["allowed"]) == (409, ["cancel"])


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"priority": 101}, 422, "priority"),
        ({"priority": -1}, 422, "priority"),
        ({"priority": "high"}, 422, "priority"),
        ({}, 422, "priority"),
        ({"priority": 5, "kind": "x"}, 422, "kind"),
        (b"{", 400, None),
    ],
)
async def test_a_wrong_change_is_refused(api: Gateway, body: object, status: int, field: str | None) -> None:
    job = await api.submit()
    answer = await api.call("PATCH", f"/v1/jobs/{job['id']}", body)
    assert (answer.status, answer.json.get("field")) == (status, field)


async def test_only_a_submitter_of_the_tenant_changes_a_priority(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}"
    assert (await api.call("PATCH", path, {"priority": 1}, token=api.token("viewer"))).status == 403
    stranger = api.token(tenant=api.stranger)
    assert (await api.call("PATCH", path, {"priority": 1}, token=stranger)).status == 404
    assert (await api.call("PATCH", f"/v1/jobs/{UNKNOWN}", {"priority": 1})).status == 404
    admin = api.token("admin", tenant=api.stranger)
    assert (await api.call("PATCH", f"{path}?tenant=*", {"priority": 1}, token=admin)).status == 200


async def test_a_priority_too_many_in_a_lane_is_refused_and_the_job_stays(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, priorities_per_lane=1) as api:
        job = await api.submit(kind=f"k-{api.tenant}")
        answer = await api.call("PATCH", f"/v1/jobs/{job['id']}", {"priority": 51})
        assert (answer.status, answer.json["code"]) == (422, "too_many_priorities")
        assert (await api.get(f"/v1/jobs/{job['id']}")).json["seq"] == job["seq"]
