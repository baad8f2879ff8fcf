"""Calls every route of the API with a real gateway until each has answered all that it can succeed with."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import orjson

from switchyard.events import subjects
from switchyard.events.commands import Unblock
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.connection import connect
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.gateway.monitor.serving import static
from switchyard.services.keeper.loop import Keeper
from switchyard.services.records.servers.condition import (
    Check,
    Outcome,
    Rhythm,
    ServerState,
    after_check,
    first,
)
from switchyard.services.worker.worker import Worker
from tests.gateway.rest import Answer, Gateway, now
from tests.images import png
from tests.worker.site import TestConnector

DEADLINE_S: Final = 120.0
KIND: Final = "shout"
NATS_KIND: Final = "count"
KNOWN: Final = {"If-None-Match": "*"}
KEYED: Final = {"Idempotency-Key": "once"}
SETTINGS: Final[dict[str, Any]] = {
    "lease_s": 10.0, "tenant_jobs": 60, "tenant_log_lines_bytes": 5000,
}  # fmt: skip
"""With which every field is to be seen within a moment."""


class Said(NamedTuple):
    """One answer of a route.

    Args:
        route: as the router spells it.
        value: that of its body, where that is JSON.
        headers: the names of ours, and of what the protocol defines.
    """

    route: str
    status: int
    value: Any
    headers: frozenset[str]


class Caller:
    """Calls routes by their own names, and keeps what they answered."""

    def __init__(self, api: Gateway) -> None:
        self.api = api
        self.said: list[Said] = []
        roles = ("submitter", "worker", "reviewer", "admin")
        self.admin = api.token(*roles)
        self.other = api.token("reviewer")

    async def call(
        self,
        route: str,
        body: Any = None,
        *,
        query: str = "",
        token: str = "",
        headers: dict[str, str] | None = None,
        **names: Any,
    ) -> Answer:
        """Call a route; what stands in braces in its path is filled by `names`."""
        method, _, path = route.partition(" ")
        sent = {"Authorization": f"Bearer {token or self.admin}", **(headers or {})}
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = self.api.url + path.format(**names) + (f"?{query}" if query else "")
        async with asyncio.timeout(DEADLINE_S):
            async with self.api.http.request(
                method, url, data=data and io.BytesIO(data), headers=sent, allow_redirects=False
            ) as response:
                answer = Answer(response.status, response.headers, await response.read())
        value = None
        media = response.headers.get("Content-Type", "")
        if "bulk" in route and "json" in media:
            value = [orjson.loads(line) for line in answer.raw.splitlines()]
        elif "json" in media and "jsonl" not in media:
            value = answer.json
        self.said.append(Said(route, answer.status, value, frozenset(answer.headers)))
        return answer

    async def job(self, **fields: Any) -> str:
        """Submit a job; its id."""
        found: str = (await self.call("POST /v1/jobs", {"kind": KIND, **fields})).json["id"]
        return found

    async def claim(self, *, worker: str = "shell", **fields: Any) -> dict[str, Any]:
        """A lease, for a job that is there."""
        body = {"worker": worker, "kinds": [KIND], "wait_s": 5, "slots": 4, **fields}
        answer = await self.call("POST /v1/leases", body)
        assert answer.status == 201, answer
        claimed: dict[str, Any] = answer.json
        return claimed

    async def hold(self, verb: str, claimed: dict[str, Any], body: Any = None, **options: Any) -> Answer:
        """Say something as the holder of a lease."""
        lease = claimed["lease"]
        headers = {"Switchyard-Lease-Token": lease["token"]} | options.pop("headers", {})
        route = f"POST /v1/leases/{{id}}/{verb}"
        return await self.call(route, body, headers=headers, id=lease["id"], **options)

    async def until(self, route: str, wanted: Any, **options: Any) -> Any:
        """The first answer that is as wanted: the read model, or a worker, is a moment behind."""
        async with asyncio.timeout(DEADLINE_S):
            while not wanted(found := (await self.call(route, **options)).json):
                await asyncio.sleep(0.02)
        return found


async def everything(api: Gateway) -> list[Said]:
    """What all routes answered."""
    caller = Caller(api)
    for part in (
        _jobs,
        _leases,
        _reviews,
        _dead_letters,
        _settings,
        _prices,
        _files,
        _uploads,
        _keys,
        _servers,
        _workflows,
        _erasures,
        _models,
        _workers,
        _quarantine,
    ):
        await part(caller)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(
            Keeper(api.nc, api.settings, ReadModel(path_in(api.settings.data_dir))).run()
        )
        await _schedules(caller)
        await _batches(caller)
        await _used(caller)
        await _refusals(caller)
        keeping.cancel()
    await _readiness(caller)
    return caller.said


async def _jobs(caller: Caller) -> None:
    key = {"Idempotency-Key": "k1"}
    for _ in range(2):
        await caller.call("POST /v1/jobs", {"kind": KIND, "labels": {"a": "b"}}, headers=key)
    lines = [{"kind": KIND, "idempotency_key": "k1", "labels": {"a": "b"}}, {"kind": "never"}, {"kind": 1}]
    many = {"Content-Type": "application/x-ndjson"}
    await caller.call("POST /v1/jobs/bulk", b"\n".join(map(orjson.dumps, lines)), headers=many)
    rules = {
        "ageing": {"every_s": 60},
        "review": {"auto_accept": {"checks": ["lint"]}},
        "labels": {"batch": "b1"},
    }
    first = await caller.job(kind="never", **rules)
    blocked = await caller.job(kind="never", depends_on=[first])
    await caller.until("GET /v1/jobs", lambda found: len(found["jobs"]) > 3, query="limit=500")
    await caller.call("GET /v1/jobs", query="limit=1")
    await caller.call("GET /v1/job-ids", query="state=queued")
    await caller.call("GET /v1/job-ids", query=f"prefix={first[:13]}&limit=3")
    await caller.call("GET /v1/jobs", headers=KNOWN)
    await caller.call("GET /v1/jobs", query="fields=full&sort=-updated_at&state=waiting")
    for job in (first, blocked):
        await caller.call("GET /v1/jobs/{id}/explain", id=job)
    await caller.call("GET /v1/jobs/{id}", id=blocked)
    await caller.call("GET /v1/jobs/{id}", id=first)
    theirs = "tenant=another"
    other = (await caller.call("POST /v1/jobs", {"kind": "never"}, query=theirs)).json["id"]
    await caller.call("GET /v1/jobs/{id}/events", id=other, query=theirs)
    await caller.call("GET /v1/jobs/{id}", query="at=1000000000", id=first)
    await caller.call("PATCH /v1/jobs/{id}", {"priority": 60}, id=first)
    await caller.call("GET /v1/jobs/{id}/events", id=first)
    await caller.call("GET /v1/jobs/{id}/events", id=first, headers=KNOWN)
    await caller.call("GET /v1/jobs/{id}", id=first, headers=KNOWN)
    await caller.call("GET /v1/queues")
    await caller.call("GET /v1/demand")
    await caller.call("GET /v1/demand", query='kind=never&capabilities={"x":1}')
    await caller.call("GET /v1/usage")
    await caller.call("POST /v1/jobs/{id}/cancel", {"reason": "enough"}, id=blocked)
    await caller.call("DELETE /v1/jobs/{id}", id=blocked)
    await caller.call("GET /v1/jobs/{id}", id=blocked)


async def _leases(caller: Caller) -> None:
    mine = await caller.claim(capabilities={"gpu": {"memory_gb": 16}})
    progress = {"fraction": 0.5, "stage": "page", "message": "1 of 2", "eta_s": 1.5}
    async with _listening(caller):
        await caller.hold("progress", mine, progress)
        await caller.until("GET /v1/jobs/{id}", lambda found: found["progress"], id=mine["job"]["id"])
    await caller.hold("logs", mine, {"lines": ["one", "x" * 10_000, "… 2 lines were left out"]})
    await caller.call("GET /v1/jobs/{id}/logs", id=mine["job"]["id"], query="limit=1")
    await caller.call("GET /v1/jobs/{id}/logs", id=mine["job"]["id"], query="tail=2")
    shown = {"Content-Type": "image/png"}
    await caller.hold("preview", mine, png(), headers=shown)
    preview = "GET /v1/jobs/{id}/preview"
    for headers in ({}, KNOWN):
        answer = await caller.call(preview, id=mine["job"]["id"], headers=headers)
        assert answer.status in (200, 304), answer
    await caller.hold("renew", mine)
    await caller.hold("artifacts", mine, b"page", query="name=page.md", headers={"Content-Type": "a/b"})
    left = ["page.md", "page.png"]
    await caller.hold("artifacts", mine, png(), query="name=page.png", headers=shown)
    said = {"pages": 3, "artifacts": {"page.png": {"node": "9"}}}
    done = {"result": said, "artifacts": left, "usage": {"pages": 3}}
    for _ in range(2):
        await caller.hold("succeed", mine, done)
    await caller.call("GET /v1/jobs/{id}/artifacts", id=mine["job"]["id"])
    await caller.call("GET /v1/jobs/{id}/artifacts", id=mine["job"]["id"], query="limit=1")
    for headers in ({}, KNOWN):
        await caller.call("GET /v1/jobs/{id}/artifacts.zip", id=mine["job"]["id"], headers=headers)
    await caller.call("GET /v1/jobs/{id}/result", id=mine["job"]["id"])

    large = await caller.job()
    lease = await caller.claim()
    await caller.hold("succeed", lease, {"result": "x" * 100_000})
    await caller.call("GET /v1/jobs/{id}/result", id=large)

    stopped = await caller.job()
    lease = await caller.claim()
    await caller.call("GET /v1/jobs/{id}/explain", id=stopped)
    await caller.call("POST /v1/jobs/{id}/cancel", {"reason": "enough"}, id=stopped)
    for verb, body in (
        ("renew", None),
        ("progress", {"fraction": 1}),
        ("logs", {"lines": []}),
        ("preview", png()),
        ("release", {}),
    ):
        await caller.hold(verb, lease, body, headers=shown if verb == "preview" else {})
    await caller.hold("renew", lease)

    await caller.job(max_attempts=1)
    lease = await caller.claim()
    error = {"code": "no_vram", "message": "out of memory", "traceback": "Traceback"}
    await caller.hold("fail", lease, {"error": error})
    await _of_back_end(caller)
    await _in_parts(caller)
    for name, token in (("shell", caller.admin), ("mine", caller.api.token("worker"))):
        await caller.call("POST /v1/leases", {"worker": name, "kinds": [KIND]}, token=token)


async def _in_parts(caller: Caller) -> None:
    """A job that ends in a part which nobody keeps: the test plays the keeper."""
    await caller.job()
    lease = await caller.claim()
    plan = {"parts": [{"name": "a", "kind": KIND, "payload": {"n": 1}}], "usage": {"pages": 1}}
    whole = (await caller.hold("part", lease, plan)).json
    assert [part["name"] for part in whole["parts"]] == ["a"]
    await caller.api.store.transition(JobId(whole["id"]), Unblock(now=now()), actor="keeper")
    joining = await caller.claim()
    (part,) = joining["job"]["parts"]
    headers = {"Switchyard-Lease-Token": joining["lease"]["token"]}
    route = "GET /v1/leases/{id}/parts/{part}"
    await caller.call(route, headers=headers, id=joining["lease"]["id"], part=part["id"])
    await caller.hold("succeed", joining)
    await caller.until("GET /v1/jobs/{id}", lambda found: found["state"] == "succeeded", id=whole["id"])
    await caller.api.caught_up()
    await caller.call("GET /v1/jobs", query="fields=full")


async def _of_back_end(caller: Caller) -> None:
    job = await caller.job()
    lease = await caller.claim()
    backend = {"kind": "comfyui", "id": "gpu-a", "remote_id": "p1"}
    left = await caller.hold("delegate", lease, {"backend": backend})
    ticket = left.json["outcome"].rpartition("/")[2]
    report, upload = "POST /v1/outcomes/{ticket}", "POST /v1/outcomes/{ticket}/artifacts"
    await caller.call(report, {"state": "running", "progress": {"fraction": 0.5}}, ticket=ticket)
    headers = {"Content-Type": "a/b"}
    await caller.call(upload, b"a", query="name=a.txt", headers=headers, ticket=ticket)
    await caller.call("POST /v1/jobs/{id}/cancel", {"reason": "enough"}, id=job)
    for state in ("running", "stopped"):
        await caller.call(report, {"state": state}, ticket=ticket)

    job = await caller.job()
    lease = await caller.claim()
    left = await caller.hold("delegate", lease, {"backend": {"kind": "server", "id": "s"}, "watched": True})
    find = "POST /v1/backends/{kind}/{id}/attempts"
    asked = {"worker": "shell", "kinds": [KIND]}
    found = await caller.call(find, asked, kind="server", id="s")
    assert found.json["attempts"][0]["job"]["id"] == job
    ticket = left.json["outcome"].rpartition("/")[2]
    progress = {"backend_task_id": "b", "data": {}, "metadata": {"status": "PROCESSING", "progress": 0.5}}
    await caller.call("PUT /v1/callbacks/{ticket}", progress, ticket=ticket)
    done = {"status": "COMPLETED", "result": {"a": 1}}
    await caller.call("POST /v1/callbacks/{ticket}", done, ticket=ticket)


async def _reviews(caller: Caller) -> None:
    for verdict in ("accept", "reject"):
        job = await caller.job(review={"deadline_s": 600, "on_deadline": "reject", "four_eyes": False})
        lease = await caller.claim()
        proposal = {"result": {"diff": "x"}, "checks": {"lint": True}, "usage": {"pages": 1}}
        await caller.hold("artifacts", lease, b"a", query="name=a.txt", headers={"Content-Type": "a/b"})
        await caller.hold("propose", lease, proposal | {"artifacts": ["a.txt"]})
        await caller.until("GET /v1/reviews", lambda found: found["reviews"])
        await caller.call("GET /v1/reviews", headers=KNOWN)
        for verb in ("claim", "release"):
            await caller.call(f"POST /v1/reviews/{{id}}/{verb}", {}, id=job)
        await caller.call("GET /v1/queues")
        reason = {"reason": "no tests", "feedback": {"add": ["tests"]}}
        await caller.call(f"POST /v1/reviews/{{id}}/{verdict}", reason if verdict == "reject" else {}, id=job)
    lease = await caller.claim()
    assert lease["job"]["feedback"]
    await caller.hold("succeed", lease)


async def _dead(caller: Caller) -> str:
    job = await caller.job(max_attempts=1)
    lease = await caller.claim()
    await caller.hold("fail", lease, {"error": {"code": "x", "retryable": False}})
    return job


async def _dead_letters(caller: Caller) -> None:
    dead = [await _dead(caller) for _ in range(5)]
    page = await caller.until("GET /v1/dead-letters", lambda found: len(found["dead_letters"]) > 4)
    assert page
    await caller.call("GET /v1/dead-letters", query="limit=1")
    await caller.call("GET /v1/dead-letters", headers=KNOWN)
    await caller.call("POST /v1/jobs/{id}/redrive", {"priority": 70}, id=dead[0])
    await caller.call("POST /v1/jobs/{id}/discard", {}, id=dead[1])
    for what in ("redrive", "discard"):
        await caller.call(f"POST /v1/dead-letters/{what}", {"filter": {"code": ["x"]}, "limit": 1})


async def _erasures(caller: Caller) -> None:
    jobs = [await caller.job(erasable=True) for _ in range(2)]
    for job in jobs:
        await caller.call("POST /v1/jobs/{id}/cancel", {}, id=job)
        await caller.call("GET /v1/jobs/{id}", id=job)
    await caller.call("POST /v1/erasures", {"jobs": [*jobs, await caller.job()]})
    await caller.call("GET /v1/erasures", query="limit=1")
    await caller.call("GET /v1/erasures/{id}", id=jobs[0])


async def _schedules(caller: Caller) -> None:
    ticks = {"name": "nightly", "cron": "30 2 * * *", "job": {"kind": "never"}}
    await caller.call("POST /v1/schedules", ticks)
    for name in ("nightly", "hourly"):
        body = {"every_s": 3600, "job": {"kind": "never"}}
        await caller.call("PUT /v1/schedules/{id}", body, id=name)
    await caller.call("POST /v1/schedules/preview", ticks)
    await caller.call("GET /v1/schedules", query="limit=1")
    await caller.call("GET /v1/schedules/{id}", id="nightly")
    await caller.call("GET /v1/schedules/{id}/next", id="nightly")
    for key in ({}, KEYED, KEYED):
        made = await caller.call("POST /v1/schedules/{id}/run", id="nightly", headers=key)
    await caller.call("GET /v1/jobs/{id}", id=made.json["id"])
    await caller.call("GET /v1/schedules/{id}", id="nightly")
    for verb in ("pause", "resume"):
        await caller.call(f"POST /v1/schedules/{{id}}/{verb}", id="nightly")
    await caller.call("DELETE /v1/schedules/{id}", id="nightly")
    every = {"every_s": 1, "start_at": "2020-01-01T00:00:00Z", "overlap": "skip", "job": {"kind": "never"}}
    await caller.call("PUT /v1/schedules/{id}", every, id="often")
    await caller.until(
        "GET /v1/schedules/{id}", lambda found: found["last_run"] and found["last_skipped"], id="often"
    )


async def _batches(caller: Caller) -> None:
    lines = b'{"kind": "never"}\n{"kind": "never", "nonsense": 1}\n'
    files = [await caller.call("POST /v1/files", one) for one in (lines, b"\xff\n")]
    body = {"input": files[0].json["id"], "name": "nightly", "priority": 10}
    for _ in range(2):
        made = await caller.call("POST /v1/batches", body, headers={"Idempotency-Key": "b1"})
    batch = made.json["id"]
    await caller.until("GET /v1/batches/{id}", lambda found: found["lines"]["jobs"], id=batch)
    await caller.call("GET /v1/batches/{id}/explain", id=batch)
    await caller.call("GET /v1/batches/{id}/results", id=batch)
    await caller.call("POST /v1/batches/{id}/cancel", id=batch)
    await caller.until("GET /v1/batches/{id}", lambda found: found["state"] == "cancelled", id=batch)
    await caller.call("POST /v1/batches/{id}/cancel", id=batch)
    for output in ("results", "errors"):
        await caller.call(f"GET /v1/batches/{{id}}/{output}", id=batch)
    bad = await caller.call("POST /v1/batches", {"input": files[1].json["id"]})
    await caller.until("GET /v1/batches/{id}", lambda found: found["faults"], id=bad.json["id"])
    await caller.call("GET /v1/batches", query="limit=1")
    await caller.call("DELETE /v1/batches/{id}", id=batch)


async def _workflows(caller: Caller) -> None:
    inputs = {"seed": {"type": "seed", "to": ["/seed"]}}
    for payload in ({"seed": 1}, {"seed": 2}):
        body = {"kind": "never", "payload": payload, "inputs": inputs, "count": {"max": 2}}
        await caller.call("PUT /v1/workflows/{name}", body, name="drawn")
    await caller.call("PUT /v1/workflows/{name}", body, name="drawn")
    await caller.call("GET /v1/workflows", query="limit=1")
    await caller.call("GET /v1/workflows/{name}", name="drawn@1")
    await caller.call("GET /v1/workflows/{name}/versions", name="drawn")
    key = {"Idempotency-Key": "w1"}
    for _ in range(2):
        made = await caller.call("POST /v1/workflows/{name}/jobs", {"count": 2}, name="drawn", headers=key)
    for _ in range(2):
        await caller.call("POST /v1/jobs/{id}/again", id=made.json["jobs"][0]["id"], headers=key)
    await caller.call("GET /v1/jobs/{id}", id=made.json["jobs"][0]["id"])
    drawn = {"every_s": 3600, "job": {"workflow": "drawn"}}
    await caller.call("PUT /v1/schedules/{id}", drawn, id="drawn")
    await caller.call("GET /v1/schedules")
    await caller.call("DELETE /v1/workflows/{name}", name="drawn")


async def _refusals(caller: Caller) -> None:
    """What the limits of a tenant make of a line, of a redrive and of a tick."""
    await _dead(caller)
    many = {"Content-Type": "application/x-ndjson"}
    for _ in range(2):  # the read model shows what the first one takes
        lines = b'{"kind": "never"}\n' * caller.api.settings.tenant_jobs
        await caller.call("POST /v1/jobs/bulk", lines, headers=many)
    dead = {"filter": {"code": ["x"]}}
    await caller.until("GET /v1/dead-letters", lambda found: found["dead_letters"], query="code=x")
    await caller.call("POST /v1/dead-letters/redrive", dead)
    every = {"every_s": 1, "job": {"kind": "never"}}
    await caller.call("PUT /v1/schedules/{id}", every, id="refused")
    await caller.until("GET /v1/schedules/{id}", lambda found: found["last_refused"], id="refused")
    await caller.call("GET /v1/schedules")


async def _prices(caller: Caller) -> None:
    for start in ("2000-01-01", "9000-01-01"):
        prices = [
            {
                "unit": "run_s",
                "micro_cents": 5,
                "per": 1000,
                "kind": KIND,
                "margin_bp": -5,
                "least_micro_cents": 9,
                "step_micro_cents": 3,
            }
        ]
        version = {"prices": prices, "margin_bp": 3000, "billed": {"*": ["succeeded"]}, "note": "n"}
        for _ in range(2):
            await caller.call("PUT /v1/prices/{start}", version, start=start)
        await caller.call("GET /v1/prices/{start}", start=start)
    await caller.call("GET /v1/prices")
    await caller.call("DELETE /v1/prices/{start}", start="9000-01-01")
    quotas = [{"unit": "pages", "period": period, "most": 10**6} for period in ("day", "month")]
    await caller.call("PUT /v1/quotas/{of}", {"quotas": quotas}, of="all")
    await caller.call("GET /v1/quotas/{of}", of="all")
    await caller.call("GET /v1/quotas")
    await caller.call("DELETE /v1/quotas/{of}", of="all")


async def _used(caller: Caller) -> None:
    every = "by=day,tenant,key,kind,operation,engine,outcome&limit=1"
    await caller.until("GET /v1/usage/summary", lambda found: found["cursor"], query=every)
    await caller.call("GET /v1/usage/bill")
    await caller.until("GET /v1/disk", lambda found: found["tenants"] and found["kinds"])


async def _settings(caller: Caller) -> None:
    for _ in range(2):
        await caller.call("PUT /v1/limits/{name}", {"concurrency": 5, "per_minute": 100}, name="gpu")
    await caller.call("GET /v1/limits")
    await caller.job(kind="limited", limits=["gpu"])
    held = await caller.claim(kinds=["limited"])
    async with _listening(caller):
        await caller.hold("progress", held, {"fraction": 0.5})
        await caller.until("GET /v1/limits/{name}", _shows_progress, name="gpu")
    await caller.hold("succeed", held, {"result": {}})
    limited = await caller.job(kind="never", limits=["gpu"], requires={"x": {"$gte": 2}})
    await caller.call("GET /v1/jobs/{id}/explain", id=limited)
    await caller.call("POST /v1/jobs/{id}/cancel", id=limited)
    await caller.call("DELETE /v1/limits/{name}", name="gpu")
    everything = {
        "priority": 60, "max_attempts": 5, "attempt_timeout_s": 60, "queue_timeout_s": 60, "deadline_s": 60,
        "retry": {"base_s": 1}, "ageing": {"every_s": 60, "step": 1, "max": 90}, "fair_share": True,
        "weights": {caller.api.tenant: 2},
    }  # fmt: skip
    await caller.call("PUT /v1/kinds/{kind}", everything, kind="tuned")
    await caller.call("GET /v1/kinds/{kind}", kind="tuned")
    await caller.call("GET /v1/kinds")
    await caller.call("DELETE /v1/kinds/{kind}", kind="tuned")
    lane = (await caller.call("GET /v1/queues")).json["queues"][0]["lane"]
    await caller.call("POST /v1/kinds/{kind}/pause", kind=KIND)
    await caller.call("POST /v1/lanes/{lane}/pause", lane=lane)
    await caller.until("GET /v1/controls", lambda found: len(found["controls"]) > 1)
    await caller.call("POST /v1/lanes/{lane}/resume", lane=lane)
    await caller.call("POST /v1/kinds/{kind}/resume", kind=KIND)


async def _files(caller: Caller) -> None:
    for _ in range(2):
        headers = {"Content-Type": "text/plain", "Idempotency-Key": "f1"}
        stored = await caller.call("POST /v1/files", b"hello", query="name=a.txt", headers=headers)
    file_id = stored.json["id"]
    await caller.until("GET /v1/files", lambda found: found["files"])
    whole = await caller.call("GET /v1/files/{id}", id=file_id)
    for condition in ({"Range": "bytes=1-2"}, {"If-None-Match": whole.headers["ETag"]}):
        await caller.call("GET /v1/files/{id}", id=file_id, headers=condition)
    await caller.call("POST /v1/files/{id}/url", id=file_id)
    await caller.call("DELETE /v1/files/{id}", id=file_id)
    await caller.call("POST /v1/tickets")


async def _uploads(caller: Caller) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    await caller.call("OPTIONS /v1/uploads")
    begun = {**tus, "Upload-Length": "5", "Upload-Metadata": "filename YQ=="}
    made = await caller.call("POST /v1/uploads", headers=begun)
    upload = made.headers["Location"].rpartition("/")[2]
    await caller.call("GET /v1/uploads/{id}", id=upload, headers=tus)
    sent = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    await caller.call("PATCH /v1/uploads/{id}", b"hello", id=upload, headers=sent)
    await caller.call("GET /v1/uploads/{id}", id=upload, headers=tus)
    await caller.call("POST /v1/uploads", headers={**tus, "Upload-Length": "0"})
    await caller.call("DELETE /v1/uploads/{id}", id=upload, headers=tus)


async def _keys(caller: Caller) -> None:
    wish = {"name": "k", "roles": ["submitter"], "kinds": ["never"], "expires_s": 600}
    limits = {"rate": {"per_minute": 2, "burst": 2}, "spend": {"jobs_per_day": 9}}
    made = (await caller.call("POST /v1/keys", {**wish, **limits})).json
    await caller.call("GET /v1/keys")
    turned = (await caller.call("POST /v1/keys/{id}/rotate", {}, id=made["id"])).json
    job = (await caller.call("POST /v1/jobs", {"kind": "never"}, token=made["key"])).json
    await caller.call("GET /v1/jobs/{id}/events", id=job["id"])
    for _ in range(2):
        await caller.call("GET /v1/jobs", token=turned["key"])
    await caller.call("GET /v1/keys/{id}", id=made["id"])
    await caller.call("DELETE /v1/keys/{id}", id=made["id"])


async def _servers(caller: Caller) -> None:
    secret = {"bearer": "b", "headers": {"X-Key": "k"}}
    here = {"predict": "http://192.0.1.1/p", "health": "http://192.0.1.1/h", "cancel": "http://192.0.1.1/c"}
    wish = {
        "name": "n", "kinds": [KIND], "capabilities": {"gpu": 1}, "slots": 2, "labels": {"a": "b"},
        "weight": 2, "profile": "task", "enabled": False, "maintenance": True,
    }  # fmt: skip
    full = {**wish, "endpoints": here, "credentials": secret}
    await caller.call("POST /v1/servers", {**full, "id": "s1"})
    for _ in range(2):
        await caller.call("PUT /v1/servers/{id}", full, id="s2")
    registry = caller.api.registry()
    server = (await registry.get(caller.api.tenant, "s1")).server
    checks = Check(now(), Outcome.STATUS, 0.1, 500), Check(now(), Outcome.PASSED, 0.1, 200)

    def checked(known: ServerState | None) -> ServerState:
        failed = after_check(known or first(server, now()), checks[0], Rhythm(), 0.5)
        return after_check(failed, checks[1], Rhythm(), 0.5)

    await registry.change_state(server, checked)
    await caller.call("PATCH /v1/servers/{id}", {"enabled": True}, id="s1")
    await caller.until("GET /v1/servers", lambda found: found["servers"][0]["enabled"], query="limit=1")
    await caller.call("GET /v1/servers/{id}", id="s1")
    await caller.call("POST /v1/servers/{id}/maintenance", {"enabled": False}, id="s1")
    await caller.call("POST /v1/servers/{id}/heartbeat", id="s1")
    silent = {"endpoints": {"predict": "http://192.0.1.1/p"}, "kinds": [KIND]}
    await caller.call("PUT /v1/servers/{id}", silent, id="s3")
    await caller.until(
        "POST /v1/servers/cleanup", lambda found: found["removed"], body={"older_s": 0, "dry_run": True}
    )
    await caller.call("DELETE /v1/servers/{id}", id="s2")


async def _models(caller: Caller) -> None:
    wish = {
        "url": "http://192.0.1.1/x", "sha256": "0" * 64, "size_bytes": 7, "vram_mib": 1,
        "tenants": [caller.api.tenant], "credentials": {"bearer": "b"},
    }  # fmt: skip
    place: dict[str, Any] = {"folder": "loras", "name": "every.safetensors"}
    for _ in range(2):
        await caller.call("PUT /v1/models/{folder}/{name}", wish, **place)
    await caller.call("GET /v1/models/{folder}/{name}", **place)
    await caller.until("GET /v1/models", lambda found: found["models"], query="limit=1")
    await caller.call("POST /v1/models/fetches", {"worker": "w", "instance": "comfyui", "wants": True})
    await caller.call("DELETE /v1/models/{folder}/{name}", **place)


@contextlib.asynccontextmanager
async def _listening(caller: Caller) -> AsyncIterator[None]:
    """Somebody waits for live updates: only then progress is read."""
    headers = {"Authorization": f"Bearer {caller.admin}"}
    async with caller.api.http.ws_connect(f"{caller.api.url}/v1/ws", headers=headers) as socket:
        await socket.receive_json()
        yield


async def _workers(caller: Caller) -> None:
    go = asyncio.Event()

    async def handler(attempt: Attempt) -> Any:
        attempt.progress(0.5, stage="s", message="m", eta_s=1)
        await go.wait()

    nc = await connect(caller.api.nc.connected_url.geturl(), name="worker")  # type: ignore[union-attr]
    settings = caller.api.settings.model_copy(update={"slots": 2})
    worker = Worker(nc, [TestConnector(handler, NATS_KIND)], settings, worker_id="gpu-1")
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    group = {"$or": [{"gpu": {"$gte": 24}}, {"count": {"$in": ["x"]}}]}
    for requires in (group, {"count": "x"}, {"gpu": {"$gte": 24}}):
        unfit = await caller.job(kind=NATS_KIND, requires=requires)
        await caller.until("GET /v1/jobs/{id}/explain", lambda found: found["workers"], id=unfit)
    runs = await caller.job(kind=NATS_KIND)
    async with _listening(caller):
        await caller.until("GET /v1/workers/{id}", _shows_progress, id="gpu-1")
    claim = {"worker": "mine", "kinds": [KIND]}  # again: it is forgotten after a while
    await caller.call("POST /v1/leases", claim, token=caller.api.token("worker"))
    mine = f"rest.{caller.api.tenant}.mine"
    await caller.until("GET /v1/workers/{id}", lambda found: found.get("tenant"), id=mine)
    shared = {"tenants": [caller.api.tenant, caller.api.stranger], "exclude_tenants": ["somebody"]}
    await caller.call("POST /v1/leases", {"worker": "shared", "kinds": [KIND], **shared}, token=caller.admin)
    await caller.until("GET /v1/workers", _shows_tenants, query="capabilities=true")
    for verb in ("pause", "resume", "drain"):
        await caller.call(f"POST /v1/workers/{{id}}/{verb}", id="gpu-1")
    go.set()
    await running
    await nc.close()
    await caller.call("GET /v1/jobs/{id}", query="wait=5", id=runs)


def _shows_tenants(found: Any) -> bool:
    return any(worker.get("tenants") for worker in found["workers"])


def _shows_progress(found: Any) -> bool:
    return any(job["progress"] for job in found.get("jobs") or ())


async def _quarantine(caller: Caller) -> None:
    seqs = []
    for to in ("queued", "dead"):
        job = await caller.job(kind="never")
        seqs.append(await caller.api.publisher.publish(f"job.{job}.hello", b"hello", {}))
        await caller.until("GET /v1/jobs", lambda found: found["jobs"], query="state=damaged")
        await caller.call("GET /v1/jobs/{id}/events", id=job)
        await caller.call("GET /v1/jobs/{id}/explain", id=job)
        await caller.call("GET /v1/jobs/{id}", id=job)
        await caller.call("POST /v1/jobs/{id}/repair", {"to": to}, id=job)
    wanted: dict[str, Any] = {"stream": "JOBS", "seq": seqs[0]}
    await caller.until("GET /v1/quarantine", lambda found: len(found["quarantine"]) > 1)
    await caller.call("GET /v1/quarantine", query="limit=1")
    await caller.call("GET /v1/quarantine/{stream}/{seq}", **wanted)
    await caller.call("DELETE /v1/quarantine/{stream}/{seq}", **wanted)
    await caller.call("DELETE /v1/quarantine")


async def _readiness(caller: Caller) -> None:
    # Where an embedded broker keeps its data: its disk is looked at.
    (caller.api.settings.data_dir / "broker" / "jetstream").mkdir(parents=True)
    await caller.call("GET /")
    await caller.call("GET /healthz")
    await caller.until("GET /health", lambda found: found["status"] == "healthy")
    await caller.call("GET /metrics")
    described = await caller.call("GET /openapi.json")
    await caller.call("GET /openapi.json", headers={"If-None-Match": described.headers["ETag"]})
    for name in ("/docs", "/docs/page.js", "/docs/page.css"):
        await caller.call(f"GET {name}")
        await caller.call(f"GET {name}", headers=KNOWN)
    style: dict[str, Any] = {"version": static().version, "name": "page.css"}
    await caller.call("GET /", headers={"Accept": "text/html", **KNOWN})
    await caller.call("GET /monitor/{version}/{name}", **style)
    await caller.call("GET /monitor/{version}/{name}", headers=KNOWN, **style)
    await caller.call("GET /v1/series")
    await caller.call("GET /v1/version")
    await caller.call("GET /v1/whoami")
    await caller.until("GET /readyz", lambda found: found["ready"])
    nc = caller.api.nc
    await broker_api(nc, f"CONSUMER.DELETE.JOBS.{subjects.KEEPER_EVENTS}", timeout_s=20)
    await caller.until("GET /readyz", lambda found: not found["ready"])
    await caller.until("GET /health", lambda found: found["status"] == "unhealthy")
    headers = {"Authorization": f"Bearer {caller.admin}"}
    async with caller.api.http.get(f"{caller.api.url}/v1/events/stream", headers=headers) as response:
        caller.said.append(Said("GET /v1/events/stream", response.status, None, frozenset()))
    async with caller.api.http.get(f"{caller.api.url}/v1/watch/queues", headers=headers) as response:
        caller.said.append(Said("GET /v1/watch/{what}", response.status, None, frozenset()))
    async with caller.api.http.ws_connect(f"{caller.api.url}/v1/ws", headers=headers) as socket:
        caller.said.append(Said("GET /v1/ws", socket._response.status, None, frozenset()))
