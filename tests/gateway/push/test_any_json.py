"""Servers of profile `json`: what their owners wrote is what they are sent, and how they are heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.pusher import member, pushing
from tests.gateway.push.any_json_server import POLL, QueueServer
from tests.gateway.push.test_pushing import forget, job_of, pushers, when
from tests.gateway.rest import Gateway
from tests.gateway.shared import SharedGateway

SYNC: dict[str, Any] = {
    "body": {"inputs": "{{payload.prompt}}", "n": "{{payload.n?}}"}, "result": "out.0", "error": "error",
    "usage": {"tokens": "usage.total"}, "method": "PUT",
}  # fmt: skip


@pytest.fixture
async def api(loopback_gateway: SharedGateway) -> AsyncIterator[Gateway]:
    """A gateway that allows servers on loopback."""
    async with loopback_gateway.visited() as running:
        yield running
        await forget(running)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 0.3)
    monkeypatch.setattr(member, "FIRST_REST_S", 0.3)


async def register(api: Gateway, server: QueueServer, **fields: Any) -> None:
    answer = await api.call(
        "PUT", f"/v1/servers/{server.name}", {**server.wish, **fields}, token=api.token("tenant-admin")
    )
    assert answer.status in (200, 201), answer


async def submit(api: Gateway, **fields: Any) -> str:
    payload = fields.pop("payload", {"prompt": "a cat"})
    return str((await api.submit(kind="upscale", payload=payload, **fields))["id"])


async def ended(api: Gateway, job: str) -> dict[str, Any]:
    await api.final(job)
    return await job_of(api, job)


def says(status: int, body: Any = b"") -> web.Response:
    return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())


async def test_a_server_is_asked_until_it_is_done(api: Gateway) -> None:
    reports: list[dict[str, Any]] = []

    async def heard(message: Any) -> None:
        reports.append(json.loads(message.data))

    async with QueueServer("s1") as server, pushers(api):
        await api.nc.subscribe(subjects.progress(JobId("*")), cb=heard)
        await register(api, server, credentials={"headers": {"X-API-Key": "secret-1"}})
        found = await ended(api, await submit(api))
        assert found["state"] == "succeeded", found
        asked = {"input": {"prompt": "a cat", "steps": 20}, "ref": f"task-{found['id']}"}
        assert found["result"] == {"by": "s1", "asked": asked}
        assert (found["usage"], found["attempt"]) == ({"seconds": 1.5}, 1)
        ((_, headers),) = server.sent
        assert headers["X-API-Key"] == "secret-1"
        assert server.asked_after == {"1/a?": 3}
        await when(lambda: reports, "progress")
        assert (reports[0]["fraction"], reports[0]["message"]) == (0.5, "half")


async def test_a_job_that_is_cancelled_is_cancelled_there(api: Gateway) -> None:
    async with QueueServer("s1", polls=None) as server, pushers(api):
        await register(api, server)
        job = await submit(api)
        await when(lambda: server.asked_after, "a question")
        await api.call("POST", f"/v1/jobs/{job}/cancel")
        assert (await api.final(job)).name == "cancelled"
        await when(lambda: server.deleted == ["1/a?"], "the cancellation")


async def test_a_pusher_that_is_gone_is_followed_by_another(api: Gateway) -> None:
    async with QueueServer("s1", polls=None) as server:
        await register(api, server)
        lease_s = 60.0  # longer than a machine that is busy takes between the two
        async with pushers(api, timed_lease_s=lease_s):
            job = await submit(api)
            await when(lambda: server.asked_after, "a question")
        server.polls = 0
        async with pushers(api, timed_lease_s=lease_s):
            found = await ended(api, job)
        assert (found["state"], found["attempt"]) == ("succeeded", 1), found
        assert len(server.sent) == 1


@pytest.mark.parametrize(
    ("phase", "state", "code"),
    [
        ({"phase": "BROKEN", "fault": {"text": "no memory"}}, "dead", "server_failed"),
        ({"phase": "BROKEN"}, "dead", "server_failed"), ({"phase": "READY"}, "dead", "answer_invalid"),
        ({"phase": "READY", "output": "x" * 70_000}, "dead", "answer_too_large"),
        ({"phase": "odd"}, "dead", "timeout"), ({"phase": 7}, "dead", "timeout"), ({}, "dead", "timeout"),
    ],
)  # fmt: skip
async def test_what_it_says_when_it_is_asked_ends_the_attempt(
    api: Gateway, phase: dict[str, Any], state: str, code: str
) -> None:
    async with QueueServer("s1") as server, pushers(api, push_answer_bytes=65_536):
        await register(api, server)
        server.says = {"job": phase}
        found = await ended(api, await submit(api, max_attempts=1, attempt_timeout_s=4.0))
        assert (found["state"], found["error"]["code"]) == (state, code), found
        assert len(server.sent) == 1


@pytest.mark.parametrize("status", [500, 429, 401, 302])
async def test_an_answer_that_says_nothing_is_asked_for_again(api: Gateway, status: int) -> None:
    async with QueueServer("s1", polls=0) as server, pushers(api):
        await register(api, server)
        server.status = status
        job = await submit(api, max_attempts=1)
        await when(lambda: server.asked_after["1/a?"] > 1, "another question")
        server.status = 200
        assert (await ended(api, job))["state"] == "succeeded"
        assert len(server.sent) == 1


async def test_a_task_that_the_server_has_forgotten_goes_elsewhere_uncounted(api: Gateway) -> None:
    async with QueueServer("s1", polls=None) as server, pushers(api):
        await register(api, server)
        job = await submit(api, max_attempts=1)
        await when(lambda: server.asked_after, "a question")
        server.jobs.clear()
        server.polls = 0
        assert (await ended(api, job))["state"] == "succeeded"
        assert len(server.sent) == 2


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        (says(200, {"out": [{"x": 1}], "usage": {"total": 7}}), "succeeded", ""),
        (says(201, {"out": [None]}), "succeeded", ""),
        (says(200, {"error": "no secret-1"}), "dead", "server_failed"),
        (says(200, {}), "dead", "answer_invalid"), (says(200, {"out": []}), "dead", "answer_invalid"),
        (says(200, b"[1]"), "dead", "answer_invalid"),
        (says(200, b'{"out": [NaN]}'), "dead", "answer_invalid"),
        (says(204), "dead", "answer_invalid"), (says(422, {"x": 1}), "dead", "server_refused"),
        (says(500), "dead", "server_status_500"),
        (says(200, {"out": ["x" * 70_000]}), "dead", "answer_too_large"),
    ],
)  # fmt: skip
async def test_an_answer_at_once_is_the_outcome(
    api: Gateway, answer: web.Response, state: str, code: str
) -> None:
    async with QueueServer("s1") as server, pushers(api, push_answer_bytes=65_536):
        server.answer = answer
        credentials = {"headers": {"X-API-Key": "secret-1"}}
        await register(api, server, options=SYNC | {"method": "POST"}, credentials=credentials)
        found = await ended(api, await submit(api, max_attempts=1))
        assert (found["state"], (found["error"] or {}).get("code", "")) == (state, code), found
        assert "secret-1" not in json.dumps(found)
        assert [asked for asked, _ in server.sent] == [{"inputs": "a cat"}]
        if answer.body == says(200, {"out": [{"x": 1}], "usage": {"total": 7}}).body:
            assert (found["result"], found["usage"]) == ({"x": 1}, {"tokens": 7})


async def test_a_payload_that_lacks_something_is_sent_to_nobody(api: Gateway) -> None:
    async with QueueServer("s1") as server, pushers(api):
        await register(api, server)
        found = await ended(api, await submit(api, payload={"steps": 3}, max_attempts=3))
        assert (found["state"], found["error"]["code"], found["attempt"]) == ("dead", "payload_invalid", 1)
        assert "payload.prompt is missing" in found["error"]["message"]
        assert not server.sent


@pytest.mark.parametrize(
    "job", [{"phase": "WAITING"}, {"id": "..", "phase": "x"}, {"id": "x" * 300}, {"id": {}}]
)
async def test_a_task_without_a_name_cannot_be_asked_after(api: Gateway, job: dict[str, Any]) -> None:
    async with QueueServer("s1") as server, pushers(api):
        server.answer = says(200, {"job": job})
        await register(api, server)
        found = await ended(api, await submit(api, max_attempts=1))
        assert (found["state"], found["error"]["code"]) == ("dead", "answer_invalid"), found


async def test_a_server_that_calls_back_is_heard_by_its_own_words(api: Gateway) -> None:
    options = {
        "mode": "callback", "body": {"hook": "{{callback_url}}", "p": "{{payload}}"}, "status": "state.name",
        "done": ["fin"], "failed": ["err"], "result": "state.data", "error": "state.why", "remote_id": "job",
        "progress": "state.done", "headers": {"Idempotency-Key": "{{task_id}}"},
    }  # fmt: skip
    async with QueueServer("s1") as server, pushers(api):
        server.answer = says(202, {"job": 17})
        await register(api, server, options=options)
        job = await submit(api)
        await api.until(job, "claim_renewed")
        ((asked, headers),) = server.sent
        assert (asked["p"], headers["Idempotency-Key"]) == ({"prompt": "a cat"}, f"task-{job}")
        url = asked["hook"]
        assert await server.call_back(url, {"nothing": 1}) == 422
        assert await server.call_back(url, {"state": {"name": "going", "done": 40}}) == 200
        assert await server.call_back(url, {"state": {"name": "FIN"}}) == 422  # its result is missing
        assert await server.call_back(url, {"state": {"name": "FIN", "data": [1]}}) == 200
        assert await server.call_back(url, {"state": {"name": "err"}}) == 200
        found = await ended(api, job)
        assert (found["state"], found["result"], found["attempt"]) == ("succeeded", [1], 1)
        second = await submit(api, max_attempts=1)
        await api.until(second, "claim_renewed")
        assert (
            await server.call_back(server.sent[1][0]["hook"], {"state": {"name": "err", "why": "w"}}) == 200
        )
        assert (await ended(api, second))["error"]["message"] == "w"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"body": "{{x}}"}, "options.body"), ({"mode": "poll"}, "options.poll"),
        ({"mode": "x"}, "options.mode"),
        ({"body": {"a": "{{payload.x}}"}, "sample": {}}, "options.body.a"), ({"other": 1}, "options.other"),
        (POLL | {"poll": {"path": "/{{remote_id}}", "interval_s": 0}}, "options.poll.interval_s"),
        (POLL | {"poll": {"path": "http://other.example.com/{{remote_id}}"}}, "options.poll.path"),
        ({"result": "a..b"}, "options.result"), ({"body": "x" * 20_000}, "options"),
        ({"headers": {"Authorization": "Bearer x"}}, "options.headers.Authorization"),
    ],
)  # fmt: skip
async def test_wrong_options_are_named(api: Gateway, options: dict[str, Any], field: str) -> None:
    server = QueueServer("s1")
    server.port = 8000
    wish = {**server.wish, "options": options}
    answer = await api.call("PUT", "/v1/servers/s1", wish, token=api.token("tenant-admin"))
    assert (answer.status, answer.json["field"]) == (422, field), answer


async def test_polls_are_made_by_every_pusher_yet_seldom(api: Gateway) -> None:
    async with QueueServer("s1", polls=6) as server, pushers(api, 3):
        await register(api, server, slots=4)
        jobs = [await submit(api) for _ in range(8)]
        found = await asyncio.gather(*(ended(api, job) for job in jobs))
        assert {one["state"] for one in found} == {"succeeded"}
        assert {one["attempt"] for one in found} == {1}
        assert len(server.sent) == 8


async def test_a_header_is_the_credentials_or_the_options_alone(api: Gateway) -> None:
    token = api.token("tenant-admin")
    async with QueueServer("s1") as server:
        options = SYNC | {"method": "POST", "headers": {"x-api-KEY": "open"}}
        credentials = {"headers": {"X-API-Key": "secret-1"}}
        wish = {**server.wish, "options": options}
        refused = await api.call("PUT", "/v1/servers/s1", {**wish, "credentials": credentials}, token=token)
        assert (refused.status, refused.json["field"]) == (422, "options.headers.x-api-KEY")
        assert "secret-1" not in json.dumps(refused.json)
        assert (await api.call("PUT", "/v1/servers/s1", wish, token=token)).status == 201
        changed = await api.call("PATCH", "/v1/servers/s1", {"credentials": credentials}, token=token)
        assert (changed.status, changed.json["field"]) == (422, "options.headers.x-api-KEY")
