"""Jobs for the page to show: a worker by hand, and names and texts of somebody who means harm."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from switchyard.events.commands import Complete, Fail, Submit, TakeLease
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey, lane_id
from switchyard.events.ledger.line import Line, amounts_of
from switchyard.events.values import JobError, JobSpec
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services.ids import new_id
from switchyard.services.ledger.book import Book
from tests.gateway.rest import Gateway

HOSTILE: Final = "<img src=x onerror=\"document.title='harmed'\">"
MARKDOWN: Final = f"""# Report

A **bold** [link](https://example.com/x), [another](javascript:document.title='harmed')
and ![far](https://example.com/far.png).

{HOSTILE}
<script>document.title = 'harmed'</script>
<a href="https://example.com" onclick="document.title='harmed'" style="position:fixed">cover</a>
<form action="https://example.com"><input name="x"><button>Go</button></form>
<iframe src="https://example.com"></iframe>

| a | b |
|---|---|
| 1 | 2 |
"""


class Hand:
    """An attempt that the test runs over REST.

    Args:
        api: the gateway.
        lease: as it was claimed.
        job: what it is an attempt of.
    """

    def __init__(self, api: Gateway, lease: dict[str, Any], job: dict[str, Any]) -> None:
        self.api = api
        self.job: str = job["id"]
        self._id: str = lease["id"]
        self._token: str = lease["token"]

    @classmethod
    async def claim(cls, api: Gateway, kind: str) -> Hand:
        """Claim the next job of a kind."""
        ask = {"worker": "hand", "kinds": [kind], "wait_s": 20}
        answer = await api.call("POST", "/v1/leases", ask, token=api.token("worker"))
        assert answer.status == 201, answer
        return cls(api, answer.json["lease"], answer.json["job"])

    async def call(self, what: str, body: Any, **headers: str) -> Any:
        """One of the lease's routes."""
        answer = await self.api.call(
            "POST", f"/v1/leases/{self._id}/{what}", body,
            token=self.api.token("worker"), Switchyard_Lease_Token=self._token, **headers,
        )  # fmt: skip
        assert answer.status < 300, answer
        return answer.json if answer.raw else None

    async def leave(self, name: str, media: str, body: bytes) -> str:
        """Store an artifact; its name."""
        await self.call(f"artifacts?name={name}", body, Content_Type=media)
        return name


async def lived(api: Gateway, kind: str, at: datetime, wait_s: float, run_s: float, *, dies: bool) -> Job:
    """The whole life of a job, some time ago."""
    key = LaneKey(kind, {}, {})
    spec = JobSpec(kind=kind, tenant=api.tenant, lane=lane_id(key))
    await api.lanes.ensure(key, spec.lane, spec.priority)
    begun, ended = at + timedelta(seconds=wait_s), at + timedelta(seconds=wait_s + run_s)
    job, _ = await api.store.transition(Job(id=new_id()), Submit(now=at, job=spec), actor="user:ann")
    take = TakeLease(now=begun, worker=WorkerId("gpu-1"), revision=Revision(1))
    job, _ = await api.store.transition(job, take, actor="worker:gpu-1")
    assert job.lease is not None
    end: Fail | Complete = Complete(now=ended, fence=job.lease.fence, result={})
    if dies:
        error = JobError("no_model", "the model is not there", retryable=False)
        end = Fail(now=ended, fence=job.lease.fence, error=error)
    job, _ = await api.store.transition(job, end, actor="worker:gpu-1")
    return job


async def one_of_each(api: Gateway) -> list[str]:
    """Something with a long name for each page of what is set, made by the clock or judged; their views."""
    long, admin = "n" * 120, api.token("admin")

    async def make(method: str, path: str, body: Any) -> Any:
        answer = await api.call(method, path, body, token=admin)
        assert answer.status in (200, 201), answer
        return answer.json

    answer = await api.call(
        "POST", "/v1/files?name=in.jsonl", b'{"kind": "batched"}\n', Content_Type="application/jsonl"
    )
    batch = await make("POST", "/v1/batches", {"input": answer.json["id"], "name": long})
    schedule = {"name": "nightly", "cron": "30 2 * * *", "job": {"kind": "noop", "payload": {"text": long}}}
    await make("POST", "/v1/schedules", schedule)
    await make("PUT", "/v1/limits/database", {"concurrency": 3, "per_minute": 100})
    await make("POST", "/v1/keys", {"name": long, "roles": ["submitter"], "kinds": ["convert", "render"]})
    job = await api.submit(kind="judged", limits=["database"])
    texts = "\n".join(f"line {number}" for number in range(30)), "w" * 500
    for attempt, text in enumerate(texts):
        hand = await Hand.claim(api, "judged")
        await hand.call("propose", {"result": {"text": text}, "checks": {long[:60]: False, "lint": True}})
        if not attempt:
            await make(
                "POST", f"/v1/reviews/{job['id']}/reject", {"reason": long, "feedback": {"add": [long]}}
            )
    return [
        "batches", f"batches/{batch['id']}", "schedules", "schedules/nightly", "limits", "limits/database",
        "reviews", f"reviews/{job['id']}", "usage", "keys", "quarantine",
    ]  # fmt: skip


async def used(api: Gateway, number: int, kind: str, *, days: int = 0, **usage: float) -> None:
    """A line of the ledger of the tenant, some days old."""
    units, refused = amounts_of(usage, 1.0)
    now = datetime.now(UTC) - timedelta(days=days)
    line = Line(
        id=f"{api.tenant}-{number}", seq=number, job=f"j-{number}", attempt=1, fence=number,
        tenant=api.tenant, kind=kind, worker="w", engine="w", started_at=now, ended_at=now, at=now,
        outcome="succeeded", units=units, refused=refused,
    )  # fmt: skip
    await Book(api.nc, api.publisher, timeout_s=20).write([line])


def png(width: int, height: int) -> bytes:
    """A picture with a gradient."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (x * 255 // width, y * 255 // height, 160))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
