"""How many lanes one tenant may open, while others continue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from switchyard.events.lane import LaneEntry, LaneKey, lane_id
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId, WorkerId
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.intake.routing import route_of
from switchyard.services.records.lane_entries import LANES, LanePlace
from switchyard.services.records.tenancy import Tenancy
from switchyard.services.records.workers import new_record
from switchyard.services.worker.registration import Registration
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway


async def submit(api: Gateway, *, tenant: str | None = None, **fields: Any) -> Answer:
    return await api.call("POST", "/v1/jobs", {"kind": api.tenant, **fields}, token=api.token(tenant=tenant))


async def opened(api: Gateway, tenant: str | None = None) -> int:
    return int((await usage(api, tenant))["lanes"]["used"])


async def usage(api: Gateway, tenant: str | None = None) -> dict[str, dict[str, Any]]:
    answer = await api.get("/v1/usage", token=api.token(tenant=tenant))
    assert answer.status == 200, answer
    found: dict[str, dict[str, Any]] = answer.json["usage"]
    return found


async def serve(api: Gateway, kind: str, tenant: str | None = None) -> None:
    """Have a live worker of a kind, and a gateway that knows it."""
    record = new_record(
        worker_id=WorkerId(f"w-{kind}"), kinds=(kind,), capabilities={}, slots=1, lease_s=60,
        tenancy=Tenancy(() if tenant is None else (tenant,)),
    )  # fmt: skip
    await Registration(api.publisher, record, dict, Reachability(60)).beat()
    token = api.token("admin")
    async with asyncio.timeout(DEADLINE_S):
        while (await api.get(f"/v1/workers/{record.id}", token=token)).status != 200:
            pass


async def fill(api: Gateway, count: int, **fields: Any) -> None:
    """Open as many lanes by as many requirements."""
    for number in range(count):
        answer = await submit(api, requires={"session": number}, **fields)
        assert answer.status == 201, answer


async def test_a_tenant_at_its_lane_limit_is_refused_with_its_own_number(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=3) as api:
        await fill(api, 3)
        refused = await submit(api, requires={"session": 3})
        assert (refused.status, refused.json["code"]) == (422, "too_many_lanes")
        assert refused.json["field"] == "requires"
        assert f"tenant {api.tenant} has opened 3 lanes" in refused.json["detail"]
        assert "of at most 3" in refused.json["detail"]
        assert "session (3)" in refused.json["detail"]
        lines = await api.bulk(
            {"kind": api.tenant, "requires": {"session": 9}}, {"kind": api.tenant, "requires": {"session": 1}}
        )
        assert [line["status"] for line in lines] == [422, 201]
        assert await opened(api) == 3


async def test_others_submit_claim_and_cancel_while_a_tenant_is_at_its_lane_limit(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=3) as api:
        await fill(api, 3)
        assert (await submit(api, requires={"session": 3})).status == 422
        # A lane that is there is used, and counts for nobody else.
        shared = await submit(api, tenant=api.stranger, requires={"session": 1})
        own = await submit(api, tenant=api.stranger, requires={"own": 1})
        assert (shared.status, own.status) == (201, 201)
        assert (await opened(api), await opened(api, api.stranger)) == (3, 1)
        claimed = await api.call(
            "POST", "/v1/leases",
            {"worker": "w", "kinds": [api.tenant], "capabilities": {"session": 1}, "wait_s": 10},
            token=api.token("worker", tenant=api.stranger),
        )  # fmt: skip
        assert (claimed.status, claimed.json["job"]["id"]) == (201, shared.json["id"])
        cancelled = await api.call(
            "POST", f"/v1/jobs/{own.json['id']}/cancel", token=api.token(tenant=api.stranger)
        )
        assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")


async def test_invented_kinds_and_priorities_count_as_lanes(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=4) as api:
        assert (await submit(api)).status == 201
        assert (await submit(api, priority=7)).status == 201
        first = await submit(api, kind=f"{api.tenant}-1")
        assert first.status == 201
        moved = await api.call("PATCH", f"/v1/jobs/{first.json['id']}", {"priority": 3})
        assert moved.status == 200
        for refused in (
            await submit(api, kind=f"{api.tenant}-2"),
            await submit(api, priority=8),
            await api.call("PATCH", f"/v1/jobs/{first.json['id']}", {"priority": 9}),
        ):
            assert (refused.status, refused.json["code"]) == (422, "too_many_lanes"), refused
        assert (await submit(api, tenant=api.stranger, kind=f"{api.tenant}-3")).status == 201


async def test_cycles_of_submissions_and_cancels_open_no_more_lanes(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=3) as api:
        for number in range(6):
            answer = await submit(api, requires={"session": number})
            assert answer.status == (201 if number < 3 else 422)
            if answer.status == 201:
                assert (await api.call("POST", f"/v1/jobs/{answer.json['id']}/cancel")).status == 200
        assert await opened(api) == 3
        assert (await submit(api, tenant=api.stranger, requires={"session": "s"})).status == 201


async def test_a_preference_is_dropped_at_a_tenants_limit_before_a_job_is_refused(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=2) as api:
        await fill(api, 2)
        answer = await submit(api, requires={"session": 1}, prefers={"warm": True})
        assert answer.status == 201
        assert (await api.store.spec(answer.json["id"])).prefers == {}


async def test_plain_lanes_of_kinds_that_are_served_or_configured_are_admitted_at_every_limit(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, tenant_lanes=2, lanes=3) as api:
        await serve(api, "served")
        put = await api.call("PUT", "/v1/kinds/configured", {"priority": 70}, token=api.token("admin"))
        assert put.status == 200
        await serve(api, "own", tenant=api.tenant)
        await fill(api, 2)
        assert (await submit(api, kind="served", requires={"a": 1})).status == 422
        for kind in ("served", "configured"):
            assert (await submit(api, kind=kind)).status == 201
        assert await opened(api) == 2  # those count for nobody
        assert (
            await submit(api, tenant=api.stranger, requires={"b": 1})
        ).status == 422  # all lanes are in use
        assert (await submit(api, tenant=api.stranger, kind="nobodys")).status == 422
        for fields in ({"kind": "own"}, {"kind": "served", "priority": 1}):
            assert (await submit(api, **fields)).status == 201
        # What a tenant's own workers serve, and other priorities, have as much room again, and no more.
        refused = await submit(api, kind="served", priority=2)
        assert (refused.status, refused.json["code"]) == (422, "too_many_lanes")
        assert (await submit(api, tenant=api.stranger, kind="served", priority=2)).status == 201


async def test_plain_lanes_of_a_tenants_own_have_room_beside_its_limit(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=2) as api:
        admin, kind = api.token("admin"), f"{api.tenant}-fair"
        put = await api.call("PUT", f"/v1/kinds/{kind}", {"fair_share": True}, token=admin)
        assert put.status == 200
        await serve(api, f"{api.tenant}-limited")
        await fill(api, 2)
        assert (await submit(api, kind=kind)).status == 201
        limit = await api.call("PUT", "/v1/limits/all", {"concurrency": 5}, token=admin)
        assert limit.status == 201
        assert (await submit(api, kind=f"{api.tenant}-limited")).status == 201
        assert await opened(api) == 4
        assert (await submit(api, kind=f"{api.tenant}-limited", priority=1)).status == 422


async def test_gateways_count_the_lanes_that_a_tenant_opens_at_others(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a", tenant_lanes=3) as one,
        gateway(shared_broker.url, tmp_path / "b", tenant_lanes=3) as other,
    ):
        await fill(one, 3)
        async with asyncio.timeout(DEADLINE_S):
            while await opened(other, one.tenant) < 3:
                pass
        refused = await submit(other, tenant=one.tenant, requires={"session": 3})
        assert (refused.status, refused.json["code"]) == (422, "too_many_lanes")
        assert (
            await submit(other, tenant=one.tenant, kind=one.tenant, requires={"session": 0})
        ).status == 201
        assert (await submit(other, tenant=one.stranger, requires={"session": 3})).status == 201


async def test_submissions_at_the_same_time_pass_the_lane_limit_by_none(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=5) as api:
        answers = await asyncio.gather(*(submit(api, requires={"session": n}) for n in range(20)))
        assert sorted(answer.status for answer in answers) == [201] * 5 + [422] * 15
        assert await opened(api) == 5


class OldEntry(LaneKey, frozen=True, omit_defaults=True):
    """A lane's entry as versions read it that know no opener."""

    closing: bool = False


