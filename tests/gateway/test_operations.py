"""What an operator sees: health, metrics, workers, queues, starting and stopping."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from switchyard.events.errors import RejectedError, UnavailableError
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services.broker import topology
from switchyard.services.broker.connection import connect
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.app import running_app, serve
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.records.workers import new_record
from switchyard.services.settings import Settings
from switchyard.services.telemetry.listener import CannotListenError
from switchyard.services.worker.registration import Registration
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

ROOT = Path(__file__).parents[2]
HERE = 'part="gateway"'
API_PAGE = (ROOT / "docs/api.md").read_text()
ROW = re.compile(
    r"^\| `([A-Z, ]+)` \| `(/(?:api|compat|ws|openai|mistral|v1/batch|v1/convert)[^`]*)` \|", re.MULTILINE
)
"""A route in the table of a door's page."""
PAGES_OF_DOORS = [
    (ROOT / f"docs/{name}.md").read_text() for name in ("octopoid", "tasks", "compat", "emp-redis", "ilios")
]


async def test_ready_gateway_says_so(api: Gateway) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await api.get("/readyz")).status != 200:  # the broker has yet to say its time
            await asyncio.sleep(0.05)
    assert answer.json["ready"] is True
    assert {name for name, check in answer.json["checks"].items() if check["ok"]} == {
        "broker", "streams", "clock", "storage", "read_model", "live", "keeper",
    }  # fmt: skip
    assert (await api.get("/healthz")).json == {"status": "ok"}


async def test_gateway_without_its_broker_lives_but_is_not_ready(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, request_timeout_s=0.5) as api:
        await broker.kill()
        async with asyncio.timeout(DEADLINE_S):
            while (answer := await api.get("/readyz")).json["checks"]["broker"]["ok"]:
                pass
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (await api.get("/healthz")).status == 200
        metrics = await api.get("/metrics", token=api.token("operator"))
        assert metrics.status == 200
        await broker.start()
        async with asyncio.timeout(DEADLINE_S):
            while (await api.get("/readyz")).status != 200:
                pass


async def test_gateway_whose_read_model_lags_is_not_ready(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, projector=False, ready_lag_events=3) as api:
        await api.bulk(*({"kind": "noop"} for _ in range(20)))
        answer = await api.get("/readyz")
        assert answer.status == 503
        assert answer.json["checks"]["read_model"]["lag_events"] >= 10


async def test_metrics_count_what_happened(api: Gateway) -> None:
    job = await api.submit(kind=f"k-{api.tenant}")
    await api.bulk({"kind": "noop"}, {"kind": "noop", "delay_s": 60}, b"{")
    await api.get("/v1/nothing")
    await api.call("PROPFIND", "/v1/jobs")
    await api.get("/v1/jobs", Switchyard_Min_Seq=str(job["seq"] + 2))
    answer = await api.get("/metrics", token=api.token("operator"))
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    text = answer.raw.decode()
    for line in [
        f'switchyard_http_requests_total{{method="POST",{HERE},route="/v1/jobs",status="201"}} 1.0',
        f'switchyard_http_requests_total{{method="POST",{HERE},route="/v1/jobs/bulk",status="200"}} 1.0',
        f'switchyard_http_requests_total{{method="GET",{HERE},route="unmatched",status="404"}} 1.0',
        f'switchyard_http_requests_total{{method="other",{HERE},route="unmatched",status="405"}} 1.0',
        f"switchyard_submit_seconds_count{{{HERE}}} 1.0",
        f'switchyard_events_appended_total{{kind="k-{api.tenant}",{HERE},type="submitted"}} 1.0',
        f'switchyard_events_appended_total{{kind="noop",{HERE},type="submitted"}} 1.0',
        f'switchyard_events_appended_total{{kind="noop",{HERE},type="scheduled"}} 1.0',
        f'switchyard_tenant_events_total{{{HERE},tenant="{api.tenant}",type="submitted"}} 2.0',
        f'switchyard_appends_total{{command="Submit",outcome="recorded",{HERE}}} 3.0',
        f'switchyard_bulk_lines_total{{{HERE},status="201"}} 2.0',
        f'switchyard_bulk_lines_total{{{HERE},status="400"}} 1.0',
        f'switchyard_jobs{{kind="k-{api.tenant}",part="projector",state="queued"}} 1.0',
        f"switchyard_live_connections{{{HERE}}} 0.0",
    ]:
        assert line in text, text
    assert "switchyard_projection_lag_events" in text


async def test_metrics_are_open_where_the_settings_say_so(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, metrics_public=True) as api:
        async with api.http.get(api.url + "/metrics") as response:
            assert response.status == 200
        async with api.http.get(api.url + "/v1/workers") as response:
            assert response.status == 401


def before(worker: str) -> str:
    """A cursor after which a worker comes soon."""
    return worker[:-1]


