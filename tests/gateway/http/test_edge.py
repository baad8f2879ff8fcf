"""What every answer has: an id, guards for browsers, no banner; and what pages of other origins learn."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pydantic
import pytest
import structlog

from switchyard.services.gateway.http.edge.guards import GUARDS
from switchyard.services.settings import Settings
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

APP = "https://app.example.com"
ASKS = {"Origin": APP, "Access-Control-Request-Method": "PUT"}
MADE = re.compile(r"[0-9a-f]{24}")


@pytest.fixture
async def open_api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that pages of one origin may call."""
    async with gateway(
        shared_broker.url, tmp_path, cors_origins=f"{APP},http://localhost:5173", request_log=True
    ) as running:
        yield running


async def plain(api: Gateway, method: str, path: str, headers: Any = None) -> Answer:
    """A request with no header but those given."""
    async with asyncio.timeout(DEADLINE_S), api.http.request(
        method, api.url + path, headers=headers
    ) as answer:  # fmt: skip
        return Answer(answer.status, answer.headers, await answer.read())


async def said(api: Gateway, request: bytes) -> bytes:
    """What comes back for bytes on a connection of their own, until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(request)
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    writer.close()
    return answer


# --- Every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200), ("HEAD", "/healthz", 200), ("GET", "/v1/jobs", 200),
        ("GET", "/v1/jobs?x=1", 400), ("GET", "/v1/jobs/x", 404), ("GET", "/nowhere", 404),
        ("DELETE", "/v1/jobs", 405), ("OPTIONS", "/v1/jobs", 405), ("GET", "/docs", 200),
        ("GET", "/v1/events/stream?x=1", 400), ("GET", "/api/v1/tasks", 401), ("GET", "/api/health", 200),
    ],
)  # fmt: skip
async def test_every_answer_is_guarded_and_has_an_id_and_no_banner(
    api: Gateway, method: str, path: str, status: int
) -> None:
    answer = await api.call(method, path)
    assert answer.status == status, answer
    for name, value in GUARDS:
        wanted = value if path != "/docs" or name != "Content-Security-Policy" else answer.headers[name]
        assert answer.headers.getall(name) == [wanted]
    assert MADE.fullmatch(answer.headers["X-Request-Id"])
    assert "Server" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + b"a" * 10_240 + b"\r\n\r\n",
        b"POST /v1/jobs HTTP/1.0\r\nHost: x\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["nonsense", "nul", "folded", "long", "expect"],
)
async def test_what_the_server_itself_refuses_is_no_different(api: Gateway, request_: bytes) -> None:
    head = (await said(api, request_)).partition(b"\r\n\r\n")[0].decode()
    assert re.match(r"HTTP/1\.[01] 4", head)
    assert "\r\nServer:" not in head
    assert "aiohttp" not in head.lower()
    assert head.count("X-Request-ID:") + head.count("X-Request-Id:") == 1
    for name, value in GUARDS:
        assert f"{name}: {value}" in head


@pytest.mark.parametrize("given", ["r1", "a" * 128, "01a2-{}/\"'<b>;:=", "~!"])
async def test_an_id_that_is_well_formed_comes_back(api: Gateway, given: str) -> None:
    answer = await api.get("/v1/jobs/x", X_Request_Id=given)
    assert answer.headers.getall("X-Request-Id") == [given]
    assert answer.json["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a" * 129, "a" * 8000, "a b", "a\tb", "naïve"])
async def test_an_id_that_is_not_is_replaced(api: Gateway, given: str) -> None:
    answer = await api.get("/v1/jobs/x", X_Request_Id=given)
    assert MADE.fullmatch(answer.headers["X-Request-Id"])
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


async def test_two_ids_are_none(api: Gateway) -> None:
    headers = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
    answer = await plain(api, "GET", "/healthz", headers)
    assert MADE.fullmatch(answer.headers["X-Request-Id"])


async def test_an_id_is_in_the_log_lines_of_its_request_and_no_other(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("broken")

    monkeypatch.setattr("switchyard.services.gateway.doors.v1.about.who", broken)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = await api.get("/v1/whoami", X_Request_Id="mine")
        again = await api.get("/v1/whoami")
    found = [line["request_id"] for line in lines if line["event"] == "request_failed"]
    assert (answer.status, found) == (500, ["mine", again.headers["X-Request-Id"]])
    assert all("request_id" not in line for line in lines if line["event"] != "request_failed")


async def test_every_request_is_logged_without_what_it_says(open_api: Gateway) -> None:
    api, theirs = open_api, f"{open_api.tenant}-x"
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        await api.get("/v1/jobs?label=word:secret", X_Request_Id="mine", traceparent=trace)
        await api.get("/v1/jobs/secret")
        await api.get(f"/v1/jobs?tenant={theirs}", token=api.token("admin"))
        await plain(api, "GET", "/v1/jobs?token=secret")
        await plain(api, "POST", "/secret")
        await plain(api, "GET", "/healthz")
    found = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"], line.get("tenant"), line["log_level"]) for line in found] == [
        ("/v1/jobs", 200, api.tenant, "info"),
        ("/v1/jobs/{id}", 404, api.tenant, "info"),
        ("/v1/jobs", 200, theirs, "info"),
        ("/v1/jobs", 401, None, "info"),
        ("unmatched", 401, None, "info"),
        ("/healthz", 200, None, "debug"),
    ]
    assert (found[0]["request_id"], found[0]["trace"], found[0]["method"]) == ("mine", trace, "GET")
    assert (found[2]["home"], found[4]["method"], "home" in found[0]) == (api.tenant, "POST", False)
    assert all(line["ms"] >= 0 for line in found)
    assert "secret" not in str(found)


@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("path", ["/v1/jobs", "/openai/v1/chat/completions", "/mistral/v1/ocr"])
async def test_a_client_that_goes_away_within_its_body_is_no_error(
    api: Gateway, caplog: pytest.LogCaptureFixture, path: str, *, is_reset: bool
) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token('submitter')}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    )
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        writer.write(head.encode())
        async with asyncio.timeout(DEADLINE_S):
            assert b"100 Continue" in await reader.readline()  # now the body is waited for
            writer.write(b'{"kind":')
            if is_reset:
                option = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            writer.close()
            while not any(line["event"] == "request_broken_off" for line in lines):
                await asyncio.sleep(0.02)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    assert {line["log_level"] for line in lines} <= {"debug", "info"}
    assert (await api.get("/v1/whoami")).status == 200


async def test_handshakes_have_an_id(api: Gateway) -> None:
    headers = {"Authorization": f"Bearer {api.token('viewer')}", "X-Request-Id": "live-1"}
    async with api.http.ws_connect(f"{api.url}/v1/ws", headers=headers) as socket:
        shaken = socket._response.headers
        assert (shaken["X-Request-Id"], "Server" in shaken) == ("live-1", False)
    async with api.http.get(f"{api.url}/v1/events/stream", headers=headers) as stream:
        assert (stream.headers["X-Request-Id"], "Server" in stream.headers) == ("live-1", False)
        assert "Content-Encoding" not in stream.headers


# --- Pages of other origins


async def test_by_default_no_page_may_read_anything(api: Gateway) -> None:
    preflight = await plain(api, "OPTIONS", "/v1/jobs", ASKS)
    assert preflight.status == 401
    answer = await api.get("/v1/jobs", Origin=APP)
    for headers in (preflight.headers, answer.headers):
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert "Origin" not in headers.getall("Vary", [])


async def test_a_preflight_is_answered_without_a_token_and_reaches_no_route(open_api: Gateway) -> None:
    for path in ("/v1/jobs", "/v1/limits/x", "/nowhere", "/api/v1/tasks"):
        answer = await plain(open_api, "OPTIONS", path, ASKS)
        assert (answer.status, answer.raw) == (204, b"")
        headers = answer.headers
        assert headers["Access-Control-Allow-Origin"] == APP
        assert {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} <= {
            *headers["Access-Control-Allow-Methods"].split(", ")
        }
        allowed = headers["Access-Control-Allow-Headers"].split(", ")
        assert {"Authorization", "Content-Type", "Idempotency-Key", "Switchyard-Min-Seq"} <= {*allowed}
        assert "Access-Control-Allow-Credentials" not in headers
        assert headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com", "null", "*", "https://APP.example.com", "https://app.example.com/",
        "https://app.example.com:443", "http://app.example.com", "https://app.example.com.evil.com",
        "https://xapp.example.com", "", f"{APP},{APP}",
    ],
)  # fmt: skip
async def test_an_origin_that_is_not_exactly_one_of_them_may_read_nothing(
    open_api: Gateway, origin: str
) -> None:
    preflight = await plain(open_api, "OPTIONS", "/v1/jobs", ASKS | {"Origin": origin})
    answer = await open_api.get("/v1/jobs", Origin=origin)
    assert (preflight.status, answer.status) == (401, 200)
    for headers in (preflight.headers, answer.headers):
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert "Origin" in headers.getall("Vary")


async def test_two_origins_are_none(open_api: Gateway) -> None:
    answer = await plain(open_api, "GET", "/healthz", [("Origin", APP), ("Origin", "http://localhost:5173")])
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_page_may_read_answers_and_refusals(open_api: Gateway) -> None:
    for path, status in (("/v1/jobs", 200), ("/v1/jobs/x", 404), ("/nowhere", 404)):
        answer = await open_api.get(path, Origin="http://localhost:5173")
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Switchyard-Seq", "ETag", "Location", "X-Request-Id", "Retry-After"} <= {*exposed}
        assert "Origin" in answer.headers.getall("Vary")


async def test_a_plain_options_is_no_preflight(open_api: Gateway) -> None:
    answer = await open_api.call("OPTIONS", "/v1/jobs", Origin=APP)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD,POST")
    assert (await plain(open_api, "OPTIONS", "/v1/jobs", {"Origin": APP})).status == 401


async def test_a_socket_of_a_page_is_for_the_origins_of_the_settings_and_our_own(
    open_api: Gateway,
) -> None:
    token = {"Authorization": f"Bearer {open_api.token('viewer')}"}
    for origin in (APP, open_api.url):
        async with open_api.http.ws_connect(f"{open_api.url}/v1/ws", headers=token | {"Origin": origin}):
            pass
    async with open_api.http.ws_connect(f"{open_api.url}/v1/ws", headers=token):
        pass
    for origin in ("https://evil.example.com", "null", "", "file://", f"{open_api.url}/"):
        headers = token | {"Origin": origin}
        async with open_api.http.ws_connect(f"{open_api.url}/v1/ws", headers=headers) as refused:
            assert (await refused.receive_json())["code"] == "origin_not_allowed", origin
            assert (await refused.receive()).type is aiohttp.WSMsgType.CLOSE, origin
            assert refused.close_code == 4403, origin


async def test_without_the_setting_only_the_token_counts_for_a_socket(api: Gateway) -> None:
    headers = {"Authorization": f"Bearer {api.token('viewer')}", "Origin": "https://evil.example.com"}
    async with api.http.ws_connect(f"{api.url}/v1/ws", headers=headers):
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        "*", "null", "app.example.com", "https://app.example.com/", "https://App.example.com", "https://",
        "https://*.example.com", "https://a.example.com:443", "http://a:80", "http://a:0", "http://a:65536",
        "https://u@a.example.com", "https://a.example.com/x", "https://a.example.com\n", "http://a b",
        "https://naïve.example.com",
    ],
)  # fmt: skip
def test_a_setting_that_no_browser_sends_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        Settings(data_dir=tmp_path, cors_origins=(APP, wrong))


def test_origins_are_separated_by_commas(tmp_path: Path) -> None:
    given: Any = f"{APP}, http://[::1]:8080 ,"
    assert Settings(data_dir=tmp_path, cors_origins=given).cors_origins == (APP, "http://[::1]:8080")
    nothing: Any = ""
    assert Settings(data_dir=tmp_path, cors_origins=nothing).cors_origins == ()