async def test_entries_without_an_opener_are_read_and_count_for_nobody(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_lanes=1) as api:
        key = route_of(JobSpec(api.tenant, api.tenant, LaneId(""), requires={"old": 1})).keys[0]
        old = msgspec.json.encode(OldEntry(api.tenant, key.requires), order="deterministic")
        await api.publisher.publish(LANES.subject(LanePlace(lane_id(key), 50).key), old, {})
        assert LANES.values.decode(old) == LaneEntry(api.tenant, key.requires)
        assert (await submit(api, requires={"old": 1})).status == 201
        assert await opened(api) == 0
        assert (await submit(api, requires={"new": 1})).status == 201
        assert (await submit(api, requires={"newer": 1})).status == 422
    new = LaneEntry("k", {"a": 1}, opened_by="acme")
    assert msgspec.json.decode(msgspec.json.encode(new), type=OldEntry) == OldEntry("k", {"a": 1})
    assert lane_id(LaneKey("k", {"a": 1})) == lane_id(msgspec.convert(new, LaneKey, from_attributes=True))


async def test_ten_thousand_requirements_of_one_tenant_hinder_nobody(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        lines = [{"kind": "odd", "requires": {"session": number}} for number in range(10_000)]

        async def many() -> list[dict[str, Any]]:
            starts = range(0, len(lines), 1_000)
            return [line for at in starts for line in await api.bulk(*lines[at : at + 1_000])]

        flood = asyncio.create_task(many())
        worker, token = api.token("worker", tenant=api.stranger), api.token(tenant=api.stranger)
        went_on = 0
        while not flood.done():
            mine = await submit(api, tenant=api.stranger, requires={"gpu": went_on % 3})
            spare = await submit(api, tenant=api.stranger, kind="plain")
            assert (mine.status, spare.status) == (201, 201)
            cancelled = await api.call("POST", f"/v1/jobs/{spare.json['id']}/cancel", token=token)
            assert cancelled.status == 200
            said = {"worker": "w", "kinds": [api.tenant], "capabilities": {"gpu": went_on % 3}, "wait_s": 10}
            claimed = await api.call("POST", "/v1/leases", said, token=worker)
            assert (claimed.status, claimed.json["job"]["id"]) == (201, mine.json["id"])
            lease = claimed.json["lease"]
            done = await api.call(
                "POST", f"/v1/leases/{lease['id']}/succeed",
                token=worker, Switchyard_Lease_Token=lease["token"],
            )  # fmt: skip
            assert done.json["state"] == "succeeded"
            went_on += 1
        answers = await flood
        most = api.settings.tenant_lanes
        assert [line["status"] for line in answers] == [201] * most + [422] * (10_000 - most)
        assert went_on
        assert await opened(api) == most
