"""Jobs that are pushed to prediction servers: each ends once, whatever the servers do."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import orjson
import pytest

from switchyard.services.broker import connection
from switchyard.services.gateway.operations.servers import callbacks
from switchyard.services.pusher import member, pushing
from switchyard.services.pusher.breaker import RULES
from switchyard.services.pusher.pusher import Pusher
from switchyard.services.records.servers.condition import Rhythm
from tests.gateway.push.task_server import TaskServer, at_once, drip, hang, later, says, silent, slam
from tests.gateway.rest import Gateway
from tests.gateway.shared import SharedGateway

QUICK: Final = Rhythm(shortest_s=0.3, longest_s=1.0, check_s=1.0)
DEADLINE_S: Final = 60.0


@pytest.fixture
async def api(loopback_gateway: SharedGateway) -> AsyncIterator[Gateway]:
    """A gateway that allows servers on loopback."""
    async with loopback_gateway.visited() as running:
        yield running
        await forget(running)


async def forget(api: Gateway) -> None:
    registry = api.registry()
    await registry.load()
    for one in registry.all(api.tenant):
        await registry.delete(one.server, one.revision)


@contextlib.asynccontextmanager
async def pushers(
    api: Gateway, number: int = 1, rhythm: Rhythm = QUICK, **changes: Any
) -> AsyncIterator[list[Pusher]]:
    """So many, each with a connection of its own; drained at the end."""
    settings = api.settings.model_copy(update=changes)
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group, api.keeper():
        found, tasks = [], []
        for _ in range(number):
            nc = await connection.connect(api.nats_url, name="pusher")
            stack.push_async_callback(nc.close)
            found.append(Pusher(nc, settings, rhythm=rhythm, gateway=api.url))
            tasks.append(group.create_task(found[-1].run()))
        async with asyncio.timeout(DEADLINE_S):
            for one in found:
                await one.ready.wait()
        yield found
        for one in found:
            one.stop()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait(tasks)


async def register(api: Gateway, server: TaskServer, **fields: Any) -> None:
    answer = await api.call(
        "PUT", f"/v1/servers/{server.name}", {**server.wish, **fields}, token=api.token("tenant-admin")
    )
    assert answer.status in (200, 201), answer


async def submit(api: Gateway, **fields: Any) -> str:
    job = await api.submit(kind="upscale", **fields)
    return str(job["id"])


async def job_of(api: Gateway, job_id: str) -> dict[str, Any]:
    answer = await api.get(f"/v1/jobs/{job_id}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


async def when(true: Callable[[], Any], what: str) -> None:
    """Wait until something is so."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never so: {what}") from None


async def test_a_server_that_answers_at_once_is_done_with_its_answer(api: Gateway) -> None:
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server, credentials={"bearer": "sk-0123456789"})
        trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
        answer = await api.call(
            "POST", "/v1/jobs", {"kind": "upscale", "payload": {"width": 3}}, traceparent=trace
        )
        job = answer.json["id"]
        assert (await api.final(job)).name == "succeeded"
        found = await job_of(api, job)
        ((asked, headers),) = server.asked
        assert found["result"] == server.result(asked)
        assert found["worker"] == f"server.{api.tenant}.s1"
        assert (asked["task_id"], asked["request"], asked["async"]) == (f"task-{job}", {"width": 3}, True)
        assert headers["Authorization"] == "Bearer sk-0123456789"
        assert (headers["X-Request-Id"], headers["Content-Type"]) == (f"task-{job}", "application/json")
        assert headers["traceparent"].split("-")[1] == "ab" * 16
        assert await api.names(job) == ["submitted", "claimed", "succeeded"]


async def test_a_server_that_does_not_call_back_is_asked_for_the_result(api: Gateway) -> None:
    async def as_asked(server: TaskServer, request: Any, asked: dict[str, Any]) -> Any:
        return await (later if asked["async"] else at_once)(server, request, asked)

    async with TaskServer("s1", as_asked) as server, pushers(api):
        await register(api, server, options={"calls_back": False})
        job = await submit(api)
        assert (await api.final(job)).name == "succeeded"
        assert await api.names(job) == ["submitted", "claimed", "succeeded"]
        assert server.asked[0][0]["async"] is False
        server.behave = later  # it is at work all the same: then it calls back
        other = await submit(api)
        assert (await api.final(other)).name == "succeeded"
        assert await api.names(other) == ["submitted", "claimed", "claim_renewed", "succeeded"]


