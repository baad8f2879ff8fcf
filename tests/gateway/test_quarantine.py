"""What an operator does with the messages that nobody could read."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import Seq
from switchyard.services.broker import quarantine_index
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import Stored
from switchyard.services.broker.server.server import NatsServer
from tests.gateway.rest import DEADLINE_S, Gateway, gateway


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with a broker of its own: what is set aside has no tenant that would keep tests apart."""
    async with gateway(broker.url, tmp_path) as running:
        yield running


async def aside(api: Gateway, seq: int, stream: str = "JOBS", **headers: str) -> None:
    message = Stored(
        f"job.x.hello{seq}", {k.replace("_", "-"): v for k, v in headers.items()}, b"{", Seq(seq), 0
    )
    assert await set_aside(api.nc, stream, message, f"reason {seq}")


async def listed(api: Gateway, query: str = "", *, token: str | None = None) -> list[tuple[str, int]]:
    """All pages."""
    found: list[tuple[str, int]] = []
    cursor = ""
    while cursor is not None:
        path = f"/v1/quarantine?{query}" + (f"&cursor={cursor}" if cursor else "")
        answer = await api.get(path, token=token or api.token("admin"))
        assert answer.status == 200, answer
        found += [(each["stream"], each["seq"]) for each in answer.json["quarantine"]]
        cursor = answer.json["cursor"]
    return found


async def strange(api: Gateway, body: bytes = b"hello", **headers: str) -> tuple[str, int]:
    """A job that a stranger has published into, and the sequence of what it published."""
    job = await api.submit()
    subject = f"job.{job['id']}.hello"
    seq = await api.publisher.publish(subject, body, headers)
    path = f"/v1/quarantine/JOBS/{seq}"
    async with asyncio.timeout(DEADLINE_S):
        while (await api.get(path, token=api.token("admin"))).status != 200:
            pass
    return job["id"], seq


async def test_references_are_listed_newest_first_page_by_page(api: Gateway) -> None:
    for seq in range(1, 8):
        await aside(api, seq)
    await aside(api, 3, "KV_lanes")
    wanted = [("KV_lanes", 3), *(("JOBS", seq) for seq in range(7, 0, -1))]
    assert await listed(api) == wanted
    assert await listed(api, "limit=3") == wanted
    assert await listed(api, "stream=KV_lanes") == [("KV_lanes", 3)]
    assert await listed(api, "stream=WORK") == []
    first = (await api.get("/v1/quarantine?limit=1", token=api.token("admin"))).json["quarantine"][0]
    assert first | {"at": ""} == {
        "stream": "KV_lanes", "seq": 3, "subject": "job.x.hello3", "reason": "reason 3", "size_bytes": 1,
        "tenant": "", "kind": "", "job_id": None, "at": "",
    }  # fmt: skip


async def test_references_are_found_across_gaps_and_windows(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_index, "WINDOW", 2)
    monkeypatch.setattr(quarantine_index, "WINDOWS", 2)
    for seq in range(1, 21):
        await aside(api, seq, "JOBS" if seq in (1, 2, 19, 20) else "WORK")
    assert await listed(api, "stream=JOBS&limit=3") == [("JOBS", seq) for seq in (20, 19, 2, 1)]
    await api.call("DELETE", "/v1/quarantine?stream=WORK", token=api.token("admin"))
    assert await listed(api) == [("JOBS", seq) for seq in (20, 19, 2, 1)]


async def test_a_viewer_sees_the_references_of_its_tenant_alone(api: Gateway) -> None:
    await aside(api, 1, Switchyard_Tenant=api.tenant, Switchyard_Kind="noop")
    await aside(api, 2, Switchyard_Tenant=api.stranger)
    await aside(api, 3)
    viewer = api.token("viewer")
    assert await listed(api, token=viewer) == [("JOBS", 1)]
    assert await listed(api, f"tenant={api.tenant}", token=viewer) == [("JOBS", 1)]
    assert await listed(api, f"tenant={api.stranger}") == [("JOBS", 2)]
    assert await listed(api, "tenant=*") == [("JOBS", 3), ("JOBS", 2), ("JOBS", 1)]
    for query in (f"tenant={api.stranger}", "tenant=*"):
        assert (await api.get(f"/v1/quarantine?{query}", token=viewer)).status == 403


