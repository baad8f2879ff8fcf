"""Hosts whose clocks are off by minutes and hours: no job is early, late or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.events import Failed
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import Stored, follow, read_range
from tests.sizes import in_drill, sizes
from tests.system.log_check import check_log
from tests.system.shifted import ShiftedDeployment

log = structlog.get_logger()

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PARTS = ("gateway", "projector", "keeper", "worker0")
SHIFTS_S = (-3600, -300, 300, 3600)
BOTH_WAYS = (0, 2)
"""Turns in which each part is ahead once, and behind once."""
ALL_DONE_S = 200.0
LATE = timedelta(seconds=10)  # it is a second; this is for a machine with much else to do
SECOND = timedelta(seconds=1)
AHEAD_S = 2.0
UPLOADS_TTL_S = 4


def at_of(message: Stored) -> datetime:
    """When the broker stored a message."""
    return datetime.fromisoformat(message.headers["Nats-Time-Stamp"])


class Log:
    """What the broker has of each job, with its own times."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc

    async def ended(self, job_ids: list[str]) -> None:
        """Wait until all of these jobs have ended."""
        left = set(job_ids)
        async with asyncio.timeout(ALL_DONE_S):
            async for message in follow(self.nc, subjects.JOBS, [subjects.ALL_JOBS], start=1, timeout_s=20):
                _, job_id, name, *_ = message.subject.split(".")
                if name in FINAL_EVENTS:
                    left.discard(job_id)
                if not left:
                    return

    async def of(self, job_id: str) -> list[tuple[Recorded, datetime]]:
        """A job's events, and when each was stored."""
        stored = await read_range(self.nc, subjects.JOBS, subjects.job_filter(JobId(job_id)), timeout_s=20)
        return [(recorded(item.subject, item.headers, item.data, item.seq), at_of(item)) for item in stored]

    async def when(self, job_id: str, name: str, nth: int = 0) -> datetime:
        """When an event of a job was stored."""
        return [at for entry, at in await self.of(job_id) if entry.name == name][nth]

    async def said(self, job_id: str, name: str) -> datetime:
        """When an event of a job was, as its writer says."""
        return next(entry.at for entry, _ in await self.of(job_id) if entry.name == name)

    async def all(self) -> list[tuple[Recorded, datetime]]:
        """Every event, and when it was stored."""
        stored = await read_range(self.nc, subjects.JOBS, subjects.ALL_JOBS, limit=100_000, timeout_s=20)
        return [(recorded(item.subject, item.headers, item.data, item.seq), at_of(item)) for item in stored]


def assert_on_time(what: str, due: datetime, was: datetime) -> None:
    log.info("on_time", what=what, late_s=(was - due).total_seconds())
    assert timedelta() <= was - due <= LATE, f"{what}: due at {due}, but it was {was}"


