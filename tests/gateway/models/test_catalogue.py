"""`/v1/models`, as operators, submitters, workers and people who mean no good call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
import pytest

from switchyard.services.broker.reader import read_range
from tests.gateway.rest import Answer, Gateway

pytestmark = pytest.mark.shared_gateway

WISH: Final[dict[str, Any]] = {"url": "http://192.0.1.1/x", "sha256": "AB" * 32, "size_bytes": 7}
SECRET: Final = "hf-0123456789-not-for-you"


async def ask(
    api: Gateway, method: str, folder: str = "", name: str = "", body: Any = None, role: str = "admin"
) -> Answer:
    path = f"/v1/models/{quote(folder, safe='')}/{quote(name, safe='')}" if folder or name else "/v1/models"
    return await api.call(method, path, body, token=api.token(role))


def name_of(api: Gateway, more: str = "") -> str:
    return f"{api.tenant}/x{more}.safetensors"


async def test_an_entry_is_made_read_changed_and_removed(api: Gateway) -> None:
    name = name_of(api)
    made = await ask(api, "PUT", "loras", name, WISH)
    assert made.status == 201
    assert (made.json["name"], made.json["sha256"], made.json["url"]) == (name, "ab" * 32, WISH["url"])
    same = await ask(api, "PUT", "loras", name, WISH)
    assert (same.status, same.json["revision"]) == (200, made.json["revision"])
    other = await ask(api, "PUT", "loras", name, {**WISH, "size_bytes": 8})
    assert other.json["revision"] > made.json["revision"]
    assert (await ask(api, "GET", "loras", name)).json == other.json
    assert (await ask(api, "DELETE", "loras", name)).status == 204
    for method in ("GET", "DELETE"):
        assert (await ask(api, method, "loras", name)).status == 404


async def test_submitters_see_files_and_neither_addresses_nor_those_of_others(api: Gateway) -> None:
    await ask(api, "PUT", "loras", name_of(api), {**WISH, "credentials": {"bearer": SECRET}})
    await ask(api, "PUT", "loras", name_of(api, "-theirs"), {**WISH, "tenants": [api.stranger]})
    for role in ("submitter", "viewer", "worker"):
        seen = await ask(api, "GET", "loras", name_of(api), role=role)
        assert seen.status == 200
        assert not {"url", "credentials", "tenants", "created_by"} & seen.json.keys()
        assert (await ask(api, "GET", "loras", name_of(api, "-theirs"), role=role)).status == 404
        page = await ask(api, "GET", role=role)
        assert name_of(api) in [one["name"] for one in page.json["models"]]
        assert name_of(api, "-theirs") not in page.raw.decode()
    for method, body in (("PUT", WISH), ("DELETE", None)):
        assert (await ask(api, method, "loras", name_of(api), body, role="operator")).status == 403


async def test_credentials_are_sealed_kept_and_bound_to_their_origin(api: Gateway) -> None:
    name = name_of(api)
    made = await ask(api, "PUT", "loras", name, {**WISH, "credentials": {"bearer": SECRET}})
    assert made.json["credentials"] == ["Authorization"]
    assert SECRET not in made.raw.decode()
    stored = await read_range(api.nc, "KV_models", "$KV.models.>", start=1, limit=1000, timeout_s=20)
    assert not [one for one in stored if SECRET.encode() in one.data]
    kept = await ask(api, "PUT", "loras", name, {**WISH, "size_bytes": 9})
    assert kept.json["credentials"] == ["Authorization"]
    moved = await ask(api, "PUT", "loras", name, {**WISH, "url": "http://192.0.1.2/x"})
    assert (moved.status, moved.json["code"]) == (422, "credentials_needed")
    assert (await ask(api, "PUT", "loras", name, {**WISH, "credentials": None})).json["credentials"] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://169.254.169.254/latest"), ("url", "http://127.0.0.1/x"), ("url", "ftp://h/x"),
        ("url", "http://u:p@192.0.1.1/"), ("url", ""), ("url", "http://2130706433/"), ("sha256", "00"),
        ("sha256", "g" * 64), ("size_bytes", 0), ("size_bytes", -1), ("size_bytes", 2**60),
        ("size_bytes", 1.5), ("vram_mib", -1), ("tenants", ["A B"]), ("tenants", "acme"), ("more", 1),
        ("credentials", {"headers": {"Host": "x"}}), ("credentials", {}),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(api: Gateway, field: str, value: Any) -> None:
    answer = await ask(api, "PUT", "loras", name_of(api), {**WISH, field: value})
    assert answer.status in (400, 422), answer
    assert (answer.json["field"] or "").startswith(field), answer


@pytest.mark.parametrize(
    ("folder", "name", "field"),
    [
        ("loras", "../x.safetensors", "name"), ("loras", "/x.safetensors", "name"),
        ("loras", "a\0.safetensors", "name"), ("loras", "a\\..\\b.safetensors", "name"),
        ("loras", "x" * 300 + ".safetensors", "name"), ("loras", "\u20ac" * 90 + ".safetensors", "name"),
        ("loras", "x.py", "name"),
        ("loras", "a/../b.safetensors", "name"), ("loras", "\u202e.safetensors", "name"),
        ("custom_nodes", "x.safetensors", "folder"), ("..", "x.safetensors", "folder"),
        ("a b", "x.safetensors", "folder"),
    ],
)  # fmt: skip
async def test_a_place_that_leads_elsewhere_is_none(api: Gateway, folder: str, name: str, field: str) -> None:
    answer = await ask(api, "PUT", folder, name, WISH)
    if answer.status not in (400, 404):  # such a path may not come so far
        assert (answer.status, answer.json["field"]) == (422, field), answer
    assert (await ask(api, "GET", folder, name)).status in (400, 404)


async def test_pages_have_all_of_them_once(api: Gateway) -> None:
    names = sorted(name_of(api, f"-{number:02}") for number in range(5))
    for name in names:
        assert (await ask(api, "PUT", "loras", name, WISH)).status == 201
    found, cursor = [], ""
    while cursor is not None:
        page = await api.get(f"/v1/models?limit=2&cursor={quote(cursor)}", token=api.token("admin"))
        found += [one["name"] for one in page.json["models"]]
        cursor = page.json["cursor"]
    assert [name for name in found if name in names] == names


async def test_orders_are_for_workers_alone(api: Gateway) -> None:
    body = {"worker": "w", "instance": "comfyui", "wants": True}
    for role, status in (("submitter", 403), ("viewer", 403), ("worker", 200)):
        answer = await api.call("POST", "/v1/models/fetches", body, token=api.token(role))
        assert answer.status == status
    assert answer.json == {"order": None, "go_on": True, "why": ""}
    odd = {**body, "doing": {"folder": "..", "name": "x", "claim": "c", "revision": 1, "done_bytes": 1}}
    answer = await api.call("POST", "/v1/models/fetches", odd, token=api.token("worker"))
    assert answer.json["go_on"] is False
    ended = {**body, "ended": {"folder": "..", "name": "\0", "claim": "c"}}
    assert (await api.call("POST", "/v1/models/fetches", ended, token=api.token("worker"))).status == 200


async def test_a_worker_ends_no_fetch_of_another_and_continues_none(api: Gateway, tmp_path: Path) -> None:
    """A fetch is known by its claim, which nobody else is given."""
    name = name_of(api)
    revision = (await ask(api, "PUT", "loras", name, WISH)).json["revision"]
    asked = {"worker": "w", "kinds": ["comfyui"], "capabilities": {"comfyui": {}}}
    assert (await api.call("POST", "/v1/leases", asked, token=api.token("worker"))).status == 204
    doing = {"folder": "loras", "name": name, "claim": "mine", "revision": revision, "done_bytes": 3}
    body = {"worker": "w", "instance": "comfyui"}
    first = await api.call("POST", "/v1/models/fetches", {**body, "doing": doing}, token=api.token("worker"))
    assert first.json["go_on"]
    stranger = {**body, "worker": "nobody", "doing": {**doing, "name": name_of(api, "-2")}}
    await ask(api, "PUT", "loras", name_of(api, "-2"), WISH)
    refused = await api.call("POST", "/v1/models/fetches", stranger, token=api.token("worker"))
    assert not refused.json["go_on"]
    other = {**body, "worker": "x", "doing": {**doing, "claim": "other"}}
    second = await api.call("POST", "/v1/models/fetches", other, token=api.token("worker"))
    assert (second.json["go_on"], second.json["why"]) == (False, "another worker fetches it")
    ended = {**body, "worker": "x", "ended": {"folder": "loras", "name": name, "claim": "other"}}
    await api.call("POST", "/v1/models/fetches", ended, token=api.token("worker"))
    again = await api.call("POST", "/v1/models/fetches", {**body, "doing": doing}, token=api.token("worker"))
    assert orjson.loads(again.raw)["go_on"]
    late = {**body, "doing": {**doing, "revision": revision + 1}}
    assert not (await api.call("POST", "/v1/models/fetches", late, token=api.token("worker"))).json["go_on"]
