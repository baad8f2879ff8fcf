"""API keys: made, used, given another secret, taken back."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from switchyard.services import clock
from switchyard.services.broker.reader import read_range
from tests.broker.shared import SharedBroker
from tests.gateway.keys.site import make, refusal, until_refused
from tests.gateway.rest import Gateway, gateway
from tests.gateway.routes import DOORS, knock
from tests.gateway.test_doors import filled

pytestmark = pytest.mark.shared_gateway


async def test_key_is_shown_once_and_stored_as_its_hash(api: Gateway) -> None:
    key = await make(api, "submitter", name="ci of ann")
    assert key.secret.startswith(f"{key.view['prefix']}_")
    assert key.view["prefix"] == f"swy_{key.id}"
    assert len(key.secret.rpartition("_")[2]) == 48
    assert (key.view["tenant"], key.view["roles"], key.view["name"]) == (
        api.tenant,
        ["submitter"],
        "ci of ann",
    )
    for path in ("/v1/keys", f"/v1/keys/{key.id}"):
        answer = await api.get(path, token=api.token("tenant-admin"))
        assert answer.status == 200
        assert key.secret not in answer.raw.decode()
        assert key.id in answer.raw.decode()
    stored = await read_range(api.nc, "KV_keys", f"$KV.keys.api.{key.id}", limit=5, timeout_s=20)
    (message,) = stored
    assert hashlib.sha256(key.secret.encode()).hexdigest().encode() in message.data
    assert key.secret.rpartition("_")[2].encode() not in message.data


async def test_key_opens_what_its_roles_are_for_in_every_spelling_of_the_header(api: Gateway) -> None:
    key = await make(api, "submitter")
    for headers in (
        {"Authorization": f"Bearer {key.secret}"},
        {"authorization": f"bearer  {key.secret} "},
        {"X-API-Key": key.secret},
        {"x-api-key": f" {key.secret}"},
        {"X-API-Key": key.secret, "Authorization": f"Bearer {key.secret}"},
    ):
        async with api.http.get(f"{api.url}/v1/jobs", headers=headers) as answer:
            assert answer.status == 200, headers
    made = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=key.secret)
    assert (made.status, made.json["tenant"]) == (201, api.tenant)
    assert (await api.get("/v1/keys", token=key.secret)).status == 403


async def test_two_headers_with_two_secrets_are_malformed(api: Gateway) -> None:
    one, two = await make(api), await make(api)
    headers = {"Authorization": f"Bearer {one.secret}", "X-API-Key": two.secret}
    async with api.http.get(f"{api.url}/v1/jobs", headers=headers) as answer:
        said = await answer.text()
        assert (answer.status, orjson.loads(said)["code"]) == (400, "malformed")
        assert one.secret not in said
        assert two.secret not in said
    twice = [("X-API-Key", one.secret), ("X-API-Key", one.secret)]
    async with api.http.get(f"{api.url}/v1/jobs", headers=twice) as answer:
        assert answer.status == 400


async def test_near_keys_are_nobodys_and_never_repeated(api: Gateway) -> None:
    key = await make(api)
    _, place, secret = key.secret.split("_")
    other = "0" if secret[-1] != "0" else "1"
    near = [
        f"swy_{place}_{secret[:-1]}{other}", f"swy_{place}_{secret[:-1]}", f"swy_{place}_{secret}0",
        f"swy_{place}_{secret.upper()}", f"SWY_{place}_{secret}", f"sw_{place}_{secret}",
        f"swy_{'0' * 16}_{secret}", f"swy_{place[1:]}0_{secret}", f"swy_{place}", f"swy_{place}_", "swy_",
        secret, place, f"{key.secret}.x.y", f"swy_*_{secret}", f"swy_>_{secret}", f"swy_{place}_{'*' * 48}",
        f"oct_{secret}{place}", hashlib.sha256(key.secret.encode()).hexdigest(), "x" * 7000,
        f"swy_{place}_{'é' * 48}",
    ]  # fmt: skip
    for wrong in near:
        answer = await api.get("/v1/jobs", token=wrong)
        assert (answer.status, answer.json["code"]) == (401, "token_invalid"), wrong
        assert secret[:40] not in answer.raw.decode()
    assert (await api.get("/v1/jobs", token=key.secret)).status == 200


async def test_key_in_a_url_opens_nothing_and_is_not_repeated(api: Gateway) -> None:
    key = await make(api)
    token = api.token("admin")
    for name in ("api_key", "key", "token", "access_token", "X-API-Key", "apikey"):
        path = f"/v1/jobs?{name}={key.secret}"
        async with api.http.get(api.url + path) as answer:
            assert answer.status == 401
            assert key.secret not in await answer.text()
        known = await api.get(path, token=token)
        assert known.status == 400
        assert key.secret.rpartition("_")[2] not in known.raw.decode()
    lost = await api.get(f"/v1/jobs/{key.secret}", token=token)
    assert lost.status == 404
    assert key.secret.rpartition("_")[2][:8] not in lost.raw.decode()


async def test_new_key_counts_and_a_revoked_one_does_not_at_every_gateway(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        for _ in range(5):
            key = await make(one)
            assert (await two.get("/v1/jobs", token=key.secret)).status == 200
        assert (await one.call("DELETE", f"/v1/keys/{key.id}", token=one.token("admin"))).status == 204
        assert (await one.get("/v1/jobs", token=key.secret)).status == 401
        assert (await until_refused(two, key.secret)).json["code"] == "token_invalid"
        gone = await one.call("DELETE", f"/v1/keys/{key.id}", token=one.token("admin"))
        assert gone.status == 404
        assert key.id not in (await one.get("/v1/keys", token=one.token("admin"))).raw.decode()


async def test_keys_are_known_again_after_a_restart(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:
        key = await make(api)
        gone = await make(api)
        await api.call("DELETE", f"/v1/keys/{gone.id}", token=api.token("admin"))
    async with gateway(shared_broker.url, tmp_path) as again:
        assert (await again.get("/v1/jobs", token=key.secret)).status == 200
        assert (await again.get("/v1/jobs", token=gone.secret)).status == 401


async def test_secret_before_counts_as_long_as_the_overlap(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make(api)
    admin = api.token("admin")
    turned = await api.call("POST", f"/v1/keys/{key.id}/rotate", {"overlap_s": 600}, token=admin)
    assert turned.status == 200
    fresh = turned.json["key"]
    assert fresh != key.secret
    assert fresh.startswith(f"swy_{key.id}_")
    assert len(turned.json["earlier_until"]) == 1
    for secret in (key.secret, fresh):
        assert (await api.get("/v1/jobs", token=secret)).status == 200
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=601))
    old = await api.get("/v1/jobs", token=key.secret)
    assert (old.status, old.json["code"]) == (401, "key_expired")
    assert (await api.get("/v1/jobs", token=fresh)).status == 200
    last = await api.call("POST", f"/v1/keys/{key.id}/rotate", {"overlap_s": 0}, token=admin)
    assert last.json["earlier_until"] == []
    assert (await api.get("/v1/jobs", token=fresh)).status == 401
    assert (await api.get("/v1/jobs", token=last.json["key"])).status == 200


async def test_a_later_rotation_never_prolongs_an_earlier_secret(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make(api)
    admin = api.token("admin")
    await api.call("POST", f"/v1/keys/{key.id}/rotate", {"overlap_s": 60}, token=admin)
    await api.call("POST", f"/v1/keys/{key.id}/rotate", {"overlap_s": 6000}, token=admin)
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=61))
    assert (await api.get("/v1/jobs", token=key.secret)).status == 401


async def test_secrets_in_force_at_once_are_bounded(api: Gateway) -> None:
    key = await make(api)
    admin = api.token("admin")
    for _ in range(7):
        turned = await api.call("POST", f"/v1/keys/{key.id}/rotate", {}, token=admin)
        assert turned.status == 200
    status = await refusal(api, {}, by=admin, path=f"/v1/keys/{key.id}/rotate")
    assert status == (422, "too_many_secrets")


async def test_key_expires_by_the_brokers_clock(api: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await make(api, expires_s=3600)
    assert (await api.get("/v1/jobs", token=key.secret)).status == 200
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(seconds=3601))
    answer = await api.get("/v1/jobs", token=key.secret)
    assert (answer.status, answer.json["code"]) == (401, "key_expired")
    listed = (await api.get(f"/v1/keys/{key.id}", token=api.token("admin", ttl_s=9000))).json
    assert listed["expired"] is True


@pytest.mark.parametrize(
    "fields",
    [
        {"roles": []}, {"roles": ["king"]}, {"roles": "admin"}, {"name": ""}, {"name": "x" * 129},
        {"name": "a\nb"}, {"kinds": []}, {"kinds": ["A b"]}, {"kinds": ["a", 1]}, {"expires_s": 0},
        {"expires_s": -1}, {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "2990-01-01T00:00:00"},
        {"expires_at": "9999-01-01T00:00:00Z"}, {"expires_s": 5, "expires_at": "2090-01-01T00:00:00Z"},
        {"rate": {}}, {"rate": {"per_minute": 0}}, {"rate": {"per_minute": 1, "burst": 0}},
        {"rate": {"per_minute": 1, "more": 1}}, {"spend": {}}, {"spend": {"jobs_per_day": -1}},
        {"spend": {"usd": 5}}, {"tenant": "other"}, {"more": 1}, {"key": ""}, {"key": 5},
    ],
)  # fmt: skip
async def test_key_with_a_wrong_field_is_refused(api: Gateway, fields: dict[str, object]) -> None:
    body = {"name": "ci", "roles": ["viewer"], **fields}
    answer = await api.call("POST", "/v1/keys", body, token=api.token("admin"))
    assert answer.status == 422, answer
    assert answer.json["field"], answer.json


async def test_tenant_has_so_many_keys_and_no_more(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, api_keys=2) as api:
        await make(api)
        key = await make(api)
        body = {"name": "x", "roles": ["viewer"]}
        assert await refusal(api, body, by=api.token("admin")) == (422, "too_many_keys")
        await api.call("DELETE", f"/v1/keys/{key.id}", token=api.token("admin"))
        await make(api)


# --- More than its own


async def test_nobody_makes_a_key_with_more_than_his_own(api: Gateway) -> None:
    tenant_admin = (await make(api, "tenant-admin")).secret
    for roles in (["admin"], ["operator"], ["registrar"], ["viewer", "admin"]):
        body = {"name": "x", "roles": roles}
        for by in (tenant_admin, api.token("tenant-admin")):
            assert await refusal(api, body, by=by) == (403, "forbidden")
    for role in ("viewer", "submitter", "worker", "reviewer", "tenant-admin"):
        await make(api, role, by=tenant_admin)
    for role in ("viewer", "submitter", "worker", "reviewer", "operator", "registrar"):
        body = {"name": "x", "roles": ["viewer"]}
        assert (await refusal(api, body, by=api.token(role)))[0] == 403


async def test_bounded_key_makes_none_and_a_brief_one_none_that_outlives_it(api: Gateway) -> None:
    body = {"name": "x", "roles": ["viewer"]}
    for bound in ({"kinds": ["noop"]}, {"rate": {"per_minute": 9000}}, {"spend": {"jobs_per_day": 9}}):
        key = await make(api, "tenant-admin", **bound)
        assert await refusal(api, body, by=key.secret) == (403, "key_bounded")
        for path in (f"/v1/keys/{key.id}/rotate", f"/v1/keys/{(await make(api)).id}/rotate"):
            assert await refusal(api, {}, by=key.secret, path=path) == (403, "key_bounded")
    brief = (await make(api, "tenant-admin", expires_s=3600)).secret
    assert await refusal(api, body, by=brief) == (403, "forbidden")
    assert await refusal(api, {**body, "expires_s": 3700}, by=brief) == (403, "forbidden")
    await make(api, "viewer", by=brief, expires_s=60)


async def test_tenant_admin_gets_no_hold_of_a_stronger_key(api: Gateway) -> None:
    strong = await make(api, "admin")
    by = api.token("tenant-admin")
    assert (await refusal(api, {}, by=by, path=f"/v1/keys/{strong.id}/rotate"))[0] == 403
    assert (await api.call("DELETE", f"/v1/keys/{strong.id}", token=by)).status == 403
    assert (await api.get("/v1/jobs", token=strong.secret)).status == 200


async def test_key_names_no_other_tenant_on_any_route(api: Gateway) -> None:
    key = (await make(api, "tenant-admin", "submitter", "worker", "reviewer")).secret
    wrong = []
    for name, door in DOORS.items():
        method_path = name.partition(" ")[2]
        if method_path == "/" or method_path.startswith(
            ("/api/", "/docs", "/monitor", "/openapi", "/health", "/readyz")
        ):
            continue
        path = filled(method_path, stream="JOBS", seq="999999", kind="k", lane="l")
        for tenant in (api.stranger, "*", "No_Name", ""):
            answer = await knock(api, name, path, key, query=f"tenant={tenant}")
            if answer.status < 400:
                wrong.append((name, tenant, answer.status, door))
    assert wrong == []


async def test_keys_of_another_tenant_are_not_there(api: Gateway) -> None:
    theirs = await make(api)
    stranger = api.token("tenant-admin", tenant=api.stranger)
    assert (await api.get("/v1/keys", token=stranger)).json == {"keys": []}
    for method, path in (
        ("GET", f"/v1/keys/{theirs.id}"), ("POST", f"/v1/keys/{theirs.id}/rotate"),
        ("DELETE", f"/v1/keys/{theirs.id}"), ("GET", "/v1/keys/x"), ("GET", "/v1/keys/" + "0" * 16),
        ("DELETE", f"/v1/keys/{theirs.secret}"),
    ):  # fmt: skip
        answer = await api.call(method, path, token=stranger)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
        assert theirs.secret[-40:] not in answer.raw.decode()
    assert (await api.get("/v1/jobs", token=theirs.secret)).status == 200


# --- Keys of other systems


async def test_foreign_key_opens_once_it_was_given_to_us(api: Gateway) -> None:
    foreign = f"their-key-{api.tenant}"
    assert (await api.get("/v1/jobs", token=foreign)).status == 401
    key = await make(api, key=foreign)
    assert key.secret == foreign
    assert key.view["prefix"] is None
    assert (await api.get("/v1/jobs", token=foreign)).status == 200
    assert (await api.get("/v1/jobs", token=foreign[:-1])).status == 401
    body = {"name": "x", "roles": ["viewer"], "key": foreign}
    admin = api.token("admin", tenant=api.stranger)
    assert await refusal(api, body, by=admin) == (409, "key_exists")
    assert (await refusal(api, body, by=api.token("tenant-admin")))[0] == 403
    turned = await api.call("POST", f"/v1/keys/{key.id}/rotate", {}, token=api.token("admin"))
    assert turned.json["key"].startswith("swy_")
    for secret in (foreign, turned.json["key"]):
        assert (await api.get("/v1/jobs", token=secret)).status == 200
    await api.call("DELETE", f"/v1/keys/{key.id}", token=api.token("admin"))
    for secret in (foreign, turned.json["key"]):
        assert (await api.get("/v1/jobs", token=secret)).status == 401
    again = await api.call("POST", "/v1/keys", body, token=admin)
    assert again.status == 201
    assert (await api.get("/v1/jobs", token=foreign)).status == 200


async def test_short_foreign_key_is_refused_unless_allowed(
    shared_broker: SharedBroker, tmp_path: Path, api: Gateway
) -> None:
    short = f"s-{api.tenant[2:14]}"
    assert len(short) < 16
    body = {"name": "x", "roles": ["viewer"], "key": short}
    assert await refusal(api, body, by=api.token("admin")) == (422, "key_too_short")
    async with gateway(shared_broker.url, tmp_path / "b", short_keys=True) as lax:
        key = await make(lax, "viewer", key=short)
        assert (await lax.get("/v1/jobs", token=short)).status == 200
        await lax.call("DELETE", f"/v1/keys/{key.id}", token=lax.token("admin"))


@pytest.mark.parametrize(
    "foreign",
    ["a.b.c" + "x" * 20, "swy_" + "x" * 20, "oct_" + "x" * 20, "with a blank in it", "é" * 20, "x" * 257],
)
async def test_foreign_key_that_looks_like_something_else_is_refused(api: Gateway, foreign: str) -> None:
    body = {"name": "x", "roles": ["viewer"], "key": foreign}
    answer = await api.call("POST", "/v1/keys", body, token=api.token("admin"))
    assert (answer.status, answer.json["field"]) == (422, "key")
    assert foreign not in answer.raw.decode()