async def run_jobs(site: ShiftedDeployment, events: Log, round_: int) -> None:
    """One job for everything that time decides; all are due at their times by the broker's clock."""
    due = datetime.now(UTC) + timedelta(seconds=AHEAD_S)
    quick: dict[str, Any] = {"payload": {"duration_s": 0.01}}
    delayed = await site.submit(start_at=due.isoformat(), **quick)
    failing = {"duration_s": 0.01, "fail": "retryable"}
    retried = await site.submit(payload=failing, retry={"base_s": AHEAD_S, "jitter": 0})
    expired = await site.submit(deadline_at=due.isoformat(), requires={"nobody": True})
    unstarted = await site.submit(queue_timeout_s=AHEAD_S, requires={"nobody": True})
    overrun = await site.submit(deadline_at=due.isoformat(), payload={"duration_s": 60})
    held = await site.submit(payload={"duration_s": 2 * site.lease_s})
    timed = await site.submit(kind="timed", max_attempts=1)
    status, lease = await site.request(
        "POST", "/v1/leases", json={"worker": "shell", "kinds": ["timed"], "lease_s": AHEAD_S, "wait_s": 5}
    )
    assert (status, lease["job"]["id"]) == (201, timed)
    job = {"kind": "simulate", **quick}
    body = {"name": f"s{round_}", "every_s": 1, "start_at": due.isoformat(), "job": job}
    assert (await site.request("POST", "/v1/schedules", json=body))[0] == 201
    jobs = [delayed, retried, expired, unstarted, overrun, held, timed]
    await events.ended(jobs)
    assert (await site.request("DELETE", f"/v1/schedules/s{round_}"))[0] == 204

    assert_on_time("a delayed start", due, await events.when(delayed, "queued"))
    failed = next(entry.event for entry, _ in await events.of(retried) if isinstance(entry.event, Failed))
    assert failed.retry_at - failed.at == timedelta(seconds=AHEAD_S)
    assert_on_time("a retry", failed.retry_at, await events.when(retried, "queued"))
    assert_on_time("a deadline in the queue", due, await events.when(expired, "expired"))
    waited = await events.said(unstarted, "submitted") + timedelta(seconds=AHEAD_S)
    assert_on_time("a queue timeout", waited, await events.when(unstarted, "expired"))
    assert_on_time("a deadline while it runs", due, await events.when(overrun, "cancel_requested"))
    claimed = await events.said(timed, "claimed") + timedelta(seconds=AHEAD_S)
    assert_on_time("a timed lease", claimed, await events.when(timed, "dead"))
    assert [entry.name for entry, _ in await events.of(held)] == ["submitted", "leased", "succeeded"]
    for entry, at in await events.all():
        assert abs(entry.at - at) <= SECOND, f"{entry.name} of {entry.job_id} says {entry.at} at {at}"


async def check_schedules(events: Log) -> None:
    """Every tick was on time."""
    ticks = 0
    for message in await read_range(
        events.nc, subjects.JOBS, "job.*.submitted.>", limit=10_000, timeout_s=20
    ):
        entry = recorded(message.subject, message.headers, message.data, message.seq)
        tick = entry.event.job.labels.get("tick")  # type: ignore[union-attr]
        if tick is not None:
            ticks += 1
            assert_on_time("a tick", datetime.fromisoformat(tick), at_of(message))
    assert ticks


async def check_all(site: ShiftedDeployment, events: Log) -> None:
    """No job is lost, nothing had to be repaired, and timers were not set over and over."""
    await check_schedules(events)
    report = await check_log(events.nc)
    assert report.faults == []
    assert "repaired" not in site.parts["keeper"].log.read_text()
    timers = await api(events.nc, f"STREAM.INFO.{subjects.TIMERS}", timeout_s=20)
    assert timers["state"]["last_seq"] <= 4 * sum(report.events.values())


async def start(site: ShiftedDeployment) -> Log:
    await site.start("projector", "projector")
    await site.start_gateway()
    await site.start("keeper", "keeper")
    await site.start_worker("worker0", slots=8)
    events = Log(await connection.connect(site.broker.url, name="test"))
    await events.ended([await site.submit(payload={"duration_s": 0})])  # the worker takes jobs
    return events


def turned(by: int) -> Iterator[tuple[str, int]]:
    """A shift for each part; over all turns each part has each shift."""
    for number, part in enumerate(PARTS):
        yield part, SHIFTS_S[(number + by) % len(SHIFTS_S)]


@pytest.mark.parametrize(
    "turn",
    [turn if turn == BOTH_WAYS[0] else in_drill(turn) for turn in range(len(SHIFTS_S))],
)
async def test_parts_whose_clocks_are_off_from_the_start_are_on_time(turn: int, tmp_path: Path) -> None:
    async with ShiftedDeployment(tmp_path) as site:
        for part, shift_s in turned(turn):
            site.shift(part, shift_s)
        site.settings |= {"SWITCHYARD_UPLOADS_TTL_S": str(UPLOADS_TTL_S)}
        events = await start(site)
        await run_jobs(site, events, 0)
        await check_stored(site)
        await check_all(site, events)
        for part, _ in turned(turn):
            assert "host_clock_off" in site.parts[part].log.read_text()
        await check_tokens(site)
        await check_what_is_shown(site, dict(turned(turn))["gateway"])
        await events.nc.close()


