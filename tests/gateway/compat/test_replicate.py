"""Predictions, as a client of Replicate's API makes them that knows its documented requests alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from tests.broker.shared import SharedBroker
from tests.gateway.compat.site import FILE, KIND, LARGE, Compat, compat
from tests.gateway.rest import DEADLINE_S

BASE = "/compat/replicate/v1"
FIELDS = {
    "id", "model", "version", "status", "input", "output", "logs", "error", "metrics", "created_at",
    "started_at", "completed_at", "urls", "data_removed", "source",
}  # fmt: skip


@pytest.fixture
async def site(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Compat]:
    kinds = {"acme/flux-1.1": KIND, "f" * 64: KIND}
    async with compat(shared_broker, tmp_path, BASE, compat_kinds=kinds) as running:
        yield running


async def made(site: Compat, body: dict[str, Any], path: str = "", **headers: str) -> Any:
    path = path or f"/models/acme/{KIND}/predictions"
    answer = await site.post(path, {"input": body}, **headers)
    assert answer.status == 201, answer
    return answer.json


async def test_a_prediction_is_waited_for(site: Compat) -> None:
    found = await made(site, {"text": "hello"}, Prefer="wait")
    assert set(found) == FIELDS
    assert (found["status"], found["output"]) == ("succeeded", {"text": "hello"})
    assert (found["input"], found["error"], found["model"]) == ({"text": "hello"}, None, f"acme/{KIND}")
    assert found["version"] == KIND
    assert found["metrics"]["predict_time"] >= 0
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    assert (await site.get(f"/predictions/{found['id']}")).json == found


async def test_a_prediction_is_polled_until_it_has_ended(site: Compat) -> None:
    found = await made(site, {"n": 1})
    assert found["status"] in ("starting", "processing", "succeeded")
    assert found["urls"]["get"] == f"{site.api.url}{BASE}/predictions/{found['id']}"
    ended = await site.until(f"/predictions/{found['id']}", "succeeded")
    assert ended["output"] == {"n": 1}


@pytest.mark.parametrize(
    ("version", "model"),
    [
        (KIND, f"switchyard/{KIND}"), (f"acme/{KIND}", f"acme/{KIND}"), (f"acme/{KIND}:1234", f"acme/{KIND}"),
        ("f" * 64, f"switchyard/{KIND}"), ("acme/flux-1.1", "acme/flux-1.1"),
        ("acme/flux-1.1:9", "acme/flux-1.1"), ("acme/other:" + "f" * 64, "acme/other"),
    ],
)  # fmt: skip
async def test_a_version_names_a_kind(site: Compat, version: str, model: str) -> None:
    answer = await site.post("/predictions", {"version": version, "input": {}}, Prefer="wait=20")
    assert answer.status == 201, answer
    assert (answer.json["status"], answer.json["model"]) == ("succeeded", model)
    assert answer.headers["Preference-Applied"] == "wait=20"


async def test_models_and_deployments_name_kinds_too(site: Compat) -> None:
    for path in ("/models/acme/flux-1.1", f"/deployments/me/{KIND}"):
        found = await made(site, {"x": 1}, f"{path}/predictions", Prefer="wait")
        assert found["output"] == {"x": 1}
        assert (await site.get(path)).json["name"] == path.rpartition("/")[2]
    model = (await site.get(f"/models/me/{KIND}")).json
    assert model["latest_version"]["id"] == KIND
    assert (await site.get(f"/models/me/{KIND}/versions/abc")).json["id"] == "abc"
    assert [one["id"] for one in (await site.get(f"/models/me/{KIND}/versions")).json["results"]] == [KIND]
    assert (await site.get("/models/me/no.kind")).status == 404
    assert (await site.get("/account")).json["username"] == site.api.tenant


async def test_what_fails_says_why(site: Compat) -> None:
    found = await made(site, {"mode": "fail"}, Prefer="wait")
    assert (found["status"], found["error"], found["output"]) == ("failed", "it broke", None)


async def test_a_wait_that_ends_first_is_answered_as_starting(site: Compat) -> None:
    """Clients take any other word in the answer to a waiting request for an end."""
    found = await made(site, {"mode": "hold"}, Prefer="wait=1")
    assert (found["status"], found["output"]) == ("starting", None)
    await site.until(f"/predictions/{found['id']}", "processing")
    site.work.go.set()
    assert (await site.until(f"/predictions/{found['id']}", "succeeded"))["output"] == "released"


async def test_a_wait_may_outlast_what_an_answer_may_take(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with compat(shared_broker, tmp_path, "/compat", answer_s=1.0) as site:
        path = "/replicate/v1/models/a/compat-nobody/predictions"
        found = await site.post(path, {"input": {}}, Prefer="wait=2")
        assert (found.status, found.json["status"]) == (201, "starting")
        found = await site.post("/runpod/v2/compat-nobody/runsync?wait=2000", {"input": {}})
        assert (found.status, found.json["status"]) == (200, "IN_QUEUE")


async def test_a_client_that_leaves_while_it_waits_leaves_its_job(site: Compat) -> None:
    key = "left"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await made(site, {"mode": "hold"}, Prefer="wait=60", Idempotency_Key=key)
    again = await site.post(
        f"/models/acme/{KIND}/predictions", {"input": {"mode": "hold"}}, Idempotency_Key=key
    )
    assert again.status == 200
    site.work.go.set()
    await site.until(f"/predictions/{again.json['id']}", "succeeded")


async def test_a_prediction_is_cancelled_and_one_that_ended_stays(site: Compat) -> None:
    found = await made(site, {"mode": "hold"})
    await site.until(f"/predictions/{found['id']}", "processing")
    assert (await site.post(f"/predictions/{found['id']}/cancel")).status == 200
    ended = await site.until(f"/predictions/{found['id']}", "canceled")
    assert ended["error"] is None
    done = await made(site, {}, Prefer="wait")
    again = await site.post(f"/predictions/{done['id']}/cancel")
    assert (again.status, again.json["status"]) == (200, "succeeded")


async def test_a_deadline_ends_a_prediction(site: Compat) -> None:
    answer = await site.post("/models/a/nobody/predictions", {"input": {}}, Cancel_After="1h30m")
    (first,) = (await site.api.get(f"/v1/jobs/{answer.json['id']}/events")).json["events"]
    assert first["data"]["job"]["deadline_at"] > first["at"]
    for text in ("soon", "", "4", "99999999h", "-5m", "1e3"):
        refused = await site.post("/models/a/nobody/predictions", {"input": {}}, Cancel_After=text)
        assert (refused.status, refused.json["field"]) == (400, "Cancel-After"), text


async def test_predictions_are_listed_by_pages(site: Compat) -> None:
    ids = [(await made(site, {"n": n}, f"/models/a/nobody{n % 2}/predictions"))["id"] for n in range(102)]
    await site.api.submit()  # made by another door, so not listed
    async with asyncio.timeout(DEADLINE_S):
        while (page := (await site.get("/predictions")).json)["results"][0]["id"] != ids[-1]:
            await asyncio.sleep(0.02)
    assert len(page["results"]) == 100
    rest = (await site.api.get(page["next"].removeprefix(site.api.url))).json
    assert [one["id"] for one in page["results"] + rest["results"]] == ids[::-1]
    assert (rest["next"], rest["previous"]) == (None, None)
    assert (await site.get("/predictions?cursor=nonsense")).status in (400, 422)


# --- Files


async def uploaded(site: Compat, **fields: str) -> tuple[int, Any]:
    form = aiohttp.FormData()
    form.add_field("content", FILE, filename="in.txt", content_type="text/plain")
    for name, value in fields.items():
        form.add_field(name, value)
    headers = {"Authorization": f"Token {site.api.token()}"}
    async with site.api.http.post(f"{site.api.url}{BASE}/files", data=form, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_file_is_stored_and_its_address_stands_for_it(site: Compat) -> None:
    status, file = await uploaded(site, metadata="{}", type="text/plain")
    assert status == 201
    assert (file["name"], file["content_type"], file["size"]) == ("in.txt", "text/plain", len(FILE))
    assert (await site.get(f"/files/{file['id']}")).json == file
    body = {"mode": "read", "file": file["urls"]["get"]}
    found = await made(site, body, Prefer="wait")
    assert found["output"] == FILE.decode()
    async with asyncio.timeout(DEADLINE_S):
        while [one["id"] for one in (await site.get("/files")).json["results"]] != [file["id"]]:
            await asyncio.sleep(0.02)
    assert (await site.call("DELETE", f"/files/{file['id']}")).status == 204
    assert (await site.get(f"/files/{file['id']}")).status == 404


async def test_what_a_form_has_beside_its_file_is_kept_or_refused(site: Compat) -> None:
    for fields, name in (({"metadata": '{"a": 1}'}, "metadata"), ({"metadata": "{"}, "metadata")):
        status, refused = await uploaded(site, **fields)
        assert status in (400, 422)
        assert refused["field"] == name
    assert (await uploaded(site, other="x"))[0] == 400
    assert (await uploaded(site, metadata=" " * 100_000))[0] == 400
    assert (await site.post("/files", b"raw", Content_Type="text/plain")).status == 400


async def test_a_part_of_a_form_that_does_not_come_is_given_up(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with compat(shared_broker, tmp_path, BASE, transfer_idle_s=0.3) as site:
        origin = yarl.URL(site.api.url)
        assert origin.host is not None
        reader, writer = await asyncio.open_connection(origin.host, origin.port)
        writer.write(
            f"POST {BASE}/files HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {site.api.token()}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{'.encode()
        )
        async with asyncio.timeout(DEADLINE_S):
            assert b" 408 " in await reader.readline()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_files_that_a_job_leaves_are_its_output(site: Compat) -> None:
    found = await made(site, {"mode": "save"}, Prefer="wait")
    assert found["output"].startswith(site.api.url)
    assert (await site.api.get(found["output"].removeprefix(site.api.url))).raw == FILE
    assert [(one["name"], one["url"]) for one in found["artifacts"]] == [("out.bin", found["output"])]
    again = await made(site, {"mode": "read", "file": found["output"]}, Prefer="wait")
    assert again["output"] == FILE.decode()
    both = await made(site, {"mode": "save", "result": {"n": 1}}, Prefer="wait")
    assert (both["output"], both["artifacts"][0]["name"]) == ({"n": 1}, "out.bin")
    large = await made(site, {"mode": "large"}, Prefer="wait")
    assert (await site.api.get(large["output"].removeprefix(site.api.url))).json == "x" * 100_000


# --- Streams


async def streamed(site: Compat, prediction: Any, **headers: str) -> list[tuple[str, str, str]]:
    """The events of a stream up to its end: name, id and data."""
    sent = {"Authorization": f"Token {site.api.token()}", **headers}
    events = []
    async with (
        asyncio.timeout(DEADLINE_S),
        site.api.http.get(prediction["urls"]["stream"], headers=sent) as answer,
    ):
        assert answer.status == 200, await answer.read()
        text = (await answer.read()).decode()
    for block in text.split("\n\n"):
        fields = [line.partition(": ")[::2] for line in block.splitlines()]
        data = "\n".join(value for name, value in fields if name == "data")
        if fields and fields[0][0] == "event":
            events.append((fields[0][1], dict(fields)["id"], data))
    return events


async def test_a_stream_has_the_lines_the_output_and_the_end(site: Compat) -> None:
    found = await made(site, {"mode": "lines", "lines": 600})
    events = await streamed(site, found)
    assert [data for name, _, data in events if name == "logs"] == [f"line {n}\n" for n in range(600)]
    assert [data for name, _, data in events if name == "output"] == ["one\ntwo", '{"three":3}']
    assert (events[-1][0], events[-1][2]) == ("done", "{}")
    rest = await streamed(site, found, **{"Last-Event-ID": events[589][1]})
    assert [event[2] for event in rest[:10]] == [f"line {n}\n" for n in range(590, 600)]
    assert await streamed(site, found) == events
    shown = (await site.get(f"/predictions/{found['id']}")).json["logs"].splitlines()
    assert shown[:2] == ["line 0", "line 1"]
    assert shown[-1].startswith("[more lines")


async def test_a_stream_goes_on_until_the_job_ends(site: Compat) -> None:
    found = await made(site, {"mode": "hold"})
    reading = asyncio.create_task(streamed(site, found))
    await site.until(f"/predictions/{found['id']}", "processing")
    site.work.go.set()
    assert [event[0] for event in await reading] == ["logs", "output", "done"]


async def test_an_admin_follows_the_prediction_of_a_tenant_that_it_names(site: Compat) -> None:
    found = await made(site, {"mode": "fail"}, Prefer="wait")
    admin = site.api.token("admin", tenant=site.api.stranger)
    path = f"/predictions/{found['id']}/stream?tenant={site.api.tenant}"
    assert b"it broke" in (await site.get(path, token=admin)).raw
    viewer = site.api.token("viewer", tenant=site.api.stranger)
    assert (await site.get(path, token=viewer)).status == 403


async def test_a_stream_says_of_a_failure_and_of_a_cancel(site: Compat) -> None:
    failed = await streamed(site, await made(site, {"mode": "fail"}))
    assert [event[::2] for event in failed] == [("error", "it broke"), ("done", '{"reason": "error"}')]
    found = await made(site, {}, "/models/a/nobody/predictions")
    reading = asyncio.create_task(streamed(site, found))
    assert (await site.post(f"/predictions/{found['id']}/cancel")).json["status"] == "canceled"
    assert [event[::2] for event in await reading] == [("done", '{"reason": "canceled"}')]


# --- Who may, and what is refused


async def test_refusals_are_in_the_words_of_the_api(site: Compat) -> None:
    nobody = await site.get("/predictions/x", token="nonsense")
    assert (nobody.status, nobody.json["title"], nobody.json["status"]) == (401, "Unauthorized", 401)
    path = f"/models/a/{KIND}/predictions"
    assert (await site.post(path, {"input": {}}, token=site.api.token("viewer"))).status == 403
    missing = await site.get("/predictions/none")
    assert missing.status == 404
    assert set(missing.json) == {"title", "detail", "status", "code", "field"}
    assert missing.json["detail"]
    assert (await site.get("/nowhere")).json["status"] == 404


async def test_what_would_not_be_done_is_refused_by_name(site: Compat) -> None:
    path = f"/models/a/{KIND}/predictions"
    hook = {"webhook": "https://example.com/hook", "webhook_events_filter": ["completed"]}
    for field in ("webhook", "webhook_completed"):
        refused = await site.post(path, {"input": {}, field: hook["webhook"]})
        assert (refused.status, refused.json["field"]) == (422, field)
        assert field in refused.json["detail"]
    taken = {"webhook": None, "webhook_events_filter": ["start"], "stream": True, "other": 1}
    assert (await site.post(path, {"input": {}, **taken})).status == 201


async def test_other_tenants_see_nothing(site: Compat) -> None:
    found = await made(site, {}, Prefer="wait")
    stranger = site.api.token("submitter", tenant=site.api.stranger)
    one = f"/predictions/{found['id']}"
    for method, path in (("GET", one), ("POST", one + "/cancel"), ("GET", one + "/stream")):
        assert (await site.call(method, path, token=stranger)).status == 404, path
    assert (await site.get("/predictions", token=stranger)).json["results"] == []
    _, file = await uploaded(site)
    for method in ("GET", "DELETE"):
        assert (await site.call(method, f"/files/{file['id']}", token=stranger)).status == 404
    theirs = {"input": {"mode": "read", "file": file["urls"]["get"]}}
    assert (await site.post("/models/a/nobody/predictions", theirs, token=stranger)).status in (201, 422)


@pytest.mark.parametrize("wait", ["wait=1e9", "wait=-1", "wait=0", "wait=x", "wait=1.5", "wait=" + "9" * 30])
async def test_a_wait_that_is_no_number_of_seconds_makes_no_job(site: Compat, wait: str) -> None:
    path = f"/models/a/{KIND}/predictions"
    refused = await site.post(path, {"input": {}}, Prefer=wait, Idempotency_Key="k")
    assert (refused.status, refused.json["field"]) == (400, "Prefer")
    assert (await site.post(path, {"input": {}}, Idempotency_Key="k")).status == 201


@pytest.mark.parametrize("wait", ["respond-async", "wait=999999", 'wait="5"', "WAIT ; x=1, other", ""])
async def test_preferences_are_read_as_they_are_written(site: Compat, wait: str) -> None:
    found = await made(site, {}, Prefer=wait)
    assert found["status"] in (
        ("succeeded",) if "wait" in wait.lower() else ("starting", "processing", "succeeded")
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422), (b"{}", 422), (b'{"input": []}', 422), (b'{"input": null}', 422), (b"{", 400),
        (b'{"input": {"x": NaN}}', 400), (b'{"input": {"x": 1e999}}', 422),
        (b'{"input": {}, "stream": 1}', 422),
        *LARGE,
    ],
)  # fmt: skip
async def test_bodies_that_are_none_are_refused(site: Compat, body: bytes, status: int) -> None:
    answer = await site.post(f"/models/a/{KIND}/predictions", body)
    assert answer.status == status, answer
    assert {"title", "detail", "status"} <= set(answer.json)


@pytest.mark.parametrize(
    "version", ["", "a" * 500, "UPPER", "0" * 64, "a/b/c", "/", ":", "a/:", "../", "a\nb"]
)
async def test_a_version_that_names_no_kind_is_refused(site: Compat, version: str) -> None:
    answer = await site.post("/predictions", {"version": version, "input": {}})
    assert (answer.status, answer.json["field"]) == (422, "version"), answer


async def test_addresses_are_those_that_the_client_has_called(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with compat(shared_broker, tmp_path, BASE, trusted_proxies=["127.0.0.1/32"]) as site:
        found = await made(site, {}, Host="jobs.example.com", X_Forwarded_Proto="https")
        assert found["urls"]["get"].startswith("https://jobs.example.com/compat/replicate/v1/")
        odd = await made(site, {}, Host="jobs.example.com", X_Forwarded_Proto="javascript")
        assert odd["urls"]["get"].startswith("http://jobs.example.com/")
    async with compat(shared_broker, tmp_path, BASE) as site:
        found = await made(site, {}, X_Forwarded_Proto="https")
        assert found["urls"]["get"].startswith("http://")
