"""What real processes export, held against the log and against the page that describes it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.events import Dead, Queued
from switchyard.events.job import Job, evolve
from switchyard.events.values import FINAL, Status
from switchyard.services.broker import connection as broker
from switchyard.services.telemetry.names import SPECS, Spec
from switchyard.services.telemetry.page import page
from tests.system.deployment import Deployment, Part
from tests.system.log_check import read_log

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ALL_DONE_S = 120.0
READY_S = 60.0
PAGE = Path(__file__).parents[2] / "docs/metrics.md"
PARTS = ("projector", "gateway", "gateway2", "keeper", "pusher", "worker0", "worker1")
QUICK = {"base_s": 0.1, "max_s": 0.2, "jitter": 0}
Key = tuple[str, ...]


async def start_all(site: Deployment) -> None:
    """One of everything with a listener of its own, and two gateways."""
    await site.start("projector", "projector")
    await site.start_gateway("gateway2")
    await site.start_gateway()
    await site.start("keeper", "keeper")
    await site.start("pusher", "pusher")
    for number in range(2):
        await site.start_worker(f"worker{number}", slots=8)
    for name in PARTS:
        await until_ready(site, site.parts[name])


async def address(part: Part) -> str:
    """Where its listener is, as the log says."""
    async with asyncio.timeout(READY_S):
        while True:
            found = re.search(
                r'"url": "(http://[^"]+)", "part": "[a-z]+", "event": "telemetry_served"',
                part.log.read_text(),
            )
            if found is not None:
                return found[1]
            await asyncio.sleep(0.05)


async def until_ready(site: Deployment, part: Part) -> None:
    url = await address(part)
    async with asyncio.timeout(READY_S):
        while True:
            async with site.session.get(url + "/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)


async def scrape(site: Deployment, part: Part) -> list[Metric]:
    async with site.session.get(await address(part) + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return list(text_string_to_metric_families(await answer.text()))


def sums(families: Iterable[Metric], name: str, *labels: str) -> Counter[Key]:
    """What Prometheus' `sum by (labels)` gives for a sample's name."""
    found: Counter[Key] = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return +found


async def submit_mix(site: Deployment) -> list[str]:
    """200 jobs that end in every way."""
    brief: dict[str, Any] = {"duration_s": 0.02, "steps": 1}
    kinds: list[dict[str, Any]] = [
        {"payload": brief},
        {"payload": brief | {"fail": "retryable"}, "retry": QUICK},
        {"payload": brief | {"fail": "fatal"}},
        {"payload": brief | {"fail": "retryable", "fail_attempts": 9}, "retry": QUICK, "max_attempts": 2},
        {"payload": brief | {"duration_s": 60}, "attempt_timeout_s": 0.2, "max_attempts": 1},
        {"payload": brief, "delay_s": 600},
        {"payload": brief, "delay_s": 0.2},
        {"payload": brief, "start_at": "2099-01-01T00:00:00Z"},
    ]
    ids = [await site.submit(**kinds[number % len(kinds)]) for number in range(160)]
    for number, job_id in enumerate(ids):
        if number % len(kinds) in (5, 7):
            status, _ = await site.request("POST", f"/v1/jobs/{job_id}/cancel")
            assert status == 200
    return ids + [await site.submit(kind="by-hand", max_attempts=9) for _ in range(40)]


async def hand_back(site: Deployment) -> None:
    """Give each job of the kind that no worker runs back once, and end it in one way or another."""
    for number in range(80):
        asked = {"worker": "curl", "kinds": ["by-hand"], "wait_s": 10}
        status, claimed = await site.request("POST", "/v1/leases", json=asked)
        assert status == 201, claimed
        lease = claimed["lease"]
        back = claimed["job"]["attempt"] == 1
        verb, body = (
            ("release", {})
            if back
            else ("succeed", {"result": 1})
            if number % 2
            else ("propose", {"result": 1})
        )
        status, answer = await site.request(
            "POST", f"/v1/leases/{lease['id']}/{verb}", json=body,
            headers={"Switchyard-Lease-Token": lease["token"]},
        )  # fmt: skip
        assert status == 200, answer


async def settled(nc: Any, ids: list[str]) -> list[Recorded]:
    """The log once all jobs have ended, or wait for a reviewer."""
    async with asyncio.timeout(ALL_DONE_S):
        while True:
            entries = await read_log(nc)
            jobs = folded(entries)
            if all(jobs[job_id].status in FINAL | {Status.REVIEW} for job_id in ids):
                return entries
            await asyncio.sleep(0.3)


def folded(entries: list[Recorded]) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    for entry in entries:
        jobs[entry.job_id] = evolve(jobs.get(entry.job_id, Job(id=entry.job_id)), entry.event, entry.seq)
    return jobs


async def counted(site: Deployment, parts: Iterable[str]) -> list[Metric]:
    return [family for name in parts for family in await scrape(site, site.parts[name])]


def equal_to_the_log(families: list[Metric], entries: list[Recorded]) -> None:
    """Each counter of transitions is the number of such events."""
    by_kind = Counter((entry.name, entry.kind) for entry in entries)
    assert sums(families, "switchyard_events_appended_total", "type", "kind") == by_kind
    by_tenant = Counter((entry.name, entry.tenant) for entry in entries)
    assert sums(families, "switchyard_tenant_events_total", "type", "tenant") == by_tenant
    recorded = sum(
        count
        for (outcome,), count in sums(families, "switchyard_appends_total", "outcome").items()
        if outcome == "recorded"
    )
    assert recorded == len(entries)
    assert sums(families, "switchyard_append_seconds_count")[()] == len(entries)
    dead = Counter((entry.event.reason,) for entry in entries if isinstance(entry.event, Dead))
    assert sums(families, "switchyard_jobs_dead_total", "reason") == dead
    causes = Counter((entry.event.cause,) for entry in entries if isinstance(entry.event, Queued))
    assert sums(families, "switchyard_requeued_total", "cause") == causes
    starts = Counter((entry.kind,) for entry in entries if entry.name in ("leased", "claimed"))
    assert sums(families, "switchyard_attempts_started_total", "kind") == starts
    assert sums(families, "switchyard_wait_seconds_count", "kind") == starts
    failed = Counter((entry.kind,) for entry in entries if entry.name == "failed")
    assert sums(families, "switchyard_retries_total", "kind") == failed
    held: dict[str, Job] = {}
    ends: Counter[Key] = Counter()
    for entry in entries:
        before = held.get(entry.job_id, Job(id=entry.job_id))
        after = held[entry.job_id] = evolve(before, entry.event, entry.seq)
        if before.lease is not None and after.lease is None:
            ends[entry.kind,] += 1
    assert sums(families, "switchyard_attempts_ended_total", "kind") == ends
    assert sums(families, "switchyard_run_seconds_count", "kind") == ends


def matches(spec: Spec, family: Metric) -> None:
    """A family is of the type and has the labels that the table says."""
    kind = "gauge" if spec.type == "info" else spec.type  # the text format has no other word for it
    assert family.type == kind, family.name
    assert family.documentation == spec.meaning, family.name
    for sample in family.samples:
        labels = set(sample.labels) - {"le"}
        assert labels == {"part", *spec.labels}, sample


async def test_counters_equal_the_log_and_the_page_says_what_is_exported(tmp_path: Path) -> None:
    async with Deployment(tmp_path, lease_s=3.0, metrics_port=0, drain_grace_s=0) as site:
        await start_all(site)
        nc = await broker.connect(site.broker.url, name="test")
        ids = await submit_mix(site)
        await hand_back(site)
        entries = await settled(nc, ids)
        families = await counted(site, PARTS)
        equal_to_the_log(families, entries)
        names = {entry.name for entry in entries}
        assert {"succeeded", "failed", "dead", "cancelled", "queued", "scheduled", "proposed"} <= names

        # Whatever stands in a label, no job's id does.
        text = str([sample.labels for family in families for sample in family.samples])
        assert not any(job_id in text for job_id in ids)

        # The page and the system have the same metrics, and the same labels.
        exported = {family.name for family in families if not family.name.startswith("process_")}
        described = {spec.name if spec.type != "info" else spec.exported for spec in SPECS}
        assert exported == described
        by_name = {spec.name if spec.type != "info" else spec.exported: spec for spec in SPECS}
        for family in families:
            if family.name in by_name:
                matches(by_name[family.name], family)

        # Two gateways and a read model: each job once, from one part.
        jobs = folded(entries)
        async with asyncio.timeout(READY_S):
            while True:
                shown = sums(await counted(site, PARTS), "switchyard_jobs", "kind", "state")
                if shown == Counter((job.kind, job.shown_state) for job in jobs.values()):
                    break
                await asyncio.sleep(0.1)
        assert sums(families, "switchyard_slots", "state") == {("free",): 16}
        assert sums(families, "switchyard_worker_slots")[()] >= 16
        await nc.close()


async def test_a_killed_worker_loses_its_counts_and_no_others(tmp_path: Path) -> None:
    async with Deployment(tmp_path, lease_s=2.0, metrics_port=0) as site:
        await start_all(site)
        nc = await broker.connect(site.broker.url, name="test")
        ids = [await site.submit(payload={"duration_s": 0.3, "steps": 1}) for _ in range(100)]
        async with asyncio.timeout(ALL_DONE_S):
            while sum(entry.name in FINAL_EVENTS for entry in await read_log(nc)) < 20:
                await asyncio.sleep(0.05)
        await site.parts["worker0"].kill()
        await site.start_worker("again", slots=8)
        entries = await settled(nc, ids)
        lost = [entry for entry in entries if entry.actor.startswith("worker:worker0-")]
        assert lost
        counts = sums(
            await counted(site, [name for name in PARTS if name != "worker0"] + ["again"]),
            "switchyard_events_appended_total", "type",
        )  # fmt: skip
        assert counts == Counter((entry.name,) for entry in entries) - Counter(
            (entry.name,) for entry in lost
        )
        await nc.close()


async def test_everything_in_one_process_exports_each_part_once(tmp_path: Path) -> None:
    async with Deployment(tmp_path, metrics_port=0) as site:
        up = await site.start_up()
        nc = await broker.connect(site.broker.url, name="test")
        ids = [await site.submit(payload={"duration_s": 0.01, "steps": 1}) for _ in range(20)]
        entries = await settled(nc, ids)
        families = await scrape(site, up)
        equal_to_the_log(families, entries)
        headers = {"Authorization": f"Bearer {site.token}"}
        async with site.session.get(f"{site.url}/metrics", headers=headers) as answer:
            by_gateway = list(text_string_to_metric_families(await answer.text()))
        assert [family.name for family in by_gateway] == [family.name for family in families]
        equal_to_the_log(by_gateway, entries)
        series = [
            (sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples
        ]
        assert len(series) == len(set(series))
        parts = {sample.labels["part"] for family in families for sample in family.samples}
        assert parts == {"up", "gateway", "keeper", "projector", "pusher", "worker"}
        await nc.close()


async def test_a_part_without_its_broker_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with Deployment(tmp_path, metrics_port=0, request_timeout_s=1) as site:
        await start_all(site)
        await site.broker.kill()
        for name in PARTS:
            url = await address(site.parts[name])
            async with asyncio.timeout(READY_S):
                while True:
                    async with site.session.get(url + "/readyz") as answer:
                        if answer.status == 503:
                            break
            async with site.session.get(url + "/livez") as answer:
                assert answer.status == 200
            async with site.session.get(url + "/metrics") as answer:
                assert answer.status == 200
        await site.broker.restart()
        for name in PARTS:
            await until_ready(site, site.parts[name])


async def test_a_part_that_is_stopped_does_not_answer(tmp_path: Path) -> None:
    async with Deployment(tmp_path, metrics_port=0) as site:
        worker = await site.start_worker("worker0")
        await until_ready(site, worker)
        url = await address(worker)
        worker.signal(signal.SIGSTOP)
        with contextlib.suppress(TimeoutError):
            while True:  # what was under way may still be answered
                async with site.session.get(url + "/livez", timeout=aiohttp.ClientTimeout(1)):
                    pass
        worker.signal(signal.SIGCONT)
        await until_ready(site, worker)


def test_the_page_is_that_of_the_table() -> None:
    written = PAGE.read_text()
    assert written == page(written), "run make docs"