async def test_a_server_that_calls_back_is_heard_once(api: Gateway) -> None:
    async with TaskServer("s1", silent) as server, pushers(api):
        await register(api, server)
        job = await submit(api)
        await api.until(job, "claim_renewed")
        ((asked, _),) = server.asked
        url = asked["callback_url"]
        running = {"backend_task_id": "b", "data": {}, "metadata": {"status": "PROCESSING", "progress": 0.5}}
        assert await server.call_back(url, running) == 200
        assert await server.call_back(url, {"status": "PROCESSING", "progress": 70}, "POST") == 200
        assert await server.call_back(url, server.result(asked)) == 200
        assert await server.call_back(url, server.result(asked)) == 200
        assert await server.call_back(url, {"status": "FAILED", "error": "late"}, "POST") == 200
        assert [body["job"]["state"] for _, body in server.heard] == [
            "running", "running", "succeeded", "succeeded", "succeeded",
        ]  # fmt: skip
        found = await job_of(api, job)
        assert (found["result"], found["attempt"]) == (server.result(asked), 1)
        assert await api.names(job) == ["submitted", "claimed", "claim_renewed", "succeeded"]


async def test_a_callback_may_come_before_the_answer(api: Gateway) -> None:
    async def early(server: TaskServer, request: Any, asked: dict[str, Any]) -> Any:
        await server.call_back(
            asked["callback_url"], {"status": "COMPLETED", "result": {"early": True}}, "POST"
        )
        return await silent(server, request, asked)

    async with TaskServer("s1", early) as server, pushers(api):
        await register(api, server)
        job = await submit(api)
        assert (await api.final(job)).name == "succeeded"
        assert (await job_of(api, job))["result"] == {"early": True}
        second = await submit(api)  # the slot has come back
        assert (await api.final(second)).name == "succeeded"


async def test_a_report_of_work_may_come_before_the_answer_too(api: Gateway) -> None:
    """By the address for back ends of any sort, with the ticket of the callback."""

    async def early(server: TaskServer, _request: Any, asked: dict[str, Any]) -> Any:
        url = asked["callback_url"].replace("/v1/callbacks/", "/v1/outcomes/")
        assert await server.call_back(url, {"state": "succeeded", "result": {"early": True}}, "POST") == 200
        return await silent(server, _request, asked)

    async with TaskServer("s1", early) as server, pushers(api):
        await register(api, server)
        for _ in range(2):  # the slot comes back
            job = await submit(api)
            assert (await api.final(job)).name == "succeeded"
            assert (await job_of(api, job))["result"] == {"early": True}


@pytest.mark.parametrize("is_within", [True, False])
async def test_a_report_with_a_users_token_may_come_before_the_answer(
    api: Gateway, monkeypatch: pytest.MonkeyPatch, *, is_within: bool
) -> None:
    """While the server is still asked, and at the moment of its answer."""
    monkeypatch.setattr(callbacks, "PUSHER_S", 0.5 if is_within else 30.0)
    reports = []

    async def early(server: TaskServer, request: Any, asked: dict[str, Any]) -> Any:
        report = api.call("PUT", f"/api/task/{asked['task_id']}", {"status": "COMPLETED", "result": {"n": 1}})
        if is_within:
            reports.append((await report).status)
        else:
            server.spawn(noted(report))
        return await silent(server, request, asked)

    async def noted(report: Any) -> None:
        reports.append((await report).status)

    kind = api.settings.task_kind
    async with TaskServer("s1", early) as server, pushers(api):
        await register(api, server, kinds=[kind], slots=2)
        jobs = [str((await api.submit(kind=kind))["id"]) for _ in range(2)]
        for job in jobs:
            assert (await api.final(job)).name == "succeeded"
            assert (await job_of(api, job))["result"] == {"n": 1}
    assert reports == [200, 200]


async def test_a_failure_that_the_server_reports_is_the_attempts(api: Gateway) -> None:
    failed = {"backend_task_id": "b", "data": {}, "metadata": {"status": "FAILED", "message": "no memory"}}
    behaviours = iter([says(200, orjson.dumps(failed)), at_once])

    async def first_fails(server: TaskServer, request: Any, asked: dict[str, Any]) -> Any:
        return await next(behaviours)(server, request, asked)

    async with TaskServer("s1", first_fails) as server, pushers(api):
        await register(api, server)
        job = await submit(api, retry={"base_s": 0.1, "max_s": 0.1})
        assert (await api.final(job)).name == "succeeded"
        failure = await api.until(job, "failed")
        assert (failure.event.error.code, failure.event.error.message) == ("server_failed", "no memory")  # type: ignore[union-attr]
        assert (await job_of(api, job))["attempt"] == 2


