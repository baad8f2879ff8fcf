"""How far a job is that waits for its parts, for readers of REST and of the live feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.client import AsyncClient
from switchyard.events.vocabulary.ids import JobId
from switchyard.models import CaughtUp, ProgressReport
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt, Outcome
from switchyard.services.gateway.live.folded import parts
from tests.gateway.live.site import live_gateway
from tests.gateway.rest import Gateway, gateway
from tests.projector.gate import Gate
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

PARTS = 4


class Gated(TestConnector):
    """A job in parts, each of which reports that it is half done and ends when the test says so."""

    def __init__(self) -> None:
        super().__init__(self._unused, "gated")
        self.gates = [asyncio.Event() for _ in range(PARTS)]
        self.joined = asyncio.Event()
        self.reports = 1
        self.half_done = 0

    async def _unused(self, _: Attempt) -> None:
        raise AssertionError

    async def run(self, attempt: Attempt) -> Outcome:
        if attempt.joins:
            await self.joined.wait()
            return Outcome(None)
        number = attempt.payload.get("part")
        if number is None:
            for part in range(PARTS):
                await attempt.spawn("gated", {"part": part} | ({"inner": True} if attempt.payload else {}))
            return attempt.join("collect")
        for at in range(self.reports):
            attempt.progress(0.5 * (at + 1) / self.reports, stage="part", message="half of it")
            await asyncio.sleep(0)
        self.half_done += 1
        await self.gates[number].wait()
        return Outcome(number)


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as api, api.keeper():
        yield api


async def shown(api: Gateway, job_id: str, fraction: float) -> dict[str, Any]:
    """The progress of a job over REST, once it is so far."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            job = (await api.get(f"/v1/jobs/{job_id}")).json
            if (job["progress"] or {}).get("fraction") == fraction:
                progress: dict[str, Any] = job["progress"]
                return progress
            await asyncio.sleep(0.02)


async def test_a_job_is_as_far_as_its_parts_together(site: Site, api: Gateway) -> None:
    connector = Gated()
    async with site.worker(connector, slots=2), AsyncClient(api.url, api.token()) as client:
        job = await api.submit(kind="gated")
        heard: asyncio.Queue[float] = asyncio.Queue()

        async def follow() -> None:
            async for message in client.follow(job["id"]):
                if isinstance(message, ProgressReport) and message.job_id == job["id"]:
                    heard.put_nowait(message.progress.fraction or 0.0)

        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            # Two are half done, then each time one is done and another half.
            for at, fraction in ((None, 0.25), (0, 0.5), (1, 0.75)):
                if at is not None:
                    connector.gates[at].set()
                progress = await shown(api, job["id"], fraction)
                assert progress["message"] == f"{0 if at is None else at + 1} of 4 parts have ended"
                async with asyncio.timeout(DEADLINE_S):
                    while await heard.get() != fraction:
                        pass
            listed = (await api.get("/v1/jobs?state=blocked")).json["jobs"]
            assert [one["progress"] for one in listed] == [progress]
            # A label of that name makes no part.
            await api.submit(kind="noop", labels={"parent": job["id"]})
            found = (await api.get(f"/v1/jobs?parent={job['id']}")).json["jobs"]
            known = (await api.get(f"/v1/jobs/{job['id']}")).json["parts"]
            assert {one["id"] for one in found} == {part["id"] for part in known}
            assert (await api.get("/v1/jobs?parent=x")).json["field"] == "parent"
            tag = (await api.get(f"/v1/jobs/{job['id']}")).headers["ETag"]
            connector.gates[2].set()
            await shown(api, job["id"], 0.875)
            assert (await api.get(f"/v1/jobs/{job['id']}", If_None_Match=tag)).status == 200
            connector.gates[3].set()
            async with asyncio.timeout(DEADLINE_S):
                while (await api.get(f"/v1/jobs/{job['id']}")).json["state"] != "running":
                    await asyncio.sleep(0.02)
            # What the attempt that joins them says comes in its place.
            assert (await api.get(f"/v1/jobs/{job['id']}")).json["progress"] is None
            connector.joined.set()
            assert (await site.final(job["id"])).name == "succeeded"
            following.cancel()


