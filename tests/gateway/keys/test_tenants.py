"""One way for operators and admins to act for another tenant, on every route; nobody else may."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.keys.site import make
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.gateway.routes import DOORS, OPERATORS, is_refused, knock
from tests.gateway.test_doors import ROLES, filled

pytestmark = pytest.mark.shared_gateway

MAY_NAME = {"operator", "admin"}
NO_TENANT = {
    "GET /", "GET /health", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /v1/ws",
    "GET /v1/events/stream",
    "GET /v1/watch/{what}",
    "GET /docs", "GET /docs/page.js", "GET /docs/page.css", "GET /monitor/{version}/{name}",
    "POST /v1/callbacks/{ticket}", "PUT /v1/callbacks/{ticket}",
    "POST /v1/outcomes/{ticket}", "POST /v1/outcomes/{ticket}/artifacts",
    "GET /mistral/v1/files/{id}/signed",
}  # fmt: skip
"""What is nobody's, and what has filters of its own."""
NAMED = {
    name: door
    for name, door in DOORS.items()
    if name not in NO_TENANT and " /api/" not in name and " /ws" not in name
}


OF_NO_TENANT = {
    name for name, door in NAMED.items()
    if door.who <= OPERATORS and "/v1/limits" not in name and "/v1/quotas" not in name
}  # fmt: skip
"""What is done for all tenants at once, and would seem to be done for one."""


async def test_every_route_takes_another_tenant_from_operators_and_admins_alone(api: Gateway) -> None:
    wrong = []
    for name, door in NAMED.items():
        path = filled(name.partition(" ")[2], stream="JOBS", seq="999999", kind=f"k{api.tenant}", lane="l")
        for role in ROLES:
            # An operator has in another tenant what its roles give by name, so each is tried with it, too.
            for roles in {(role,), (role, "operator")}:
                token = api.token(*roles)
                answer = await knock(api, name, path, token, query=f"tenant={api.stranger}")
                by_name = not door.who.isdisjoint({*roles} - {"operator"})
                operates = "operator" in roles and (door.who == OPERATORS or name in OPERATOR_DOES)
                lets_in = not MAY_NAME.isdisjoint(roles) and (by_name or operates)
                refused = is_refused(answer)
                unknown = b"unknown_parameter" in answer.raw
                if (
                    refused == lets_in
                    or unknown != (lets_in and name in OF_NO_TENANT)
                    or answer.status >= 500
                ):
                    wrong.append((name, roles, lets_in, answer.status, answer.raw[:150]))
    assert wrong == []


OPERATOR_DOES = {
    "GET /v1/series",
    *(name for name in NAMED if "/v1/servers" in name),
    "GET /metrics", "GET /v1/demand", "GET /v1/workers", "GET /v1/workers/{id}", "GET /v1/queues",
    "GET /v1/usage", "GET /v1/models", "GET /v1/models/{folder}/{name}",
    "GET /v1/usage/summary", "GET /v1/usage/bill", "GET /v1/quotas", "GET /v1/quotas/{of}",
    "GET /v1/version", "GET /v1/whoami", "GET /v1/controls", "GET /v1/limits", "GET /v1/limits/{name}",
    "OPTIONS /v1/uploads",
}  # fmt: skip
"""What an operator reads of every tenant, and what it changes as a tenant's own admin does."""


@pytest.mark.parametrize("roles", [("admin",), ("operator", "submitter")])
async def test_whoever_acts_for_a_tenant_submits_there(api: Gateway, roles: tuple[str, ...]) -> None:
    token = api.token(*roles)
    theirs = f"tenant={api.stranger}"
    made = await api.call("POST", f"/v1/jobs?{theirs}", {"kind": "noop"}, token=token)
    assert (made.status, made.json["tenant"]) == (201, api.stranger)
    path = f"/v1/jobs/{made.json['id']}"
    assert (await api.get(path, token=token)).status == 404
    assert (await api.get(f"{path}?{theirs}", token=token)).status == 200
    assert (await api.get(path, token=api.token(tenant=api.stranger))).status == 200
    (event,) = (await api.get(f"{path}/events?{theirs}", token=token)).json["events"]
    assert (event["actor"], event["actor_tenant"]) == ("user:ann", api.tenant)
    bulk = await api.call(
        "POST", f"/v1/jobs/bulk?{theirs}", b'{"kind":"noop"}\n', token=token,
        Content_Type="application/x-ndjson",
    )  # fmt: skip
    there = await api.get(f"/v1/jobs/{bulk.json['id']}", token=api.token(tenant=api.stranger))
    assert there.status == 200
    file = await api.call("POST", f"/v1/files?{theirs}", b"x", token=token, Content_Type="text/plain")
    assert file.status == 201
    assert (await api.get(f"/v1/files/{file.json['id']}", token=api.token())).status == 404
    assert (await api.get(f"/v1/files/{file.json['id']}", token=api.token(tenant=api.stranger))).status == 200
    ticks: dict[str, Any] = {"every_s": 3600, "job": {"kind": "noop"}}
    schedule = await api.call("POST", f"/v1/schedules?{theirs}", ticks, token=token)
    assert schedule.status == 201
    of_it = f"/v1/schedules/{schedule.json['id']}"
    assert (await api.get(of_it, token=api.token(tenant=api.stranger))).status == 200
    assert (await api.get(of_it, token=api.token())).status == 404


