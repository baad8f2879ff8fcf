"""`/v1/servers`, as owners of servers and people who mean no good call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from switchyard.services.access.sealing import KEY_FILE
from switchyard.services.broker.reader import read_range
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.records.servers.condition import Check, Outcome, Rhythm, after_check, first
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Answer, Gateway, gateway, now

pytestmark = pytest.mark.shared_gateway

PREDICT: Final = "http://192.0.1.1/predict"
WISH: Final[dict[str, Any]] = {"endpoints": {"predict": PREDICT}, "kinds": ["b", "a", "b"]}
SECRET: Final = "sk-0123456789-not-for-you"


async def ask(api: Gateway, method: str, path: str = "", body: Any = None, **options: Any) -> Answer:
    token = options.pop("token", None) or api.token("tenant-admin")
    return await api.call(method, f"/v1/servers{path}", body, token=token, **options)


async def put(api: Gateway, server_id: str, **fields: Any) -> Answer:
    return await ask(api, "PUT", f"/{server_id}", {**WISH, **fields})


async def test_a_server_is_registered_read_changed_and_removed(api: Gateway) -> None:
    made = await ask(api, "POST", "", {**WISH, "id": "s1", "labels": {"zone": "a"}})
    assert (made.status, made.headers["Location"]) == (201, "/v1/servers/s1")
    assert made.headers["ETag"] == f'"{made.json["revision"]}"'
    assert (made.json["kinds"], made.json["state"], made.json["takes_jobs"]) == (["a", "b"], "new", False)
    again = await ask(api, "POST", "", {**WISH, "id": "s1"})
    assert (again.status, again.json["code"]) == (409, "server_exists")
    changed = await ask(api, "PATCH", "/s1", {"slots": 3})
    assert (changed.json["slots"], changed.json["labels"]) == (3, {"zone": "a"})
    assert (await ask(api, "PATCH", "/s1", {})).json["revision"] == changed.json["revision"]
    kept = await ask(api, "POST", "/s1/maintenance")
    assert kept.json["maintenance"]
    assert not (await ask(api, "POST", "/s1/maintenance", {"enabled": False})).json["maintenance"]
    assert (await ask(api, "GET", "/s1", token=api.token("viewer"))).json["id"] == "s1"
    assert (await ask(api, "DELETE", "/s1")).status == 204
    for method, path in (("GET", "/s1"), ("DELETE", "/s1"), ("PATCH", "/s1"), ("POST", "/s1/heartbeat")):
        assert (await ask(api, method, path, {} if method == "PATCH" else None)).status == 404


async def test_conditions_hold_back_who_does_not_know_the_last_revision(api: Gateway) -> None:
    assert (await ask(api, "PUT", "/s1", WISH, If_Match='"1"')).status == 412
    made = await ask(api, "PUT", "/s1", WISH, If_None_Match="*")
    assert made.status == 201
    assert (await ask(api, "PUT", "/s1", WISH, If_None_Match="*")).status == 412
    tag = made.headers["ETag"]
    changed = await ask(api, "PATCH", "/s1", {"slots": 2}, If_Match=f'"7", {tag}')
    assert changed.status == 200
    for method, body in (("PATCH", {"slots": 4}), ("PUT", WISH), ("DELETE", None)):
        refused = await ask(api, method, "/s1", body, If_Match=tag)
        assert (refused.status, refused.json["code"]) == (412, "precondition_failed")
    for odd in ("1", '"x"', '"1" "2"', "W/"):
        assert (await ask(api, "PATCH", "/s1", {"slots": 5}, If_Match=odd)).status == 400
    assert (await ask(api, "PATCH", "/s1", {"slots": 5}, If_None_Match='"1"')).status == 400
    assert (await ask(api, "DELETE", "/s1", If_Match="*")).status == 204


async def test_of_many_who_register_one_server_at_once_one_makes_it(api: Gateway) -> None:
    bodies = [{**WISH, "id": "one", "name": f"n{n}"} for n in range(16)]
    answers = await asyncio.gather(*(ask(api, "POST", "", body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 15
    changed = await asyncio.gather(*(ask(api, "PATCH", "/one", {"labels": {str(n): "x"}}) for n in range(8)))
    assert {answer.status for answer in changed} <= {200, 409}


async def test_credentials_are_never_read_back_nor_stored_as_they_are(api: Gateway) -> None:
    wish = {**WISH, "credentials": {"bearer": SECRET, "headers": {"X-Key": SECRET}}}
    made = await ask(api, "PUT", "/s1", wish)
    listed = await ask(api, "GET", token=api.token("admin"))
    changed = await ask(api, "PATCH", "/s1", {"name": "other"})
    for answer in (made, listed, changed, await ask(api, "GET", "/s1")):
        assert SECRET.encode() not in answer.raw
    assert made.json["credentials"] == {"headers": ["Authorization", "X-Key"], "readable": True}
    assert changed.json["credentials"] == made.json["credentials"]
    stored = await read_range(api.nc, "KV_servers", f"$KV.servers.{api.tenant}.s1", limit=5, timeout_s=20)
    assert stored
    assert all(SECRET.encode() not in message.data for message in stored)
    same = await ask(api, "PUT", "/s1", wish)
    assert same.status == 200
    assert (await ask(api, "PATCH", "/s1", {"credentials": None})).json["credentials"] is None


async def test_credentials_do_not_go_along_to_another_origin(api: Gateway) -> None:
    await put(api, "s1", credentials={"bearer": SECRET})
    for body in (
        {"endpoints": {"predict": "http://192.0.1.2/predict"}},
        {"endpoints": {"predict": PREDICT, "health": "http://192.0.1.1:8000/"}},
        {"endpoints": {"predict": PREDICT.replace("http", "https")}},
    ):
        refused = await ask(api, "PATCH", "/s1", body)
        assert (refused.status, refused.json["code"]) == (422, "credentials_needed")
        assert (await ask(api, "PUT", "/s1", {**WISH, **body})).status == 422
        assert (await ask(api, "PATCH", "/s1", {**body, "credentials": None})).status == 200
        assert (await put(api, "s1", credentials={"bearer": SECRET})).status == 200
    there = {"endpoints": {"predict": "http://192.0.1.1/elsewhere"}}
    assert (await ask(api, "PATCH", "/s1", there)).json["credentials"]["readable"]


@pytest.mark.parametrize("content", [None, "ff" * 32, "nonsense"])
async def test_credentials_whose_key_is_gone_are_shown_as_unreadable(
    api: Gateway, content: str | None
) -> None:
    await put(api, "s1", credentials={"bearer": SECRET})
    path = api.settings.data_dir / KEY_FILE
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    found = await ask(api, "GET", "/s1")
    assert (found.status, found.json["credentials"]["readable"]) == (200, False)
    assert (await ask(api, "PATCH", "/s1", {"slots": 2})).status == 200
    assert (await ask(api, "GET")).json["servers"][0]["credentials"]["readable"] is False
    given = await ask(api, "PATCH", "/s1", {"credentials": {"bearer": SECRET}})
    assert given.status == (422 if content == "nonsense" else 200)


@pytest.mark.parametrize(
    "credentials",
    [
        {}, {"bearer": ""}, {"bearer": "a\r\nX: y"}, {"bearer": "é"}, {"headers": {"Host": "x"}},
        {"headers": {"a b": "x"}}, {"headers": {"X": "a\nb"}}, {"headers": {"X": "1", "x": "2"}},
        {"bearer": "a", "headers": {"authorization": "b"}}, {"headers": {"Content-Length": "0"}},
        {"headers": {f"X-{n}": "1" for n in range(17)}}, {"headers": {"X": "a" * 5000}}, {"basic": "x"},
    ],
)  # fmt: skip
async def test_credentials_that_no_request_could_carry_are_refused(api: Gateway, credentials: Any) -> None:
    refused = await put(api, "s1", credentials=credentials)
    assert refused.status == 422
    assert (await ask(api, "GET", "/s1")).status == 404


@pytest.mark.parametrize(
    "server_id",
    ["", "a/b", "../x", "a b", "ä", "*", ">", "a" * 129, ".a", "-", "a\0", "a\n", "$KV", "\ud800"],
)
async def test_an_odd_id_is_refused(api: Gateway, server_id: str) -> None:
    body = orjson.dumps(WISH)[:-1] + b', "id": ' + _json(server_id) + b"}"
    refused = await ask(api, "POST", "", body)
    assert refused.status in (400, 422), refused


def _json(text: str) -> bytes:
    return b'"\\ud800"' if text == "\ud800" else orjson.dumps(text)


async def test_ids_of_other_systems_are_taken_as_they_are(api: Gateway) -> None:
    for server_id in ("model.v1", "gpu:0", "a@b", "A-b_C", "0", "a..b"):
        assert (await put(api, server_id)).status == 201
        assert (await ask(api, "GET", f"/{server_id}")).json["id"] == server_id
    assert (await ask(api, "GET", "/a%2Fb")).status == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://localhost/",
        "http://[::1]/",
    ],
)
async def test_an_address_here_is_refused_where_no_setting_allows_it(api: Gateway, url: str) -> None:
    for endpoints in (
        {"predict": url},
        {"predict": PREDICT, "health": url},
        {"predict": PREDICT, "cancel": url},
    ):
        refused = await put(api, "s1", endpoints=endpoints)
        assert (refused.status, refused.json["code"]) == (422, "address_not_allowed")
        assert refused.json["field"] == f"endpoints.{list(endpoints)[-1]}"
    await put(api, "s1")
    changed = await ask(api, "PATCH", "/s1", {"endpoints": {"predict": url}})
    assert changed.json["code"] == "address_not_allowed"


@pytest.fixture
async def private(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path, server_networks=PRIVATE, servers=3) as running:
        yield running


async def test_private_addresses_are_taken_where_the_setting_allows_them(private: Gateway) -> None:
    for number, url in enumerate(("http://127.0.0.1:9000/", "http://localhost:9000/", "http://10.0.0.1/")):
        assert (await put(private, f"s{number}", endpoints={"predict": url})).status == 201
    refused = await put(private, "s1", endpoints={"predict": "http://169.254.169.254/"})
    assert refused.json["code"] == "address_not_allowed"
    refused = await put(private, "s9", endpoints={"predict": "http://127.0.0.1/"})
    assert (refused.status, refused.json["code"]) == (422, "too_many_servers")
    assert (await put(private, "s1", endpoints={"predict": "http://127.0.0.1/"})).status == 200


async def test_nobody_sees_or_changes_another_tenants_servers(api: Gateway) -> None:
    await put(api, "s1")
    stranger = api.token("tenant-admin", tenant=api.stranger)
    for method, path, body in (
        ("GET", "/s1", None), ("PATCH", "/s1", {"slots": 9}), ("DELETE", "/s1", None),
        ("POST", "/s1/maintenance", {}), ("POST", "/s1/heartbeat", None),
    ):  # fmt: skip
        assert (await ask(api, method, path, body, token=stranger)).status == 404
        named = f"{path}?tenant={api.tenant}"
        assert (await ask(api, method, named, body, token=stranger)).status == 403
    assert (await ask(api, "GET", token=stranger)).json["servers"] == []
    operator = api.token("operator", tenant=api.stranger)
    there = await ask(api, "PATCH", f"/s1?tenant={api.tenant}", {"slots": 2}, token=operator)
    assert (there.status, there.json["tenant"]) == (200, api.tenant)
    for role in ("viewer", "submitter", "worker"):
        assert (await ask(api, "PATCH", "/s1", {"slots": 9}, token=api.token(role))).status == 403
    assert (await ask(api, "POST", "/s1/heartbeat", token=api.token("worker"))).status == 200


async def test_a_list_is_filtered_and_paged(api: Gateway) -> None:
    for number in range(7):
        fields = {"kinds": ["even" if number % 2 == 0 else "odd"], "labels": {"n": str(number)}}
        assert (await put(api, f"s{number}", **fields, maintenance=number == 6)).status == 201
    seen, cursor = [], ""
    while cursor is not None:
        page = (await ask(api, "GET", f"?limit=3&cursor={cursor}")).json
        seen += [server["id"] for server in page["servers"]]
        cursor = page["cursor"]
    assert seen == [f"s{number}" for number in range(7)]
    for query, count in (
        ("kind=even", 4), ("kind=even,odd", 7), ("label=n:3", 1), ("state=new", 7), ("state=online", 0),
        ("maintenance=true", 1), ("enabled=false", 0), ("maintenance=false&kind=even", 3),
    ):  # fmt: skip
        assert len((await ask(api, "GET", f"?{query}")).json["servers"]) == count, query
    for query in ("state=odd", "enabled=yes", "kind=Ä", "limit=0", "bogus=1"):
        assert (await ask(api, "GET", f"?{query}")).status == 400


async def test_cleanup_removes_what_was_found_dead_and_nothing_else(api: Gateway) -> None:
    health = {"predict": PREDICT, "health": "http://192.0.1.1/health"}
    for server_id in ("dead", "well", "unwatched"):
        await put(api, server_id, endpoints=health)
    await put(api, "kept", endpoints=health, maintenance=True)
    await put(api, "silent")
    registry = api.registry()
    for server_id, outcome in (
        ("dead", Outcome.TIMEOUT),
        ("kept", Outcome.TIMEOUT),
        ("well", Outcome.PASSED),
    ):
        server = (await registry.get(api.tenant, server_id)).server
        state = first(server, now() - timedelta(hours=1))
        for _ in range(3):
            state = after_check(state, Check(now(), outcome), Rhythm(), 0.5)
        await registry.change_state(server, lambda _, state=state: state)  # type: ignore[misc]
    async with asyncio.timeout(60):
        while (await ask(api, "GET", "?state=offline")).json["servers"] == []:
            pass
    dry = await ask(api, "POST", "/cleanup", {"dry_run": True})
    assert dry.json == {"removed": [{"tenant": api.tenant, "id": "dead"}], "dry_run": True}
    assert (await ask(api, "POST", "/cleanup", {"older_s": 7200})).json["removed"] == []
    removed = (await ask(api, "POST", "/cleanup")).json["removed"]
    assert [one["id"] for one in removed] == ["dead"]
    left = [one["id"] for one in (await ask(api, "GET")).json["servers"]]
    assert left == ["kept", "silent", "unwatched", "well"]


async def test_a_silent_server_is_online_by_its_heartbeat(api: Gateway) -> None:
    await put(api, "s1")
    beaten = await ask(api, "POST", "/s1/heartbeat", token=api.token("worker"))
    assert (beaten.json["state"], beaten.json["takes_jobs"]) == ("online", True)
    moved = await ask(api, "PATCH", "/s1", {"endpoints": {"predict": "http://192.0.1.9/"}})
    assert moved.json["state"] == "new"
    named = await ask(api, "PATCH", "/s1", {"name": "still new"})
    assert named.json["state"] == "new"