async def check_stored(site: ShiftedDeployment) -> None:
    """A batch ends at its deadline, and an upload that does not go on is there until its own."""
    token = {"Authorization": f"Bearer {site.token}"}
    line = b'{"kind": "simulate", "requires": {"nobody": true}}'
    async with site.session.post(f"{site.url}/v1/files?name=in", data=line, headers=token) as answer:
        file = (await answer.json())["id"]
    asked = datetime.now(UTC)
    status, batch = await site.request("POST", "/v1/batches", json={"input": file, "deadline_s": AHEAD_S})
    assert status == 201, batch
    due = datetime.fromisoformat(batch["deadline_at"])
    assert abs(due - asked - timedelta(seconds=AHEAD_S)) <= 2 * SECOND
    tus = {**token, "Tus-Resumable": "1.0.0"}
    begin = {**tus, "Upload-Length": "3"}
    async with site.session.post(f"{site.url}/v1/uploads", headers=begin) as answer:
        place, ends = site.url + answer.headers["Location"], answer.headers["Upload-Expires"]
    expires = parsedate_to_datetime(ends)
    assert abs(expires - datetime.now(UTC) - timedelta(seconds=UPLOADS_TTL_S)) <= 2 * SECOND
    async with asyncio.timeout(ALL_DONE_S):
        while (await site.session.head(place, headers=tus)).status == 200:
            await asyncio.sleep(0.1)
        assert_on_time("an upload", expires, datetime.now(UTC))
        while (batch := (await site.request("GET", f"/v1/batches/{batch['id']}"))[1])["state"] != "expired":
            await asyncio.sleep(0.1)
    assert_on_time("a batch", due, datetime.fromisoformat(batch["ended_at"]))


async def check_tokens(site: ShiftedDeployment) -> None:
    """A token is good for as long as it says, whatever the gateway's host has for the time."""
    secret = load_or_create_secrets(site.data_dir)[0]
    whole = site.token
    site.token = mint(secret, tenant="acme", roles=["viewer"], ttl_s=60)
    assert (await site.request("GET", "/v1/jobs"))[0] == 200
    site.token = mint(secret, tenant="acme", roles=["viewer"], ttl_s=-60)
    status, problem = await site.request("GET", "/v1/jobs")
    assert (status, problem["code"]) == (401, "token_expired")
    site.token = whole


async def check_what_is_shown(site: ShiftedDeployment, shift_s: float) -> None:
    """The gateway's host is reported, and a token that it mints is good at once and not for too long."""
    site.more = {"SWITCHYARD_URL": site.url, "SWITCHYARD_TOKEN": site.token}
    checks = {
        check["what"]: check for check in orjson.loads(await site.command_on("gateway", "doctor", "--json"))
    }
    for what in ("clock", "gateway's clock"):
        assert checks[what]["status"] == "warn"
        assert float(checks[what]["found"].split(" ")[0]) == pytest.approx(shift_s, abs=1)
    status, ready = await site.request("GET", "/readyz")
    assert (status, ready["checks"]["clock"]["ahead_s"]) == (200, pytest.approx(shift_s, abs=1))
    headers = {"Authorization": f"Bearer {site.token}"}
    async with site.session.get(f"{site.url}/metrics", headers=headers) as answer:
        lines = (await answer.text()).splitlines()
    offsets = [
        float(line.split(" ")[1]) for line in lines if line.startswith("switchyard_clock_offset_seconds{")
    ]
    assert offsets == [pytest.approx(shift_s, abs=1)]
    minted = await site.command_on("gateway", "token", "--tenant", "acme", "--role", "viewer", "--ttl", "10m")
    claims = jwt.decode(minted.strip(), options={"verify_signature": False})
    assert claims["exp"] - datetime.now(UTC).timestamp() == pytest.approx(600, abs=60)


@pytest.mark.parametrize("turns", sizes(BOTH_WAYS, range(len(SHIFTS_S)), timeout_s=600))
async def test_setting_the_clock_of_any_part_while_it_runs_changes_nothing(
    tmp_path: Path, turns: Sequence[int]
) -> None:
    async with ShiftedDeployment(tmp_path) as site:
        events = await start(site)
        for turn in turns:
            for part, shift_s in turned(turn):
                site.shift(part, shift_s)
            await run_jobs(site, events, turn)
        await check_all(site, events)
        await events.nc.close()
