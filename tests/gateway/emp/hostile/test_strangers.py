"""What others may not see: jobs of another tenant, and tokens that stand in a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import structlog
from aiohttp import WSServerHandshakeError

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import TOKEN, door, line
from tests.gateway.rest import Gateway

SECRET: Final = "do-not-show-me-0123456789"
PATHS: Final = (
    "/api/jobs", "/api/jobs/", "/api/jobs/none", "/api/jobs/none/progress", "/api/jobs//none", "/api//jobs",
    "/api/nothing", "/ws/client/one", "/ws/worker/one", "/ws/monitor/one", "/ws/compat", "/ws/test",
    "/ws/nothing", "/ws/", "/ws", "/v1/jobs", "/v1/jobs/none", "/nothing", "/", "/healthz", "/docs",
    "/api/v1/tasks", "/metrics",
)  # fmt: skip


async def test_a_job_of_another_tenant_is_as_one_that_is_not_there(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await peer.ask("submit_job", "job_accepted", job_type="odd", payload={}, message_id="mine")
    ours = {"Authorization": f"Bearer {api.token()}"}
    theirs = {"Authorization": f"Bearer {api.token(tenant=api.stranger)}"}
    async with api.http.get(f"{api.url}/api/jobs/mine", headers=ours) as answer:
        assert answer.status == 200
    await api.caught_up()
    ((job_id, *_),) = [(each["id"],) for each in (await api.get("/v1/jobs")).json["jobs"]]
    for path in ("/api/jobs/{}", "/api/jobs/{}/progress"):
        for id_ in ("mine", job_id):
            said = []
            for name in (id_, "0" * len(id_) if id_ == "mine" else "01940000-0000-7000-8000-000000000001"):
                async with api.http.get(api.url + path.format(name), headers=theirs) as answer:
                    body = await answer.json()
                    body.pop("timestamp")
                    said.append((answer.status, str(body).replace(name, "ID"), sorted(answer.headers)))
            assert said[0] == said[1]
            assert said[0][0] == 404
    async with api.http.get(f"{api.url}/api/jobs", headers=theirs) as answer:
        assert (await answer.json())["jobs"] == []
    async with api.http.post(
        f"{api.url}/api/jobs", headers=theirs, json={"job_type": "odd", "payload": {"n": 2}, "job_id": "mine"}
    ) as answer:  # the same id is free there
        assert answer.status in (200, 201), await answer.text()
    async with line(api, "/ws/client/x", token=api.token(tenant=api.stranger)) as peer:
        for type_ in ("request_job_status", "subscribe_job", "cancel_job", "force_retry_job"):
            refused = await peer.ask(type_, "response_job_status", job_id=job_id)
            absent = await peer.ask(type_, "x", job_id="01940000-0000-7000-8000-000000000001")
            assert refused["type"] == absent["type"] == "error"
            assert refused["details"]["code"] == absent["details"]["code"] == "not_found"


@pytest.mark.parametrize("token", [SECRET, TOKEN])
async def test_a_token_in_a_url_is_shown_nowhere(
    shared_broker: SharedBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str], token: str
) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with door(shared_broker, tmp_path, emp_token=token) as api:
            for path in PATHS:
                for method in ("GET", "POST", "PUT", "OPTIONS", "HEAD"):
                    async with api.http.request(
                        method, f"{api.url}{path}?token={SECRET}&x={SECRET}", data=b"{",
                        headers={"Origin": "http://odd.example", "Access-Control-Request-Method": "GET"},
                        allow_redirects=False,
                    ) as answer:  # fmt: skip
                        shown = str(answer.headers)
                        if answer.content_type != "text/event-stream":
                            shown += await answer.text()
                        assert SECRET not in shown, (method, path)
                if not path.startswith("/ws"):
                    continue
                refused: BaseException | None = None
                try:
                    async with api.http.ws_connect(f"{api.url}{path}", params={"token": SECRET}) as socket:
                        await socket.send_str('{"type": "what"')
                        frame = await socket.receive()
                        assert SECRET not in str(frame.data), path
                except WSServerHandshakeError as error:
                    refused = error
                if isinstance(refused, WSServerHandshakeError):
                    assert SECRET not in f"{refused.message}{refused.headers}"
            metrics = await api.get("/metrics", token=api.token("admin"))
            assert metrics.status == 200
            assert SECRET not in metrics.raw.decode()
    assert SECRET not in str(lines)
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err
