"""Requests that no honest client sends: each is refused by name or answered, and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from switchyard.services.gateway.doors.v1.live.websocket import BURST
from switchyard.services.gateway.http import callers
from switchyard.services.gateway.http.connections import Connections
from switchyard.services.gateway.http.query import SINGLE
from switchyard.services.settings import Settings
from tests.gateway.rest import DEADLINE_S, Gateway

pytestmark = pytest.mark.shared_gateway

JOB = b'{"kind":"noop"}'
NDJSON = "application/x-ndjson"


class Raw(NamedTuple):
    """An answer as it came."""

    status: int
    type: str
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.type == "application/problem+json", self
        found: dict[str, Any] = orjson.loads(self.body)
        assert found["status"] == self.status
        return found


async def sent(api: Gateway, data: bytes) -> Raw:
    """What the gateway answers to bytes; it closes the connection after that."""
    host, _, port = api.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(DEADLINE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            length = 0 if data.startswith(b"HEAD") else int(fields.get("content-length", "0"))
            body = await reader.readexactly(length)
    finally:
        writer.transport.abort()
    return Raw(int(lines[0].split()[1]), fields.get("content-type", ""), body)


async def ask(
    api: Gateway,
    method: str,
    path: str,
    headers: str = "",
    body: bytes | None = None,
    content_type: str = "application/json",
) -> Raw:
    """A request of these very bytes; headers end with a line break each."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if "Authorization" not in headers:
        head += f"Authorization: Bearer {api.token('submitter', 'worker', 'admin')}\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
        head += f"Content-Type: {content_type}\r\n" if content_type else ""
    return await sent(api, (head + headers + "\r\n").encode() + (body or b""))


async def test_a_compressed_body_is_refused_and_not_unpacked(api: Gateway) -> None:
    bodies = JOB, gzip.compress(JOB), gzip.compress(bytes(10_000_000))
    for path in (
        "/v1/jobs", "/v1/jobs/bulk", "/v1/files", "/v1/leases", "/v1/schedules", "/v1/dead-letters/redrive",
        "/api/v1/orchestrators/register",
    ):  # fmt: skip
        kind = NDJSON if path.endswith("bulk") else "application/json"
        for encoding in ("gzip", "deflate", "br", "zstd", "bogus", "gzip, gzip"):
            for body in bodies:
                answer = await ask(api, "POST", path, f"Content-Encoding: {encoding}\r\n", body, kind)
                assert answer.status == 415, (encoding, answer)
                assert b"Content-Encoding" in answer.body
    assert (await ask(api, "POST", "/v1/jobs", "Content-Encoding: identity\r\n", JOB)).status == 201


async def test_a_content_type_that_is_none_is_refused(api: Gateway) -> None:
    for path in ("/v1/jobs", "/v1/jobs/bulk"):
        for odd in ("text/json;" * 700, "a/b" + "(" * 7000, "a/b" + "(" * 250, 'a/b; x="' * 900, "json", ""):
            problem = (await ask(api, "POST", path, f"Content-Type: {odd}\r\n", JOB, "")).problem
            assert (problem["status"], problem["field"]) == (415, "Content-Type")
    for fine in ("application/json", "APPLICATION/JSON ; charset=utf-8", "a/b+json;x=y", ""):
        headers = f"Content-Type: {fine}\r\n" if fine else ""
        assert (await ask(api, "POST", "/v1/jobs", headers, JOB, "")).status == 201
    for odd in ("a/b" + "(" * 7000, 'a/b; x="' * 900):
        problem = (await ask(api, "POST", "/v1/files", f"Content-Type: {odd}\r\n", b"x", "")).problem
        assert (problem["status"], problem["field"]) == (422, "type")


def test_reading_a_content_type_is_left_to_nobody_else() -> None:
    for path in (Path(callers.__file__).parent).rglob("*.py"):
        assert "request.content_type" not in path.read_text(), path


async def test_a_header_that_stands_twice_is_refused(api: Gateway) -> None:
    for header in SINGLE:
        twice = f"{header}: a/b\r\n{header.lower()}: c/d\r\n"
        problem = (await ask(api, "POST", "/v1/jobs", twice, JOB, "")).problem
        if header == "Content-Type":  # the parser itself takes only one
            assert problem["code"] == "bad_request"
        else:
            assert (problem["code"], problem["field"]) == ("malformed", header)


async def test_a_query_that_is_not_utf8_is_refused(api: Gateway) -> None:
    for query, field in (
        ("label=a:%FF", "label"), ("label=%ED%A0%80", "label"), ("label=a%3Ab&kind=%C0%AF", "kind"),
        ("%FF=1", "%FF"), ("cursor=%80", "cursor"),
    ):  # fmt: skip
        problem = (await ask(api, "GET", f"/v1/jobs?{query}")).problem
        assert (problem["status"], problem["code"], problem["field"]) == (400, "invalid_parameter", field)
    assert (await ask(api, "GET", "/v1/jobs?label=a:%C3%A9")).status == 200


ODD_NUMBERS = (
    "-1", "NaN", "inf", "1e400", "%D9%A1", "%C2%B2", "1_0", "", "0x1", "1e1", "%201", "+1", "1%00",
    "9" * 19 + ".",
)  # fmt: skip


