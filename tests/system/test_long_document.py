"""A long PDF over several workers, one of which is killed in the middle: whole, in order, and billed once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.events import Leased, Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.ledger.lines import lines
from switchyard.services import clock
from switchyard.services.broker import connection
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.settings import Settings
from tests.documents.corpus import needs_ocr
from tests.documents.pdf import long_pdf
from tests.documents.pdf.test_parts import whole
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, needs_ocr]
DONE_S = 1800.0
FORMATS = {"document.md": "markdown", "document.json": "json", "document.txt": "text"}


@dataclass
class Converted:
    """A document that was converted, the jobs that did it, and how long they took."""

    job: dict[str, Any]
    made: dict[str, bytes]
    seconds: float
    attempts: dict[str, int]
    units: Counter[str]


async def start_worker(site: Deployment, name: str) -> None:
    await site.start(name, "worker", "--kinds", "convert", "--slots", "1", "--name", name)


async def upload(site: Deployment, path: Path) -> str:
    headers = {"Content-Type": "application/pdf"}
    status, stored = await site.request(
        "POST", f"/v1/files?name={path.name}", data=await asyncio.to_thread(path.read_bytes), headers=headers
    )
    assert status == 201, stored
    return str(stored["id"])


async def worker_at_a_part(site: Deployment, job: str) -> str:
    """A worker that reads a part of the job."""
    async with asyncio.timeout(DONE_S):
        while True:
            _, found = await site.request("GET", f"/v1/jobs?label=parent:{job}&state=running&limit=100")
            if found["jobs"]:
                _, one = await site.request("GET", f"/v1/jobs/{found['jobs'][0]['id']}")
                if one["state"] == "running" and one["worker"]:
                    return str(one["worker"]).rpartition("-")[0]  # what follows is of the process
            await asyncio.sleep(0.02)


async def converted(site: Deployment, file: str, part_pages: int, *, kill: bool) -> Converted:
    """Convert a file in parts, and kill a worker that is at one of them."""
    began = time.monotonic()
    payload = {"file": file, "formats": list(FORMATS.values()), "parts": part_pages}
    job = await site.submit(kind="convert", payload=payload)
    if kill:
        await site.parts[await worker_at_a_part(site, job)].kill()
    async with asyncio.timeout(DONE_S):
        while True:
            _, found = await site.request("GET", f"/v1/jobs/{job}?wait=30")
            if found["state"] in ("succeeded", "dead"):
                break
    seconds = time.monotonic() - began
    assert found["state"] == "succeeded", found["error"]
    nc = await connection.connect(site.broker.url, name="test")
    store = EventStore(nc, Publisher(nc, window=64, timeout_s=20), Settings())
    attempts, units = dict[str, int](), Counter[str]()
    for each, name in ((job, ""), *((part["id"], part["name"]) for part in found["parts"])):
        history = await store.history(JobId(each))
        events = [type(entry.event) for entry in history]
        assert events.count(Succeeded) == 1
        if name:
            attempts[name] = events.count(Leased)
        for line in lines(JobId(each), [(entry, clock.now()) for entry in history]):
            units.update(line.units)
    await nc.close()
    made = {}
    for artifact in found["artifacts"]:
        async with site.session.get(
            f"{site.url}/v1/files/{artifact['file']}", headers={"Authorization": f"Bearer {site.token}"}
        ) as answer:
            made[artifact["name"]] = await answer.read()
    if found["result"]["markdown"] is not None:
        made["document.md"] = found["result"]["markdown"].encode()
    return Converted(found, made, seconds, attempts, units)


def check(done: Converted, path: Path, pages: int, tmp_path: Path) -> None:
    """It is what one process makes of the file, with every page once and in order, and billed once."""
    said, made = whole(path, tmp_path, ocr="auto")
    assert done.made == made
    result = done.job["result"]
    assert (result["pages"], result["ocr_pages"]) == (pages, said["ocr_pages"])
    assert result["warnings"] == said["warnings"]
    marks = [int(number) for number in long_pdf.MARK.findall(made["document.md"].decode())]
    assert marks == list(range(1, pages + 1))
    assert [page["page"] for page in json.loads(made["document.json"])["pages"]] == marks
    assert done.units["pages"] == pages * 1_000_000


async def test_a_worker_that_is_killed_costs_a_long_document_nothing(tmp_path: Path) -> None:
    path = long_pdf.write(tmp_path / "long.pdf", 60, frozenset({14}))
    async with Deployment(tmp_path / "site") as site:
        await site.start_all(workers=0)
        for name in ("first", "second"):
            await start_worker(site, name)
        done = await converted(site, await upload(site, path), 20, kill=True)
    assert max(done.attempts.values()) == 2
    check(done, path, 60, tmp_path)


@pytest.mark.drill
@pytest.mark.timeout(3600)
async def test_five_hundred_pages_over_four_workers_one_of_which_is_killed(tmp_path: Path) -> None:
    scans = frozenset(range(37, 500, 61))
    path = long_pdf.write(tmp_path / "long.pdf", 500, scans)
    async with Deployment(tmp_path / "site") as site:
        await site.start_all(workers=0)
        file = await upload(site, path)
        await start_worker(site, "one")
        alone = await converted(site, file, 20, kill=False)
        for name in ("two", "three", "four"):
            await start_worker(site, name)
        four = await converted(site, file, 20, kill=False)
        killed = await converted(site, file, 20, kill=True)
    sys.stdout.write(
        f"one worker: {alone.seconds:.1f} s, four: {four.seconds:.1f} s, one killed: {killed.seconds:.1f} s\n"
    )
    assert set(alone.attempts.values()) == set(four.attempts.values()) == {1}
    assert len(killed.attempts) == 25
    assert max(killed.attempts.values()) == 2
    assert alone.made == four.made == killed.made
    check(killed, path, 500, tmp_path)