@pytest.mark.parametrize("role", ["viewer", "submitter", "worker", "reviewer"])
async def test_only_an_admin_reads_a_message_or_forgets_one(api: Gateway, role: str) -> None:
    _, seq = await strange(api)
    for method, path in (
        ("GET", f"/v1/quarantine/JOBS/{seq}"),
        ("DELETE", f"/v1/quarantine/JOBS/{seq}"),
        ("DELETE", "/v1/quarantine"),
    ):
        answer = await api.call(method, path, token=api.token(role))
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), path
    assert len(await listed(api)) == 1


async def test_a_message_is_shown_as_it_stands(api: Gateway) -> None:
    job_id, seq = await strange(api, "h\u00e9llo".encode(), Odd="a value")
    shown = (await api.get(f"/v1/quarantine/JOBS/{seq}", token=api.token("admin"))).json
    assert (shown["stream"], shown["seq"], shown["job_id"]) == ("JOBS", seq, job_id)
    assert "hello" in shown["reason"]
    message = shown["message"]
    assert message["subject"] == f"job.{job_id}.hello"
    assert message["headers"]["Odd"] == "a value"
    assert base64.b64decode(message["body"]) == "h\u00e9llo".encode()
    assert (message["text"], message["size_bytes"], message["truncated"]) == ("h\u00e9llo", 6, False)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff\xfe\x00", None),
        (b"", ""),
        (b"x" * 70_000, "x" * 65_536),
        (b"x" * 65_535 + "\u00e9".encode(), "x" * 65_535),  # the cut parts a character
    ],
)  # fmt: skip
async def test_a_body_is_text_where_it_is_and_cut_where_it_is_long(
    api: Gateway, body: bytes, text: str | None
) -> None:
    _, seq = await strange(api, body)
    message = (await api.get(f"/v1/quarantine/JOBS/{seq}", token=api.token("admin"))).json["message"]
    assert base64.b64decode(message["body"]) == body[:65_536]
    assert (message["text"], message["size_bytes"]) == (text, len(body))
    assert message["truncated"] is (len(body) > 65_536)


async def test_what_is_not_there_is_not_found(api: Gateway) -> None:
    await aside(api, 900)  # nothing stands there
    await aside(api, 1, "NO_STREAM")
    for place in (
        "JOBS/900", "NO_STREAM/1", "JOBS/901", "JOBS/0", "JOBS/-1", "JOBS/x", "JOBS/%D9%A5", "a.b/1", "*/1",
        f"JOBS/{'9' * 30}", "%3E/1", f"{'S' * 100}/1",
    ):  # fmt: skip
        answer = await api.get(f"/v1/quarantine/{place}", token=api.token("admin"))
        assert (answer.status, answer.json["code"]) == (404, "not_found"), place
    for place in ("JOBS/901", "*/900", "JOBS/*", "%3E/1"):
        answer = await api.call("DELETE", f"/v1/quarantine/{place}", token=api.token("admin"))
        assert answer.status == 404, place
    for query in ("stream=*", "stream=a.b", "stream=", "cursor=x", "cursor=0", "limit=0", "state=dead"):
        answer = await api.get(f"/v1/quarantine?{query}", token=api.token("admin"))
        assert (answer.status, answer.json["field"]) == (400, query.partition("=")[0])


async def test_a_forgotten_reference_goes_and_its_message_stays(api: Gateway) -> None:
    _, seq = await strange(api)
    path = f"/v1/quarantine/JOBS/{seq}"
    assert (await api.call("DELETE", path, token=api.token("admin"))).status == 204
    assert (await api.call("DELETE", path, token=api.token("admin"))).status == 404
    assert (await api.get(path, token=api.token("admin"))).status == 404
    found = await quarantine_index.message_at(api.nc, "JOBS", seq, timeout_s=20)
    assert found is not None
    assert found.data == b"hello"