async def test_an_odd_number_is_refused(api: Gateway) -> None:
    job = (await api.submit())["id"]
    for method, path, name in (
        ("GET", "/v1/jobs", "limit"), ("GET", f"/v1/jobs/{job}", "wait"), ("GET", f"/v1/jobs/{job}", "at"),
        ("GET", f"/v1/jobs/{job}/events", "after"), ("POST", "/v1/files", "ttl_s"),
        ("POST", "/v1/jobs", "wait"),
    ):  # fmt: skip
        for number in ODD_NUMBERS:
            body = JOB if method == "POST" else None
            problem = (await ask(api, method, f"{path}?{name}={number}", body=body)).problem
            assert (problem["status"], problem["field"]) == (400, name), (path, problem)


async def test_a_file_is_not_named_like_a_directory_or_a_path(api: Gateway) -> None:
    for name in (".", "..", "a%00b", "a%0Ab", "a/b", "a" * 256):
        problem = (await ask(api, "POST", f"/v1/files?name={name}", body=b"x", content_type="a/b")).problem
        assert (problem["status"], problem["field"]) == (400, "name")


async def test_a_live_stream_has_no_head(api: Gateway) -> None:
    for path in ("/v1/events/stream", "/v1/ws"):
        answer = await ask(api, "HEAD", path)
        assert (answer.status, answer.type) == (405, "application/problem+json")


async def test_what_nobody_can_expect_is_answered_as_every_error(api: Gateway) -> None:
    for path in ("/v1/jobs", "/v1/files", "/v1/leases", "/api/v1/tasks"):
        problem = (await ask(api, "POST", path, "Expect: 200-ok\r\n", JOB)).problem
        assert (problem["status"], problem["code"]) == (417, "expectation_failed")


HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"


NO_HTTP = (
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/3.0\r\n\r\n", b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", HEAD + b"X: " + b"a" * 10_000 + b"\r\n\r\n",
        HEAD + b"X: a\x00b\r\n\r\n", HEAD + b"X : a\r\n\r\n", HEAD + b": a\r\n\r\n",
        HEAD + b"X: a\r\n b\r\n\r\n",
        HEAD + b"X: y\r\n" * 1000 + b"\r\n", HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: \xd9\xa1\r\n\r\n", HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n", HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
)  # fmt: skip


async def test_what_is_no_http_is_answered_as_every_error(api: Gateway) -> None:
    for data in NO_HTTP:
        problem = (await sent(api, data)).problem
        assert (problem["status"], problem["code"]) == (400, "bad_request"), data
        assert problem["detail"]
        assert "\n" not in problem["detail"]
    assert (await api.get("/healthz")).status == 200


def test_the_last_line_of_a_proxy_names_the_address() -> None:
    guard = Connections(Settings(trusted_proxies=(ip_network("127.0.0.0/8"),)), 10_000)
    for lines, wanted in (
        (["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1", "127.0.0.9"], "192.0.2.1"),
        (["6.6.6.6"], "6.6.6.6"),
        ([], "127.0.0.1"),
    ):
        headers = CIMultiDict([("X-Forwarded-For", line) for line in lines])
        request = make_mocked_request("GET", "/", headers=headers).clone(remote="127.0.0.1")
        assert guard.address_of(request) == wanted


# --- WebSocket


async def test_a_flood_of_pings_is_ended(api: Gateway) -> None:
    headers = {"Authorization": f"Bearer {api.token()}"}
    async with api.http.ws_connect(f"{api.url}/v1/ws", headers=headers, autoping=False) as socket:
        assert (await socket.receive_json())["type"] == "hello"
        with contextlib.suppress(aiohttp.ClientConnectionResetError):  # the end may come while they are sent
            for _ in range(api.settings.socket_messages_per_s * BURST * 2):  # few enough to read the end
                await socket.ping(b"x")
        async with asyncio.timeout(DEADLINE_S * 5):
            while (frame := await socket.receive()).type is aiohttp.WSMsgType.PONG:
                pass
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, 4400)


async def test_whoever_reads_nothing_and_floods_is_cut_off(api: Gateway) -> None:
    headers = {"Authorization": f"Bearer {api.token()}"}
    async with api.http.ws_connect(f"{api.url}/v1/ws", headers=headers) as socket:

        async def flood() -> None:
            while True:
                await socket.send_str("{")

        async with asyncio.timeout(DEADLINE_S * 5):
            with pytest.raises((ConnectionError, aiohttp.ClientConnectionError)):
                await flood()


async def test_a_stranger_has_few_pings(api: Gateway) -> None:
    async with api.http.ws_connect(f"{api.url}/v1/ws", autoping=False) as socket:
        for _ in range(20):
            await socket.ping(b"x")
        async with asyncio.timeout(DEADLINE_S * 5):
            while (frame := await socket.receive()).type is aiohttp.WSMsgType.PONG:
                pass
            assert "the first message must be" in frame.data
            assert (await socket.receive()).data == 4401


async def test_a_few_pings_before_the_token_are_answered(api: Gateway) -> None:
    async with api.http.ws_connect(f"{api.url}/v1/ws", autoping=False) as socket:
        for _ in range(3):
            await socket.ping(b"x")
            assert (await socket.receive()).type is aiohttp.WSMsgType.PONG
        await socket.send_json({"type": "auth", "token": api.token()})
        assert (await socket.receive_json())["type"] == "hello"