async def test_who_begins_to_watch_meanwhile_hears_at_once_and_of_parts_that_never_report(
    site: Site, api: Gateway
) -> None:
    connector = Gated()
    connector.reports = 0
    async with site.worker(connector, slots=1), AsyncClient(api.url, api.token()) as client:
        job = await api.submit(kind="gated")
        connector.gates[0].set()
        await shown(api, job["id"], 0.25)
        async with asyncio.timeout(DEADLINE_S):
            async for message in client.follow(job["id"]):
                if isinstance(message, ProgressReport):
                    if message.progress.fraction == 0.25:
                        connector.gates[1].set()
                    elif message.progress.fraction == 0.5:
                        break
        for gate in (*connector.gates, connector.joined):
            gate.set()
        assert (await site.final(job["id"])).name == "succeeded"


async def test_a_flood_of_reports_by_parts_is_a_few_of_their_job(
    site: Site, api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = list[str]()
    real = parts.PartsProgress.of

    def of(self: parts.PartsProgress, job_id: str) -> parts.Sum | None:
        sums.append(job_id)
        return real(self, job_id)

    monkeypatch.setattr(parts.PartsProgress, "of", of)
    connector = Gated()
    connector.reports = 20_000
    async with site.worker(connector, slots=4), AsyncClient(api.url, api.token()) as client:
        job = await api.submit(kind="gated")
        async with asyncio.timeout(DEADLINE_S):
            async for message in client.follow(job["id"]):
                if isinstance(message, ProgressReport) and message.progress.fraction == 0.5:
                    break
        assert len(sums) < 200
        for gate in (*connector.gates, connector.joined):
            gate.set()
        assert (await site.final(job["id"])).name == "succeeded"


async def test_who_watches_while_the_read_model_is_behind_hears_how_far_the_parts_are(
    site: Site, broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, connector = Gate(monkeypatch), Gated()
    gate.close()
    async with (
        gateway(broker.url, tmp_path) as api,
        api.keeper(),
        site.worker(connector, slots=2),
        AsyncClient(api.url, api.token()) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        job = await api.submit(kind="gated")
        while connector.half_done < 2:
            await asyncio.sleep(0.02)
        async for message in client.follow(job["id"]):
            if isinstance(message, ProgressReport):
                assert message.progress.fraction == 0.25
                break
            if isinstance(message, CaughtUp):
                gate.open()
        for each in (*connector.gates, connector.joined):
            each.set()
        assert (await site.final(job["id"])).name == "succeeded"


async def test_reports_of_parts_count_before_the_read_model_has_them(
    site: Site, broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, connector = Gate(monkeypatch), Gated()
    async with (
        gateway(broker.url, tmp_path) as api,
        site.worker(connector, slots=2),
        AsyncClient(api.url, api.token()) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        job = await api.submit(kind="gated")
        await site.until(job["id"], "parted")
        await api.caught_up()
        gate.close()
        async with api.keeper():  # which submits the parts
            async for message in client.follow(job["id"]):
                if isinstance(message, ProgressReport) and message.progress.fraction == 0.25:
                    break
            for each in (*connector.gates, connector.joined):
                each.set()
            assert (await site.final(job["id"])).name == "succeeded"
        gate.open()


async def test_questions_do_not_push_out_what_has_happened(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        await (await gateway.reader()).subscribe(all=True)
        progress = gateway.feed.parts
        progress.reported("part", "job")
        for n in range(2 * parts.DUE):
            progress._is_due(JobId(f"asked-{n}"), 0, asked=True)
        assert len(progress._due) <= parts.DUE
        assert JobId("job") in progress._due
