"""No body brings a route down, and what is refused is named."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from switchyard.services.access.jwt import load_or_create_secrets
from switchyard.services.gateway.every_door import doors
from tests.gateway.http.odd import HERE, ROUTES, VALUES, WHOLE, Route, Stage, nested, staged
from tests.gateway.live.site import Reader
from tests.gateway.rest import DEADLINE_S, Answer, Gateway

pytestmark = pytest.mark.shared_gateway

# Routes without a body, with bytes that are no JSON, or with lines of it.
OTHERS = {
    "/v1/servers/{id}/heartbeat", "/v1/jobs/{id}/again",
    "/v1/jobs/bulk", "/v1/files", "/v1/uploads", "/v1/uploads/{id}",
    "/v1/leases/{id}/artifacts", "/v1/leases/{id}/preview", "/v1/schedules/{id}/run",
    "/v1/schedules/{id}/pause", "/v1/batches/{id}/cancel",
    "/v1/schedules/{id}/resume", "/v1/workers/{id}/pause", "/v1/workers/{id}/resume",
    "/v1/workers/{id}/drain", "/v1/outcomes/{ticket}", "/v1/outcomes/{ticket}/artifacts",
    "/v1/callbacks/{ticket}",
    "/v1/lanes/{lane}/pause", "/v1/lanes/{lane}/resume", "/v1/kinds/{kind}/pause", "/v1/kinds/{kind}/resume",
    "/api/v1/orchestrators/scopes/{scope}/rotate-key",
    "/compat/replicate/v1/predictions/{id}/cancel", "/compat/replicate/v1/files",
    "/compat/runpod/v2/{endpoint_id}/cancel/{id}", "/compat/runpod/v2/{endpoint_id}/retry/{id}",
    "/compat/runpod/v2/{endpoint_id}/purge-queue",
    "/openai/v1/files", "/openai/v1/batches/{id}/cancel",
    "/mistral/v1/files", "/mistral/v1/batch/jobs/{id}/cancel",
    "/api/task/{id}/retry", "/api/servers/{id}/heartbeat",
    "/api/v1/tasks/{id}/release", "/api/v1/actions/{id}/execute",
    "/v1/batch/submit", "/v1/batch/cancel/{id}",
    "/v1/convert", "/api/documents/submit", "/api/documents/upload-complete/{id}",
    "/api/documents/{id}/file",
}  # fmt: skip


EXTREMES = (
    nested(60), b"18446744073709551615", b"-9223372036854775808", b"1e308", b"5e-324", rb'"\u0000"',
    rb'"\ud83d\ude00"', b'"' + b"x" * 100_000 + b'"', b'{"": {"a.b": [null]}}',
    b'"0001-01-01T00:00:00+10:00"', b'"9999-12-31T23:59:59-10:00"',
)  # fmt: skip
MAX_QUERY_BYTES = 4000
CURSORS = ("WzEsIngiXQ", "WyJ4IiwieCJd")  # [1,"x"] and ["x","x"] are some
JOBS = ("job", "dead", "review")
SHOWING = (
    "/v1/jobs", "/v1/dead-letters", "/v1/reviews", "/v1/schedules", "/v1/kinds", "/v1/limits", "/v1/workers",
    "/v1/queues", "/v1/controls",
    *(f"/v1/jobs/{{{job}}}{part}" for job in JOBS for part in ("", "/events", "/explain")),
    "/v1/jobs/{review}/result", "/v1/schedules/s", "/v1/kinds/noop", "/v1/limits/x", "/api/v1/tasks",
    "/api/v1/tasks/t", "/api/v1/messages", "/api/v1/projects", "/api/v1/drafts", "/api/v1/actions",
    "/api/v1/flows", "/api/v1/orchestrators",
)  # fmt: skip
LINES = (
    b"POST /v1/jobs", b"GET /v1/jobs", b"GET /v1/ws", b"GET /v1/events/stream", b"POST /v1/leases/x/renew",
    b"POST /v1/files?name=a",
)  # fmt: skip


@contextlib.asynccontextmanager
async def still_serving(api: Gateway) -> AsyncIterator[None]:
    """A live view is open meanwhile, and sees what comes after."""
    headers = {"Authorization": f"Bearer {api.token('viewer')}"}
    async with api.http.ws_connect(f"{api.url}/v1/ws", headers=headers) as socket:
        reader = Reader(socket)
        await reader.until("hello")
        await reader.subscribe(all=True, logs=True)
        yield
        job = await api.submit(payload={"after": "all"})
        while (await reader.until("event"))["event"]["job_id"] != job["id"]:
            pass
        assert (await api.get(f"/v1/jobs/{job['id']}")).status == 200
        assert (await api.get("/v1/jobs", Switchyard_Min_Seq=str(job["seq"]))).status == 200


def refused(answer: Answer, about: object) -> str | None:
    """The field that a refusal names."""
    assert 400 <= answer.status < 500, (about, answer)
    if answer.headers["Content-Type"] == "application/problem+json":
        assert answer.json["detail"], about
    else:
        assert answer.json.get("error") or answer.json["detail"] or answer.json["message"], about
    field: str | None = answer.json.get("field") or answer.json.get(
        "param"
    )  # Mistral's clients read the other
    if isinstance(error := answer.json.get("error"), dict):  # as OpenAI's clients read it
        field = error.get("param")
    details = answer.json.get("details") or ()
    if isinstance(details, str):  # as the document door says it
        field = field or details.partition(":")[0]
    else:  # as the task door says it
        for issue in details:
            field = field or ".".join(issue["path"])
    return field or None


@pytest.fixture
async def stage(api: Gateway) -> Stage:
    return await staged(api)


@pytest.mark.parametrize("name", VALUES)
async def test_an_odd_value_is_refused_by_name_at_every_door(name: str, stage: Stage) -> None:
    odd = VALUES[name]
    async with still_serving(stage.api):
        for route in ROUTES:
            answer = await stage.send(route, route.body.encode().replace(HERE, odd.value))
            field = refused(answer, route)
            if odd.named:
                assert field is not None, (route, answer)
                assert field.startswith(route.field), (route, answer)
            elif answer.status != 413 and field is None:  # else its type was wrong before its end was read
                said = answer.json if "code" in answer.json else answer.json["error"]
                status = 422 if route.path.startswith("/mistral/") else 400  # as that client reads it
                assert (answer.status, said["code"]) == (status, "malformed_json"), (route, answer)


@pytest.mark.parametrize("value", EXTREMES)
async def test_an_extreme_value_is_refused_or_shown_by_every_route(value: bytes, stage: Stage) -> None:
    api = stage.api
    async with still_serving(api):
        for route in ROUTES:
            if route.path.endswith(("/cancel", "/discard", "/accept", "/fail", "/release")):
                continue  # it would end what the others need
            if route.field == "wait_s":
                continue  # it would wait
            answer = await stage.send(route, route.body.encode().replace(HERE, value))
            assert answer.status < 500, (route, answer)
    stage.tokens["viewer"] = api.token("viewer", "admin")
    for path in SHOWING:
        who = "octopoid" if path.startswith("/api") else "viewer"
        answer = await stage.send(Route("GET", path, "", "", who), b"")
        assert answer.status in (200, 404, 409), (path, answer)
        assert answer.json is not None, path


@pytest.mark.parametrize("name", WHOLE)
async def test_a_body_that_is_no_object_is_refused(name: str, stage: Stage) -> None:
    async with still_serving(stage.api):
        for route in ROUTES:
            refused(await stage.send(route, WHOLE[name]), route)


async def test_a_line_of_many_is_refused_alone(api: Gateway) -> None:
    lines = [
        b'{"kind": "noop", "payload": {"x": %b}}' % odd.value.replace(b"\n", b"") for odd in VALUES.values()
    ]
    async with still_serving(api):
        answers = await api.bulk(*lines, {"kind": "noop"})
    for name, answer in zip(VALUES, answers, strict=False):
        assert 400 <= answer["status"] < 500, (name, answer)
        if VALUES[name].named:
            assert answer["error"]["field"].startswith("payload.x"), (name, answer)
    assert answers[-1]["status"] == 201


async def test_a_live_connection_survives_odd_messages(api: Gateway) -> None:
    headers = {"Authorization": f"Bearer {api.token('viewer')}"}
    for odd in VALUES.values():
        async with still_serving(api), api.http.ws_connect(f"{api.url}/v1/ws", headers=headers) as socket:
            reader = Reader(socket)
            await reader.until("hello")
            with contextlib.suppress(UnicodeDecodeError):
                body = b'{"type": "subscribe", "id": %b}' % odd.value
                await socket.send_str(body.decode())
                if len(body) < api.settings.socket_message_bytes:
                    error = await reader.until("error")
                    assert error["code"] in ("invalid", "nested_too_deeply", "malformed_json"), error


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", b"Bearer \xff"), ("Authorization", b"Bearer " + b"W" * 5000 + b".e30.e30"),
        ("Idempotency-Key", b"\xff"), ("traceparent", b"\xff\xed\xa0\x80"), ("Content-Type", b"a/\xff"),
        ("Switchyard-Min-Seq", b"\xff"), ("Last-Event-ID", b"\xff"), ("Switchyard-Lease-Token", b"\xff"),
    ],
)  # fmt: skip
async def test_a_header_that_is_no_text_brings_nothing_down(header: tuple[str, bytes], api: Gateway) -> None:
    name, value = header
    host = api.url.removeprefix("http://").partition(":")
    token = f"Authorization: Bearer {api.token('submitter', 'worker')}\r\n".encode()
    async with still_serving(api):
        for line in LINES:
            sent = line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
            sent += b"" if name == "Authorization" else token
            sent += name.encode() + b": " + value + b"\r\n\r\n{}"
            assert b" 5" not in await exchanged(host[0], int(host[2]), sent), (line, header)


async def exchanged(host: str, port: int, sent: bytes) -> bytes:
    """The first line that the gateway answers to bytes."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(sent)
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.readline()  # a stream of events has no end
    writer.close()
    return answer


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": math.inf}, {"exp": math.nan}, {"exp": 10**400}, {"exp": "x"}, {"nbf": math.inf},
        {"sub": "\ud800"}, {"tenant": "\ud800"}, {"jti": 10**30}, {"roles": [[]]},
        {"extra": json.loads(nested(300))},
    ],
)  # fmt: skip
async def test_odd_claims_of_a_token_are_refused_or_count_for_nothing(
    claims: dict[str, Any], api: Gateway
) -> None:
    secret = load_or_create_secrets(api.settings.data_dir)[0]
    said = {"sub": "ann", "tenant": api.tenant, "roles": ["viewer"], "jti": "t1", "exp": 2**31} | claims
    answer = await api.get("/v1/jobs", token=jwt.encode(said, secret))
    assert answer.status == (200 if "extra" in claims else 401), answer


