"""Jobs that are pushed to Cog servers of both generations: each ends once, whatever the servers do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.event_store import EventStore
from switchyard.services.gateway.operations.outcomes import Outcomes
from switchyard.services.gateway.operations.servers.lines import RepeatedLines
from switchyard.services.pusher import pushing
from tests.gateway.push.test_pushing import forget, job_of, pushers, submit, when
from tests.gateway.rest import Gateway
from tests.gateway.shared import SharedGateway
from tests.pusher.cog_server import NEW, OLD, CogServer

BOTH: Final = pytest.mark.parametrize("generation", [NEW, OLD])
MODES: Final = pytest.mark.parametrize("mode", ["async", "sync", "stream"])
ONCE: Final[dict[str, Any]] = {"max_attempts": 1}
LIMITS: Final = {"push_answer_bytes": 200_000, "push_files_bytes": 500_000, "body_bytes": 50_000}
PNG: Final = b"\x89PNG\r\n\x1a\nno picture"


@pytest.fixture
async def api(loopback_gateway: SharedGateway) -> AsyncIterator[Gateway]:
    """A gateway that allows servers on loopback."""
    async with loopback_gateway.visited() as running:
        yield running
        await forget(running)


async def register(api: Gateway, server: CogServer, **fields: Any) -> None:
    answer = await api.call(
        "PUT", f"/v1/servers/{server.name}", {**server.wish, **fields}, token=api.token("tenant-admin")
    )
    assert answer.status in (200, 201), answer


async def lines_of(api: Gateway, job: str) -> list[str]:
    """The log lines of a job that are stored."""
    found = await api.nc.jetstream().pull_subscribe(subjects.log(JobId(job)), stream=subjects.LOGS)
    waiting = (await found.consumer_info()).num_pending
    lines = await found.fetch(waiting, timeout=10) if waiting else []
    await found.unsubscribe()
    return [orjson.loads(line.data)["line"] for line in lines]


@BOTH
@MODES
async def test_a_prediction_is_made_once_and_its_output_metrics_and_lines_are_kept(
    api: Gateway, generation: str, mode: str
) -> None:
    async with CogServer("c1", generation) as server, pushers(api):
        await register(api, server, options={"mode": mode})
        job = await submit(api, payload={"text": "a"})
        assert (await api.final(job)).name == "succeeded"
        found = await job_of(api, job)
        assert found["result"] == {"output": ["a0", "a1", "a2"], "metrics": {"predict_time": 0.1}}
        assert found["usage"] == {"predict_time": 0.1}
        assert server.began.total() == 1
        while not (lines := [line for line in await lines_of(api, job) if line.startswith("step")])[2:]:
            pass
        assert lines == ["step 0", "step 1", "step 2"]


@BOTH
@MODES
async def test_a_failure_of_the_model_is_the_attempts(api: Gateway, generation: str, mode: str) -> None:
    async with CogServer("c1", generation) as server, pushers(api):
        await register(api, server, options={"mode": mode})
        job = await submit(api, payload={"text": "a", "fail": "error"}, **ONCE)
        assert (await api.final(job)).name == "dead"
        error = (await job_of(api, job))["error"]
        assert (error["code"], error["message"]) == ("server_failed", "it went wrong")


@BOTH
async def test_an_input_that_the_model_refuses_names_the_field_and_is_not_tried_again(
    api: Gateway, generation: str
) -> None:
    async with CogServer("c1", generation) as server, pushers(api):
        await register(api, server)
        job = await submit(api, payload={"seconds": 1})
        assert (await api.final(job)).name == "dead"
        found = await job_of(api, job)
        assert found["error"]["code"] == "server_refused"
        assert "input.text: Field required" in found["error"]["message"]
        assert found["attempt"] == 1
        assert not server.began


@BOTH
@MODES
async def test_a_cancelled_job_is_cancelled_at_its_server(api: Gateway, generation: str, mode: str) -> None:
    async with CogServer("c1", generation) as server, pushers(api):
        await register(api, server, options={"mode": mode})
        job = await submit(api, payload={"text": "a", "seconds": 60})
        await when(lambda: server.running, "the server has it")
        assert (await api.call("POST", f"/v1/jobs/{job}/cancel")).status == 202
        assert (await api.final(job)).name == "cancelled"
        await when(lambda: not server.running, "the server has stopped it")
        assert server.began.total() == 1


@BOTH
async def test_a_server_at_capacity_gets_more_when_it_has_room(api: Gateway, generation: str) -> None:
    async with CogServer("c1", generation) as server, pushers(api):
        await register(api, server, slots=3)
        jobs = [await submit(api, payload={"text": str(n), "seconds": 0.3}, **ONCE) for n in range(3)]
        for job in jobs:
            assert (await api.final(job)).name == "succeeded"
            assert (await job_of(api, job))["failures"] == 0
        assert server.began.total() == 3


async def test_a_server_whose_worker_has_crashed_gets_nothing_more(api: Gateway) -> None:
    """It answers 409 from then on, as if it were busy; its health says what it is."""
    async with CogServer("c1") as server, CogServer("c2") as other, pushers(api):
        await register(api, server)
        job = await submit(api, payload={"text": "a", "fail": "die"}, **ONCE)
        assert (await api.final(job)).name == "dead"
        assert (await job_of(api, job))["error"]["message"] == "Worker crashed"
        again = await submit(api, payload={"text": "b"}, **ONCE)

        async def state() -> str:
            answer = await api.get("/v1/servers/c1", token=api.token("tenant-admin"))
            return str(answer.json["state"])

        while await state() != "offline":
            pass
        checks = (await api.get("/v1/servers/c1", token=api.token("tenant-admin"))).json["recent"]
        assert {check["outcome"] for check in checks if check["outcome"] != "passed"} == {"unwell"}
        await register(api, other)
        assert (await api.final(again)).name == "succeeded"
        assert other.began.total() == 1


async def test_files_go_in_and_come_out(api: Gateway) -> None:
    stored = await api.call("POST", "/v1/files", PNG, Content_Type="image/png")
    assert stored.status == 201, stored
    async with CogServer("c1") as server, pushers(api):
        await register(api, server)
        picture = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        server.output = {"image": picture, "note": "data:,none", "more": [picture]}
        job = await submit(api, payload={"text": "a", "image": {"file": stored.json["id"]}})
        assert (await api.final(job)).name == "succeeded"
        (given,) = server.inputs.values()
        assert given["image"] == picture
        found = await job_of(api, job)
        output = found["result"]["output"]
        assert output["note"] == "data:,none"
        assert [one["name"] for one in found["artifacts"]] == ["output-0.png", "output-1.png"]
        assert output["image"] == found["artifacts"][0]
        got = await api.get(f"/v1/files/{output['image']['file']}")
        assert got.raw == PNG


async def test_what_no_server_could_be_sent_is_an_end(api: Gateway) -> None:
    async with CogServer("c1") as server, pushers(api):
        await register(api, server, options={"input_bytes": 3})
        stored = await api.call("POST", "/v1/files", PNG, Content_Type="image/png")
        for file, code in ((stored.json["id"], "file_too_large"), ("nothing", "unknown_file")):
            job = await submit(api, payload={"text": "a", "image": {"file": file}})
            assert (await api.final(job)).name == "dead"
            assert (await job_of(api, job))["error"]["code"] == code
        assert not server.began


@MODES
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"output": "x" * 600_000}, "answer_too_large"),
        ({"metrics": {"loss": float("nan")}}, "answer_invalid"),
        ({"logs": "x" * 300_000}, "answer_too_large"),
    ],
)
async def test_what_cannot_be_kept_ends_the_attempt(
    api: Gateway, mode: str, fault: dict[str, Any], code: str
) -> None:
    async with CogServer("c1") as server, pushers(api):
        await register(api, server, options={"mode": mode})
        for name, value in fault.items():
            setattr(server, name, value)
        job = await submit(api, payload={"text": "a"}, **ONCE)
        assert (await api.final(job)).name == "dead"
        assert (await job_of(api, job))["error"]["code"] == code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"event: completed\ndata: {\n\n", "answer_invalid"),
        (b"event: completed\ndata: [1]\n\n", "answer_invalid"),
        (b'event: completed\ndata: {"id": "another", "status": "succeeded"}\n\n', "answer_invalid"),
        (b"event: error\ndata: {}\n\n", "answer_invalid"),
        (b"\xff\xfe\n\n", "answer_invalid"),
        (b"data: " + b"x" * 600_000, "answer_too_large"),
        (b": nothing\n" * 250_000, "answer_too_large"),
        (b"event: start\ndata: {}\n\n", "server_connection_closed"),
    ],
)
async def test_a_stream_that_is_none_ends_the_attempt(
    api: Gateway, raw: bytes, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 0.5)
    async with CogServer("c1") as server, pushers(api):
        await register(api, server, options={"mode": "stream"})
        server.raw_events, server.calls_back = raw, False
        job = await submit(api, payload={"text": "a"}, **ONCE)
        assert (await api.final(job)).name == "dead"
        assert (await job_of(api, job))["error"]["code"] == code


async def test_a_webhook_about_another_prediction_changes_nothing(api: Gateway) -> None:
    async with CogServer("c1") as server, pushers(api):
        await register(api, server)
        server.renamed = "another"
        job = await submit(api, payload={"text": "a"}, attempt_timeout_s=5.0, **ONCE)
        await when(lambda: server.heard and not server.running, "the server has called back")
        assert set(server.heard) == {422}
        assert (await job_of(api, job))["state"] == "running"
        assert (await api.final(job)).name == "dead"
        assert (await job_of(api, job))["error"]["code"] == "timeout"


async def test_a_model_that_streams_nothing_is_the_servers_fault(api: Gateway) -> None:
    async with CogServer("c1", streams=False) as server, CogServer("c2") as other, pushers(api):
        await register(api, server, options={"mode": "stream"})
        job = await submit(api, payload={"text": "a"}, **ONCE)
        await register(api, other, options={"mode": "stream"})
        assert (await api.final(job)).name == "succeeded"
        assert (await job_of(api, job))["failures"] == 0


@pytest.mark.parametrize("status", ["STARTING", "SETUP_FAILED", "DEFUNCT", "UNHEALTHY", "?"])
async def test_health_is_what_the_server_says(api: Gateway, status: str) -> None:
    async with CogServer("c1") as server, pushers(api):
        server.status = status
        await register(api, server)
        token = api.token("tenant-admin")

        async def recent() -> list[dict[str, Any]]:
            answer = await api.get("/v1/servers/c1", token=token)
            return list(answer.json["recent"])

        while not (checks := await recent()):
            pass
        assert checks[-1]["outcome"] == ("not_ready" if status == "STARTING" else "unwell")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"mode": "webhook"}, "options.mode"), ({"modes": "sync"}, "options.modes"),
        ({"input_bytes": -1}, "options.input_bytes"), ({"logs": 1}, "options.logs"),
    ],
)  # fmt: skip
async def test_options_that_are_none_are_named(api: Gateway, options: dict[str, Any], field: str) -> None:
    server = CogServer("c1", port=1)
    answer = await api.call(
        "PUT", "/v1/servers/c1", {**server.wish, "options": options}, token=api.token("tenant-admin")
    )
    assert (answer.status, answer.json["field"]) == (422, field)


async def test_lines_that_come_by_several_gateways_are_kept_once(api: Gateway) -> None:
    async with CogServer("c1") as server, pushers(api):
        await register(api, server)
        job_id = await submit(api, payload={"text": "a", "seconds": 60}, attempt_timeout_s=100.0)
        await when(lambda: server.running, "the server has it")
        store = EventStore(api.nc, api.publisher, api.settings)
        job = await store.load(JobId(job_id))
        assert job.lease is not None
        outcomes = Outcomes(api.nc, api.publisher, cast("Any", None), LogShare(1_000_000), api.settings)
        first, second = RepeatedLines(outcomes, 4), RepeatedLines(outcomes, 4)
        for book, count in ((first, 1), (second, 3), (first, 3), (second, 4), (first, 9), (first, 9)):
            await book.keep(job, job.lease.fence, tuple(f"line {n}" for n in range(count)))
        assert await lines_of(api, job_id) == [*(f"line {n}" for n in range(4)), "… 5 lines were left out"]


async def test_a_server_that_is_registered_otherwise_is_checked_again(api: Gateway) -> None:
    """What was found of it before is about another one, and keeps nobody from looking."""
    async with CogServer("c1") as server, pushers(api):
        for mode in ("async", "sync", "stream"):
            await register(api, server, options={"mode": mode})
            job = await submit(api, payload={"text": "a"})
            assert (await api.final(job)).name == "succeeded"