async def test_references_are_forgotten_by_stream_or_all_at_once(api: Gateway) -> None:
    for seq in range(1, 4):
        await aside(api, seq)
        await aside(api, seq, "WORK")
    admin = api.token("admin")
    assert (await api.call("DELETE", "/v1/quarantine?stream=WORK", token=admin)).json == {"forgotten": 3}
    assert await listed(api) == [("JOBS", seq) for seq in (3, 2, 1)]
    await api.publisher.publish("quarantine.of.no.form", b"", {})
    assert (await api.call("DELETE", "/v1/quarantine", token=admin)).json == {"forgotten": 4}
    assert await listed(api) == []


async def test_references_that_a_stranger_wrote_break_no_list(api: Gateway) -> None:
    great = b'{"stream":"X","seq":1,"subject":"s","reason":"r","at":"2026-01-01T00:00:00","size_bytes":'
    odd = b'{"stream":"JOBS","seq":1,"subject":"\\ud800","reason":"\\u001b[2J","size_bytes":-1,"tenant":"."'
    bodies = [
        b"", b"{", b"[" * 10_000, great + b"9" * 40 + b"}", b'{"stream":"JOBS","seq":"x"}',
        odd + b',"at":"9999-12-31T23:59:59-23:00"}',
    ]  # fmt: skip
    for seq, body in enumerate(bodies, start=1):
        await api.publisher.publish(subjects.quarantined("JOBS", seq), body, {})
    for subject in ("quarantine.x", "quarantine.JOBS.x", "quarantine.JOBS.\u0665", "quarantine.JOBS.07",
                    "quarantine.J$.1", "quarantine.a.b.c"):  # fmt: skip
        await api.publisher.publish(subject, b"{}", {})
    assert await listed(api) == [("JOBS", seq) for seq in range(len(bodies), 0, -1)]
    answer: Any = await api.get("/v1/quarantine", token=api.token("admin"))
    assert {each["tenant"] for each in answer.json["quarantine"]} == {""}


async def test_messages_set_aside_are_counted_by_stream(api: Gateway) -> None:
    assert await quarantine_index.counts(api.nc, timeout_s=20) == {}
    for seq in range(1, 6):
        await aside(api, seq)
    await aside(api, 1, "KV_lanes")
    for name in ("NOT_OURS", "NEITHER"):
        await aside(api, 1, name)
    await api.publisher.publish("quarantine.of.no.form", b"", {})
    assert await quarantine_index.counts(api.nc, timeout_s=20) == {"JOBS": 5, "KV_lanes": 1, "other": 3}
    text = (await api.get("/metrics", token=api.token("operator"))).raw.decode()
    for stream, count in {"JOBS": 5, "KV_lanes": 1, "other": 3}.items():
        assert f'switchyard_quarantined_messages{{part="projector",stream="{stream}"}} {count}.0' in text
    await api.call("DELETE", "/v1/quarantine", token=api.token("admin"))
    async with asyncio.timeout(DEADLINE_S):
        while (
            b'switchyard_quarantined_messages{part="projector",stream="JOBS"}'
            in (await api.get("/metrics", token=api.token("operator"))).raw
        ):
            await asyncio.sleep(0.02)


async def test_damaged_jobs_are_counted_as_such(api: Gateway) -> None:
    job_id, seq = await strange(api)
    page = await api.get("/v1/jobs?state=damaged", Switchyard_Min_Seq=str(seq))
    assert [job["id"] for job in page.json["jobs"]] == [job_id]
    text = (await api.get("/metrics", token=api.token("operator"))).raw.decode()
    assert 'switchyard_jobs{kind="noop",part="projector",state="damaged"} 1.0' in text
    assert 'switchyard_damaged_jobs{part="gateway"} 1.0' in text