async def test_an_odd_cursor_is_refused(api: Gateway) -> None:
    token = api.token("reviewer")
    async with still_serving(api):
        for body in [*(odd.value for odd in VALUES.values()), *WHOLE.values()]:
            if len(body) > MAX_QUERY_BYTES:
                continue  # no request line holds it
            coded = [
                base64.urlsafe_b64encode(said).decode().rstrip("=") for said in (body, b'[%b,"x"]' % body)
            ]
            for path in ("/v1/jobs", "/v1/dead-letters", "/v1/reviews", "/v1/files"):
                for cursor in [*coded, "%FF", "%ED%A0%80"]:
                    if cursor in CURSORS:
                        continue
                    answer = await api.get(f"{path}?cursor={cursor}", token=token)
                    assert (answer.status, answer.json.get("field")) == (400, "cursor"), (
                        path,
                        cursor,
                        answer,
                    )


def test_no_route_with_a_body_is_left_out() -> None:
    taking = {
        route.path for door in doors() for route in door.routes() if route.method in ("POST", "PUT", "PATCH")
    }
    known = [route.path.partition("?")[0].strip("/").split("/") for route in ROUTES]

    def covered(canonical: str) -> bool:
        parts = canonical.strip("/").split("/")
        return any(
            len(parts) == len(path)
            and all(one == other or one.startswith("{") for one, other in zip(parts, path, strict=True))
            for path in known
        )

    assert {path for path in taking if not covered(path)} == OTHERS