async def test_forged_tickets_open_nothing(api: Gateway) -> None:
    async with TaskServer("s1", silent) as server, pushers(api):
        await register(api, server)
        job, other = await submit(api), await submit(api)
        await api.until(job, "claim_renewed")
        (asked, _), *_ = server.asked
        url, ticket = asked["callback_url"].rsplit("/", 1)
        head, body, signature = ticket.split(".")
        done = {"status": "COMPLETED", "result": 1}
        for forged in (
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{head}.{body}.",
            "x",
            "%00",
            f"{head}..{signature}",
        ):
            assert await server.call_back(f"{url}/{forged}", done) in (401, 404)
        unclear: tuple[Any, ...] = (
            {}, {"status": "WHATEVER"}, {"status": 7}, {"metadata": {}}, {"metadata": {"status": ""}},
        )  # fmt: skip
        for bad in unclear:
            assert await server.call_back(f"{url}/{ticket}", bad) == 422
        answer = await api.call("PUT", f"/v1/callbacks/{ticket}", b'{"status":"COMPLETED","status":"FAILED"}')
        assert answer.status == 422, answer
        assert (await job_of(api, job))["state"] == "running"
        assert (await job_of(api, other))["state"] == "queued"
        # A server may send a token of its own beside: the ticket counts.
        mine = await api.call("PUT", f"/v1/callbacks/{ticket}", done, token="a.b.c")
        assert (mine.status, mine.json["job"]["state"]) == (200, "succeeded")


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (says(200, b"<html>"), "answer_invalid"), (says(200, b"[1]"), "answer_invalid"),
        (says(200), "answer_invalid"),
        (says(200, b'{"a": NaN}'), "answer_invalid"), (says(200, b'{"a":1,"a":2}'), "answer_invalid"),
        (says(200, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), "answer_invalid"),
        (says(200, b'{"a":' + b"9" * 5000 + b"}"), "answer_invalid"),
        (says(200, b'{"a": 1e999}'), "answer_invalid"), (says(200, b'{"a": "\xff"}'), "answer_invalid"),
        (says(200, b'{"a": "' + b"x" * 70_000 + b'"}'), "answer_too_large"),
        (says(500, b"Bearer sk-0123456789 \x1b[31m<script>"), "server_status_500"),
        (says(404), "server_status_404"), (says(422, b"no width"), "server_refused"),
        (slam, "server_connection_closed"), (hang, "timeout"), (drip, "timeout"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_fails_the_attempt_and_shows_little(
    api: Gateway, monkeypatch: pytest.MonkeyPatch, behave: Any, code: str
) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 0.5)
    async with TaskServer("s1", behave) as server, pushers(api, push_answer_bytes=65_536):
        await register(api, server, credentials={"bearer": "sk-0123456789"})
        job = await submit(api, max_attempts=1, attempt_timeout_s=1.5)
        end = await api.final(job)
        assert end.name == "dead"
        found = await job_of(api, job)
        assert found["error"]["code"] == code, found
        assert len(found["error"]["message"]) < 400
        assert re.search(r"sk-0123|\x1b", found["error"]["message"]) is None


@pytest.mark.parametrize(
    "behave",
    [says(409), says(429, Retry_After="1"), says(503, Retry_After="1"), says(503), says(302, Location="http://169.254.169.254/")],
)  # fmt: skip
async def test_a_server_that_is_full_or_redirects_gives_the_job_back_uncounted(
    api: Gateway, monkeypatch: pytest.MonkeyPatch, behave: Any
) -> None:
    monkeypatch.setattr(member, "FIRST_REST_S", 0.3)
    async with TaskServer("s1", behave) as server, pushers(api):
        await register(api, server)
        job = await submit(api, max_attempts=1)
        await when(lambda: server.took, "a push")
        server.behave = at_once
        assert (await api.final(job)).name == "succeeded"
        found = await job_of(api, job)
        assert {*await api.names(job)} == {"submitted", "claimed", "queued", "succeeded"}
        assert server.took.total() <= RULES.failures + 1, found  # the breaker opens then


async def test_jobs_wait_while_no_server_is_there_and_go_to_the_one_that_lives(api: Gateway) -> None:
    async with pushers(api):
        job = await submit(api)
        async with TaskServer("gone") as gone:
            await register(api, gone)
        async with TaskServer("s1") as server:
            await register(api, server)
            assert (await api.final(job)).name == "succeeded"
            many = [await submit(api, max_attempts=1) for _ in range(20)]
            for one in many:
                assert (await api.final(one)).name == "succeeded"