async def test_workers_are_listed_while_they_live(api: Gateway) -> None:
    record = new_record(
        worker_id=WorkerId(f"w-{api.tenant}"), kinds=("noop",), capabilities={"gpu": 1}, slots=4, lease_s=30
    )
    held = {Fence(7): JobId("some-job")}
    worker = Registration(api.publisher, record, lambda: held, Reachability(api.settings.lease_s))
    await worker.beat()

    async def found() -> list[dict[str, object]]:
        path = f"/v1/workers?capabilities=true&cursor={before(record.id)}"
        workers = (await api.get(path)).json["workers"]
        return [worker for worker in workers if worker["id"] == record.id]

    async with asyncio.timeout(DEADLINE_S):
        while not (listed := await found()):
            pass
    assert (listed[0]["kinds"], listed[0]["slots"], listed[0]["running"]) == (["noop"], 4, 1)
    assert (listed[0]["capabilities"], listed[0]["succeeded"]) == ({"gpu": 1}, 0)
    assert "some-job" not in str(listed)
    await worker.leave()
    async with asyncio.timeout(DEADLINE_S):
        while await found():
            pass


async def test_queues_show_what_waits_and_runs(api: Gateway) -> None:
    first = await api.submit(priority=90)
    await api.submit(priority=90)
    await api.submit(priority=10)
    leased = await api.lease(first["id"])
    answer = await api.get("/v1/queues", Switchyard_Min_Seq=str(leased.seq))
    shown = [(queue["priority"], queue["waiting"], queue["running"]) for queue in answer.json["queues"]]
    assert shown == [(90, 1, 1), (10, 1, 0)]
    stranger = await api.get("/v1/queues", token=api.token(tenant=api.stranger))
    assert stranger.json["queues"] == []


async def test_unknown_route_and_method_are_problems(api: Gateway) -> None:
    unknown = await api.get("/v1/nothing")
    assert (unknown.status, unknown.json["code"]) == (404, "no_such_route")
    method = await api.call("DELETE", "/v1/jobs")
    assert (method.status, method.json["code"]) == (405, "method_not_allowed")
    assert method.headers["Allow"] == "GET,HEAD,POST"
    assert unknown.json["detail"] == "there is no such route"
    assert method.json["detail"] == "DELETE is not allowed here; allowed: GET, HEAD, POST"
    for answer in (unknown, method):
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_unforeseen_error_is_answered_without_its_details() -> None:
    problem = problem_of(ValueError("the password is 1234"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "1234" not in problem.detail
    assert (
        problem_of(UnavailableError("x", retry_after_s=0.1)).answer(None, "r").headers["Retry-After"] == "1"
    )


async def test_taken_port_is_reported_in_a_sentence(api: Gateway, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])
    settings = Settings(data_dir=tmp_path, port=port)
    with pytest.raises(CannotListenError, match=f"cannot listen on 127.0.0.1:{port}: .* --port"):
        await serve(settings, api.nc, ready=lambda _: None)


async def test_request_in_progress_ends_before_the_gateway_does(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    nc = await connect(shared_broker.url, name="gateway")
    await topology.apply(nc)
    async with gateway(shared_broker.url, tmp_path) as api:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(api.settings, nc, ready=ready.set_result))
        api.url = await ready
        job = await api.submit()
        waiting = asyncio.create_task(api.get(f"/v1/jobs/{job['id']}?wait=10"))
        async with asyncio.timeout(DEADLINE_S):
            while (
                'route="/v1/jobs/{id}"'
                not in (await api.get("/metrics", token=api.token("operator"))).raw.decode()
            ):
                await api.get(f"/v1/jobs/{job['id']}")
        serving.cancel()
        await api.complete(await api.lease(job["id"]), "done")
        assert (await waiting).json["state"] == "succeeded"
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([serving])
    await nc.close()


async def test_every_route_is_described(api: Gateway) -> None:
    described = set(re.findall(r"^### `([A-Z]+) (/[^`?]*)`", API_PAGE, re.MULTILINE))
    for page in PAGES_OF_DOORS:
        for methods, path in re.findall(
            r"^\| `([A-Z, ]+)` \| `(/(?:api|compat|ws|openai|mistral|v1/batch|v1/convert)[^`]*)` \|",
            page,
            re.MULTILINE,
        ):
            described |= {(method, path) for method in methods.split(", ")}
    async with running_app(api.settings, api.nc) as app:
        routed = {
            (route.method, route.resource.canonical)
            for route in app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    assert described == routed
    assert ("POST", "/v1/jobs") in routed


def test_every_problem_code_is_described() -> None:
    rooms = ("access", "broker", "dispatch", "files", "gateway", "intake", "records")
    folders = [ROOT / "events", *(ROOT / "services" / room for room in rooms)]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    sources = [
        path for path in sources if not {"octopoid", "tasks", "entries", "emp", "ilios"} & {*path.parts}
    ]
    assert len(sources) > 100
    codes = {code for path in sources for code in re.findall(r'\bcode="([a-z_]+)"', path.read_text())}
    codes |= {error.code for error in _all(RejectedError)}
    described = set(re.findall(r"`([a-z_]+)`", API_PAGE + (ROOT / "docs/live.md").read_text()))
    assert codes <= described, codes - described
    assert "idempotency_conflict" in codes


def _all(error: type[RejectedError]) -> list[type[RejectedError]]:
    return [error, *(found for kind in error.__subclasses__() for found in _all(kind))]