@pytest.mark.parametrize("evidence", [nested(63), nested(64), b'{"a":' * 63 + b"1" + b"}" * 63])
async def test_the_evidence_of_a_hook_leaves_the_hooks_readable(evidence: bytes, stage: Stage) -> None:
    hooks = rb'{"hooks": "[{\"name\": \"h\"}, {\"name\": \"i\"}]"}'
    assert (await stage.send(Route("PATCH", "/api/v1/tasks/t", "", "", "octopoid"), hooks)).status == 200
    done = Route("POST", "/api/v1/tasks/t/hooks/h/complete", "", "", "octopoid")
    answer = await stage.send(done, b'{"status": "passed", "evidence": %b}' % evidence)
    assert answer.status == 200 or refused(answer, evidence)
    other = done._replace(path=done.path.replace("/h/", "/i/"))
    assert (await stage.send(other, b'{"status": "passed"}')).status == 200


async def test_hooks_that_no_reader_could_read_are_no_hooks(stage: Stage) -> None:
    deep = b'{"hooks": "[{\\"name\\": \\"h\\", \\"x\\": %b}]"}' % nested(300)
    assert (await stage.send(Route("PATCH", "/api/v1/tasks/t", "", "", "octopoid"), deep)).status == 200
    done = Route("POST", "/api/v1/tasks/t/hooks/h/complete", "", "", "octopoid")
    assert (await stage.send(done, b'{"status": "passed"}')).status == 409