async def test_no_server_gets_more_than_its_slots_from_any_number_of_pushers(api: Gateway) -> None:
    async with TaskServer("s1", works_s=0.05) as server, pushers(api, 3):
        await register(api, server, slots=2)
        jobs = [await submit(api) for _ in range(40)]
        for job in jobs:
            assert (await api.final(job)).name == "succeeded"
        assert server.most == 2
        assert server.took == Counter(dict.fromkeys((f"task-{job}" for job in jobs), 1))


async def test_tasks_that_are_carried_on_take_slots_until_they_end(api: Gateway) -> None:
    async with TaskServer("s1", silent) as server, pushers(api, 2):
        await register(api, server, slots=2)
        jobs = [await submit(api) for _ in range(4)]
        await when(lambda: len(server.asked) == 2, "two pushes")
        await asyncio.sleep(1.0)
        assert len(server.asked) == 2
        server.behave = at_once
        for asked, _ in list(server.asked):
            await server.call_back(asked["callback_url"], server.result(asked))
        for job in jobs:
            assert (await api.final(job)).name == "succeeded"


async def test_jobs_of_other_tenants_are_not_for_a_server(api: Gateway) -> None:
    async with TaskServer("s1") as server, pushers(api):
        await register(api, server)
        strange = await api.call(
            "POST", "/v1/jobs", {"kind": "upscale"}, token=api.token(tenant=api.stranger)
        )
        assert strange.status == 201
        own = await submit(api)
        assert (await api.final(own)).name == "succeeded"
        assert set(server.took) == {f"task-{own}"}
        await api.call("POST", f"/v1/jobs/{strange.json['id']}/cancel", token=api.token(tenant=api.stranger))


@pytest.mark.parametrize("behave", [hang, silent])
async def test_a_cancelled_job_is_stopped_at_its_server(api: Gateway, behave: Any) -> None:
    async with TaskServer("s1", behave) as server, pushers(api):
        await register(api, server)
        job = await submit(api, attempt_timeout_s=600)
        await when(lambda: server.asked, "a push")
        if behave is silent:
            await api.until(job, "claim_renewed")
        answer = await api.call("POST", f"/v1/jobs/{job}/cancel")
        assert answer.status in (200, 202), answer
        assert (await api.final(job)).name == "cancelled"
        assert server.stopped == [f"task-{job}"]
        ((asked, _),) = server.asked
        assert await server.call_back(asked["callback_url"], server.result(asked)) == 200
        assert (await job_of(api, job))["state"] == "cancelled"


async def test_a_lease_is_renewed_while_the_server_is_well_and_lost_when_it_dies(api: Gateway) -> None:
    async with pushers(api), TaskServer("s2", at_once) as other:
        async with TaskServer("s1", silent) as server:
            await register(api, server)
            job = await submit(api)
            await when(lambda: server.asked, "a push")
            async with asyncio.timeout(DEADLINE_S):
                while (await api.names(job)).count("claim_renewed") < 3:
                    await asyncio.sleep(0.1)
        await register(api, other)
        assert (await api.final(job)).name == "succeeded"
        assert (await job_of(api, job))["result"]["data"]["by"] == "s2"


async def test_a_drained_pusher_gives_back_what_it_waits_for(api: Gateway) -> None:
    async with TaskServer("s1", hang) as server:
        async with pushers(api, drain_grace_s=0.2):
            await register(api, server)
            job = await submit(api, max_attempts=1)
            await when(lambda: server.asked, "a push")
        assert await api.names(job) == ["submitted", "claimed", "queued"]
        server.behave = at_once
        async with pushers(api):
            assert (await api.final(job)).name == "succeeded"


async def test_a_large_result_is_stored(api: Gateway) -> None:
    large = orjson.dumps({"data": {"text": "x" * 400_000}})
    async with TaskServer("s1", says(200, large)) as server, pushers(api):
        await register(api, server)
        job = await submit(api)
        assert (await api.final(job)).name == "succeeded"
        found = await job_of(api, job)
        assert found["result"] is None
        assert [one["name"] for one in found["artifacts"]] == ["result.json"]


async def test_callbacks_land_while_a_server_works(api: Gateway) -> None:
    async with TaskServer("s1", later, works_s=0.1) as server, pushers(api, 2):
        await register(api, server, slots=4)
        jobs = [await submit(api) for _ in range(30)]
        for job in jobs:
            assert (await api.final(job)).name == "succeeded"
        assert server.took.total() == 30
