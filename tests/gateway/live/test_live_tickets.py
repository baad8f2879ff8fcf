"""Tickets of live connections and addresses of files: what a browser opens without a token in a URL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from structlog.testing import capture_logs

from switchyard.services import clock
from switchyard.services.access.jwt import SECRET_FILE, load_or_create_secrets
from switchyard.services.access.revocations import revoke
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.keys.site import make
from tests.gateway.live.site import Reader
from tests.gateway.rest import Answer, Gateway, gateway

PAGE = {"Origin": "https://page.example"}


@pytest.fixture
async def two(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways with one secret, of one tenant."""
    (secret,) = load_or_create_secrets(tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0o700)
    (tmp_path / "b" / SECRET_FILE).write_text(secret)
    (tmp_path / "b" / SECRET_FILE).chmod(0o600)
    async with (
        gateway(shared_broker.url, tmp_path / "a", socket_ping_s=0.2) as one,
        gateway(shared_broker.url, tmp_path / "b", socket_ping_s=0.2) as other,
    ):
        other.tenant = one.tenant
        yield one, other


async def ticket(api: Gateway, token: str, **body: Any) -> str:
    answer = await api.call("POST", "/v1/tickets", body or None, token=token)
    assert answer.status == 200, answer
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json["ticket"])


@contextlib.asynccontextmanager
async def socket(api: Gateway, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    async with api.http.ws_connect(f"{api.url}/v1/ws{query}", headers={**PAGE, **headers}) as found:
        yield Reader(found)


async def closing(api: Gateway, query: str = "", **headers: str) -> tuple[int | None, str]:
    """How a page learns that it is not let in."""
    async with socket(api, query, **headers) as reader:
        refusal = await reader.receive()
        assert refusal["type"] == "error", refusal
        code, reason = await reader.closed()
        assert refusal["code"] == reason
        return code, reason


async def stream(api: Gateway, query: str) -> tuple[int, str]:
    """How a stream is answered that a page opens: status, and the first event's name or the code."""
    async with api.http.get(f"{api.url}/v1/events/stream{query}") as response:
        if response.status != 200:
            return response.status, str((await response.json())["code"])
        return 200, (await response.content.readline()).decode().strip()


async def fetched(api: Gateway, url: str) -> Answer:
    async with api.http.get(url) as response:
        return Answer(response.status, response.headers, await response.read())


async def test_a_ticket_opens_one_connection_at_any_gateway_and_ends_with_what_is_behind_it(
    two: tuple[Gateway, Gateway],
) -> None:
    one, other = two
    token, key = one.token("viewer"), await make(one, "viewer")
    for secret in (token, key.secret):
        text = await ticket(one, secret)
        assert secret not in text
        async with socket(other, f"?ticket={text}") as reader:
            await reader.until("hello")
            await reader.subscribe(all=True)
        assert await closing(one, f"?ticket={text}") == (4401, "ticket_used")
        assert await stream(other, f"?ticket={text}") == (401, "ticket_used")
        # It opens nothing else, and nothing else opens what it does.
        assert (await one.get("/v1/jobs", token=text)).status == 401
        assert await closing(one, f"?ticket={secret}") == (4401, "ticket_invalid")
        assert await stream(one, f"?ticket={await ticket(one, secret)}") == (200, "event: subscribed")
    left = [await ticket(one, secret) for secret in (token, key.secret)]
    async with socket(one, f"?ticket={left[0]}") as first, socket(other, f"?ticket={left[1]}") as second:
        await first.until("hello")
        await second.until("hello")
        kept = [await ticket(one, secret) for secret in (token, key.secret)]
        await one.call("DELETE", f"/v1/keys/{key.id}", token=one.token("admin"))
        token_id = jwt.decode(token, options={"verify_signature": False})["jti"]
        await revoke(one.publisher, token_id, expires_at=clock.time_s() + 60, by="test")
        assert await first.closed() == (4401, "token_revoked")
        assert await second.closed() == (4401, "token_invalid")
    assert await closing(one, f"?ticket={kept[0]}") == (4401, "token_revoked")
    assert await closing(one, f"?ticket={kept[1]}") == (4401, "token_invalid")


async def test_a_ticket_for_one_job_shows_that_job_alone(two: tuple[Gateway, Gateway]) -> None:
    one, other = two
    job, hidden = [await one.submit() for _ in range(2)]
    token = one.token("viewer")
    text = await ticket(one, token, job=job["id"])
    async with socket(other, f"?ticket={text}") as reader:
        await reader.until("hello")
        for wish in ({"all": True}, {"jobs": [hidden["id"]]}, {"jobs": [job["id"], hidden["id"]]}):
            await reader.send("subscribe", id="s", **wish)
            assert (await reader.until("error"))["code"] == "forbidden"
        await reader.send("watch", id="w", what="workers")
        assert (await reader.until("error"))["code"] == "forbidden"
        await reader.subscribe(jobs=[job["id"]])
    query = f"?ticket={await ticket(one, token, job=job['id'])}"
    assert await stream(other, query) == (200, "event: subscribed")
    query = f"?ticket={await ticket(one, token, job=job['id'])}"
    assert await stream(other, f"{query}&all=true") == (403, "forbidden")
    for job_id in (new_id(), "x"):
        assert (await one.call("POST", "/v1/tickets", {"job": job_id}, token=token)).status == 404
    stranger = one.token("viewer", tenant=one.stranger)
    assert (await one.call("POST", "/v1/tickets", {"job": job["id"]}, token=stranger)).status == 404


async def test_a_page_learns_by_a_close_code_why_it_is_not_let_in_and_a_program_by_a_status(
    two: tuple[Gateway, Gateway],
) -> None:
    one, _ = two
    slow = await make(one, "viewer", rate={"per_minute": 1, "burst": 1})
    assert (await one.get("/v1/jobs", token=slow.secret)).status == 200
    text = await ticket(one, one.token("viewer"))
    for query, headers, code, reason in (
        ("?ticket=x", {}, 4401, "ticket_invalid"),
        ("?ticket=" + text[:-2], {}, 4401, "ticket_invalid"),
        ("?ticket=" + "x.y" * 2000, {}, 4401, "ticket_invalid"),
        ("", {"Authorization": "Bearer x.y.z"}, 4401, "token_invalid"),
        ("", {"Authorization": f"Bearer {one.token('registrar')}"}, 4403, "forbidden"),
        ("", {"X-API-Key": slow.secret}, 4429, "rate_limited"),
        (f"?ticket={text}", {"X-API-Key": slow.secret}, 4400, "invalid_parameter"),
        (f"?ticket={text}&ticket={text}", {}, 4400, "invalid_parameter"),
        ("?token=x", {}, 4400, "unknown_parameter"),
    ):
        assert await closing(one, query, **headers) == (code, reason), query
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await one.http.ws_connect(f"{one.url}/v1/ws?ticket=x")
    assert error.value.status == 401
    with capture_logs() as logs:
        await stream(one, f"?ticket={text}")
        await stream(one, f"?ticket={text}")
    assert text.rpartition(".")[2] not in str(logs)


async def test_a_file_opens_by_its_address_until_that_ends(two: tuple[Gateway, Gateway]) -> None:
    one, other = two
    key = await make(one, "submitter", "viewer")
    file, hidden = [
        (await one.call("POST", f"/v1/files?name=a{n}.txt", b"hello", token=key.secret)).json["id"]
        for n in range(2)
    ]
    answer = await one.call("POST", f"/v1/files/{file}/url", {"expires_s": 60}, token=key.secret)
    assert (answer.status, answer.json["method"]) == (200, "GET")
    url = answer.json["url"].replace(one.url, other.url)
    assert key.secret not in url
    got = await fetched(other, url)
    assert (got.status, got.raw, got.headers["X-Content-Type-Options"]) == (200, b"hello", "nosniff")
    for wrong in (url.replace(file, hidden), url[:-3], f"{other.url}/v1/files/{file}?ticket=x"):
        assert (await fetched(other, wrong)).json["code"] == "address_invalid"
    async with other.http.delete(url) as response:
        assert response.status == 401
    stranger = one.token("viewer", tenant=one.stranger)
    assert (await one.call("POST", f"/v1/files/{file}/url", token=stranger)).status == 404
    await one.call("DELETE", f"/v1/keys/{key.id}", token=one.token("admin"))
    last = got.status
    while last == 200:  # another gateway learns of it within moments
        last = (await fetched(other, url)).status
    assert last == 401
    short = await one.call("POST", f"/v1/files/{file}/url", {"expires_s": 1}, token=one.token("viewer"))
    while (gone := await fetched(one, short.json["url"])).status == 200:
        pass
    assert gone.json["code"] == "address_expired"
