"""What an attempt over REST shows, and the last of it, which whoever may read its tenant's jobs reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.errors import NotFoundError
from switchyard.events import subjects
from switchyard.events.encoding.preview import PREVIEW_BYTES
from switchyard.events.errors import UnavailableError
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.leases.test_leases import Worker, submit, worker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.images import EACH, padded, png

pytestmark = pytest.mark.shared_gateway

__all__ = ["worker"]
PNG = "image/png"


async def show(worker: Worker, claimed: Answer, data: Any, media_type: str = PNG, **headers: str) -> Answer:
    lease = claimed.json["lease"]
    said = {"Switchyard_Lease_Token": lease["token"], "Content_Type": media_type, **headers}
    return await worker.api.call(
        "POST", f"/v1/leases/{lease['id']}/preview", data, token=worker.token, **said
    )


async def test_what_an_attempt_shows_is_read_with_its_type_and_tag(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    path = f"/v1/jobs/{job_id}/preview"
    assert (await api.get(path)).json["code"] == "no_preview"
    claimed = await worker.claim()
    assert (await api.get(path)).json["code"] == "no_preview"
    tags = set()
    for media_type, data in EACH.items():
        shown = await show(worker, claimed, data, media_type)
        assert (shown.status, shown.json["cancel_requested"]) == (200, False), shown
        answer = await api.get(path)
        assert (answer.status, answer.raw) == (200, data)
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"].startswith("private")
        known = await api.get(path, If_None_Match=answer.headers["ETag"])
        assert (known.status, known.raw) == (304, b"")
        head = await api.call("HEAD", path)
        assert (head.status, head.raw, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])
        tags.add(answer.headers["ETag"])
    assert len(tags) == len(EACH)


REFUSED = {
    "a page": (b"<script>", "text/html", {}, 415, "unsupported_media_type", "Content-Type"),
    "a drawing with code": (b"<svg/>", "image/svg+xml", {}, 415, "unsupported_media_type", "Content-Type"),
    "no type": (png(), "", {}, 415, "unsupported_media_type", "Content-Type"),
    "a type with parameters": (png(), "image/png; x=y", {}, 415, "unsupported_media_type", "Content-Type"),
    "a long type": (png(), "image/" + "p" * 4000, {}, 415, "unsupported_media_type", "Content-Type"),
    "packed": (png(), PNG, {"Content_Encoding": "gzip"}, 415, "unsupported_media_type", "Content-Encoding"),
    "a page as an image": (b"<script>", PNG, {}, 422, "invalid_preview", "body"),
    "another image": (EACH["image/jpeg"], PNG, {}, 422, "invalid_preview", "body"),
    "nothing": (b"", PNG, {}, 422, "invalid_preview", "body"),
    "cut off": (png()[:20], PNG, {}, 422, "invalid_preview", "body"),
    "a huge image": (png(60_000, 60_000), PNG, {}, 422, "invalid_preview", "body"),
    "too large": (padded(PREVIEW_BYTES + 1), PNG, {}, 413, "preview_too_large", None),
    "far too large": (bytes(10_000_000), PNG, {}, 413, "preview_too_large", None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "media_type", "headers", "status", "code", "field"), REFUSED.values(), ids=REFUSED
)
async def test_what_is_no_preview_is_refused_with_its_field(
    api: Gateway, worker: Worker, data: bytes, media_type: str, headers: dict[str, str],
    status: int, code: str, field: str | None,
) -> None:  # fmt: skip
    job_id = await submit(api)
    claimed = await worker.claim()
    refused = await show(worker, claimed, data, media_type, **headers)
    assert (refused.status, refused.json["code"], refused.json.get("field")) == (status, code, field)
    assert (await api.get(f"/v1/jobs/{job_id}/preview")).json["code"] == "no_preview"
    assert (await worker.say(claimed, "succeed", {})).status == 200


async def test_a_body_that_does_not_say_its_size_is_cut_off(api: Gateway, worker: Worker) -> None:
    await submit(api)
    claimed = await worker.claim()
    lease = claimed.json["lease"]
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            yield bytes(65_536)
            sent += 65_536

    headers = {
        "Authorization": f"Bearer {worker.token}", "Switchyard-Lease-Token": lease["token"],
        "Content-Type": PNG,
    }  # fmt: skip
    url = f"{api.url}/v1/leases/{lease['id']}/preview"
    async with api.http.post(url, data=endless(), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "preview_too_large")
    assert sent < 64_000_000


async def test_a_lease_that_shows_too_much_is_slowed_down_and_no_other(api: Gateway, worker: Worker) -> None:
    for _ in range(2):
        await submit(api)
    first, second = await worker.claim(), await worker.claim()
    answers = await asyncio.gather(*(show(worker, first, padded(1000, mark)) for mark in range(200)))
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {200, 429}
    assert len(refused) > 100
    assert {answer.json["code"] for answer in refused} == {"previews_too_fast"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert (await show(worker, second, png())).status == 200
    assert (await worker.say(first, "succeed", {})).status == 200


async def test_an_attempt_that_has_ended_shows_nothing(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    first = await worker.claim()
    assert (await show(worker, first, padded(200, 1))).status == 200
    assert (await worker.say(first, "release", {})).status == 200
    assert (await show(worker, first, padded(200, 2))).status == 409
    again = await worker.claim(wait_s=10)
    assert again.json["job"]["id"] == job_id
    path = f"/v1/jobs/{job_id}/preview"
    assert (await api.get(path)).json["code"] == "no_preview"
    late = await show(worker, first, padded(200, 3))
    assert (late.status, late.json["code"]) == (409, "lease_lost")
    assert (await show(worker, again, padded(200, 4))).status == 200
    assert (await api.get(path)).raw == padded(200, 4)
    assert (await worker.say(again, "succeed", {})).status == 200
    assert (await api.get(path)).json["code"] == "no_preview"


async def test_a_stranger_neither_shows_nor_sees_anything(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    await show(worker, claimed, png())
    path = f"/v1/jobs/{job_id}/preview"
    seen = await api.get(path, token=api.token("viewer", tenant=api.stranger))
    assert (seen.status, seen.json["code"]) == (404, "not_found")
    lease = claimed.json["lease"]
    stranger = api.token("worker", tenant=api.stranger)
    for token in ("", "x", lease["token"]):
        answer = await api.call(
            "POST", f"/v1/leases/{lease['id']}/preview", padded(200, 9), token=stranger,
            Content_Type=PNG, Switchyard_Lease_Token=token,
        )  # fmt: skip
        assert answer.status in (403, 404)
    assert (await api.get(path)).raw == png()


async def test_no_preview_is_in_the_event_log(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    await show(worker, await worker.claim(), png())
    names = [event["type"] for event in (await api.get(f"/v1/jobs/{job_id}/events")).json["events"]]
    assert names == ["submitted", "claimed"]


async def test_a_stream_that_the_broker_has_lost_is_made_again(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path) as api:
        worker = Worker(api, kinds=[api.tenant])
        job_id = await submit(api)
        claimed = await worker.claim()
        await broker_api(api.nc, f"STREAM.DELETE.{subjects.PREVIEWS}", timeout_s=20)
        assert (await show(worker, claimed, padded(200, 1))).status == 200  # who watches sees it
        path = f"/v1/jobs/{job_id}/preview"
        assert (await api.get(path)).json["code"] == "no_preview"
        assert (await show(worker, claimed, padded(200, 2))).status == 200
        assert (await api.get(path)).raw == padded(200, 2)


async def test_a_broker_that_restarts_without_its_memory_gets_the_stream_again(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        await broker.kill()
        await broker.start()
        async with asyncio.timeout(DEADLINE_S):  # though nobody asks for a preview
            while not await _is_there(api):
                await asyncio.sleep(0.05)
        assert await topology.diff(api.nc) == []


async def _is_there(api: Gateway) -> bool:
    try:
        return "error" not in await broker_api(api.nc, f"STREAM.INFO.{subjects.PREVIEWS}", timeout_s=20)
    except UnavailableError:
        return False


async def test_the_client_reads_the_last_preview(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    async with AsyncClient(api.url, api.token()) as client:
        assert await client.preview(job_id) is None
        await show(worker, await worker.claim(), EACH["image/webp"], "image/webp")
        assert await client.preview(job_id) == (EACH["image/webp"], "image/webp")
        with pytest.raises(NotFoundError):
            await client.preview("01a206cb-14b3-7f30-904f-7f2a9444f80b")


async def test_what_is_shown_over_rest_is_counted(api: Gateway, worker: Worker) -> None:
    await submit(api)
    claimed = await worker.claim()
    for data in (png(), b"x", bytes(300_000)):
        await show(worker, claimed, data)
    text = (await api.get("/metrics", token=api.token("admin"))).raw.decode()
    assert 'switchyard_previews_total{outcome="sent"' in text
    assert 'switchyard_previews_total{outcome="unreadable"' in text