async def test_operator_alone_neither_reads_nor_submits_another_tenants_jobs(api: Gateway) -> None:
    job = await api.submit()
    operator = api.token("operator", tenant=api.stranger)
    theirs = f"tenant={api.tenant}"
    for method, path, body in (
        ("POST", f"/v1/jobs?{theirs}", {"kind": "noop"}),
        ("GET", f"/v1/jobs?{theirs}", None),
        ("GET", f"/v1/jobs/{job['id']}?{theirs}", None),
        ("GET", f"/v1/files?{theirs}", None),
        ("POST", f"/v1/keys?{theirs}", {"name": "x", "roles": ["viewer"]}),
    ):
        answer = await api.call(method, path, body, token=operator)
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), path


async def test_operator_sets_limits_and_pauses_for_every_tenant(api: Gateway) -> None:
    operator = api.token("operator", tenant=api.stranger)
    path = f"/v1/limits/gpu?tenant={api.tenant}"
    assert (await api.call("PUT", path, {"concurrency": 2}, token=operator)).status == 201
    assert (await api.get("/v1/limits/gpu")).json["concurrency"] == 2
    assert (await api.call("DELETE", path, token=operator)).status == 204
    kind = f"/v1/kinds/{api.tenant}"
    assert (await api.call("POST", f"{kind}/pause", token=operator)).status == 200
    assert (await api.call("POST", f"{kind}/resume", token=operator)).status == 200
    assert (await api.call("PUT", f"/v1/kinds/{api.tenant}", {}, token=operator)).status == 403


async def test_all_tenants_are_named_only_where_a_list_is_of_all(api: Gateway) -> None:
    admin = api.token("admin")
    assert (await api.get("/v1/jobs?tenant=*", token=admin)).status == 200
    assert (await api.get("/v1/keys?tenant=*", token=admin)).status == 200
    for method, path, body in (
        ("POST", "/v1/jobs?tenant=*", {"kind": "noop"}),
        ("POST", "/v1/keys?tenant=*", {"name": "x", "roles": ["viewer"]}),
        ("POST", "/v1/files?tenant=*", b"x"),
        ("POST", "/v1/leases?tenant=*", {"worker": "w", "kinds": ["noop"]}),
        ("POST", "/v1/schedules?tenant=*", {"every_s": 60, "job": {"kind": "noop"}}),
    ):
        answer = await api.call(method, path, body, token=admin)
        assert (answer.status, answer.json["field"]) == (400, "tenant"), path


@pytest.mark.parametrize("tenant", ["No", "a b", "a%0Ab", "", "x" * 64, "a&tenant=b", "%2A%2A"])
async def test_odd_name_of_a_tenant_is_refused(api: Gateway, tenant: str) -> None:
    for token in (api.token("admin"), api.token("operator", "submitter")):
        answer = await api.call("POST", f"/v1/jobs?tenant={tenant}", {"kind": "noop"}, token=token)
        assert (answer.status, answer.json["field"]) == (400, "tenant")


async def test_admin_who_acts_for_a_tenant_claims_its_jobs_alone(api: Gateway) -> None:
    mine = await api.submit(kind=api.tenant)
    theirs = await api.call(
        "POST", "/v1/jobs", {"kind": api.tenant}, token=api.token("submitter", tenant=api.stranger)
    )
    assert theirs.status == 201
    claim = {"worker": "w", "kinds": [api.tenant], "wait_s": 10}
    admin = api.token("admin", tenant="house")
    path = f"/v1/leases?tenant={api.stranger}"
    got = await api.call("POST", path, claim, token=admin)
    assert (got.status, got.json["job"]["id"]) == (201, theirs.json["id"])
    assert (await api.call("POST", path, {**claim, "wait_s": 0}, token=admin)).status == 204
    other = await api.call("POST", path, {**claim, "tenant": api.tenant}, token=admin)
    assert (other.status, other.json["field"]) == (403, "tenant")
    assert (await api.get(f"/v1/jobs/{mine['id']}")).json["state"] == "queued"


async def test_key_of_an_operator_acts_for_a_tenant_and_is_named_in_it(api: Gateway) -> None:
    key = await make(api, "operator", "submitter")
    made = await api.call("POST", f"/v1/jobs?tenant={api.stranger}", {"kind": "noop"}, token=key.secret)
    assert (made.status, made.json["tenant"], made.json["key"]) == (201, api.stranger, key.id)


async def test_live_updates_take_a_key_and_end_with_it(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, socket_ping_s=0.2) as api:
        key = await make(api, "viewer")
        headers = {"X-API-Key": key.secret}
        url = f"{api.url}/v1/ws"
        protocols = ("switchyard.v1", f"bearer.{key.secret}")
        async with api.http.ws_connect(url, protocols=protocols) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        async with api.http.ws_connect(url) as socket:
            await socket.send_json({"type": "auth", "token": key.secret})
            assert (await socket.receive_json())["type"] == "hello"
        async with api.http.get(f"{api.url}/v1/events/stream", headers=headers) as answer:
            assert answer.status == 200
        async with api.http.ws_connect(url, headers=headers) as socket:
            assert (await socket.receive_json())["type"] == "hello"
            await api.call("DELETE", f"/v1/keys/{key.id}", token=api.token("admin"))
            async with asyncio.timeout(DEADLINE_S):
                await socket.receive()
            assert socket.close_code == 4401
