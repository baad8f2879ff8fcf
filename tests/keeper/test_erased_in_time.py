"""Jobs that can be erased are erased when it is time and when they are archived, and the ledger says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.events.commands import Archive
from switchyard.events.job import Job
from switchyard.events.ledger.line import Line, lines_of
from switchyard.events.values import Status
from switchyard.services import clock
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.files import Files, artifact_id
from tests.files.test_files import put
from tests.keeper.test_retention import ACTOR, KEEP_S, end, kept, same, submit, until
from tests.worker.site import DEADLINE_S, Site, open_site


@pytest.fixture
async def site(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(broker.url, data_dir=tmp_path, keep_s=3600.0, archive_ttl_s=3600) as site:
        yield site


async def erased_lines(site: Site) -> list[Line]:
    """What the ledger says of erasures."""
    found = await read_range(site.nc, subjects.LEDGER, "ledger.>", timeout_s=DEADLINE_S)
    return [line for message in found for line in lines_of(message.data) if line.outcome == "erased"]


async def test_jobs_that_can_be_erased_are_erased_when_it_is_time_or_when_they_are_archived(
    site: Site,
) -> None:
    files = Files(site.nc, timeout_s=DEADLINE_S)
    async with site.projector(), kept(site, keep_dead_s=5.0) as keeper:
        stays = await end(site, await submit(site, erasable=True))
        later = await end(site, await submit(site, erasable=True, erase_s=3600.0))
        due = await end(site, await submit(site, erasable=True, erase_s=KEEP_S), "dead")
        by_hand = await end(site, await submit(site, erasable=True, erase_s=3600.0), "cancelled")
        plain = await end(site, await submit(site))
        for job in (stays, later, due, by_hand):
            await put(files, b"text", file_id=artifact_id(job.id, 3, "text"), erasable=True)
        await put(files, b"text", file_id=artifact_id(plain.id, 3, "text"))
        for job in (by_hand, plain):
            await site.store.transition(job, Archive(now=clock.now(), by=ACTOR), actor=ACTOR)

        async def erased(job: Job) -> bool:
            return not await files.keys.under("acme", job.id)

        await until(lambda: erased(due))
        await until(lambda: erased(by_hand))

        async def counted() -> bool:
            return keeper.retention.archived == 1

        async def in_ledger() -> bool:
            return {line.job for line in await erased_lines(site)} == {due.id, by_hand.id}

        await until(in_ledger)
        assert all(not line.units for line in await erased_lines(site))
        assert len(await erased_lines(site)) == 2
        assert [await erased(job) for job in (stays, later)] == [False, False]
        assert (await site.store.load(due.id)).archived_as is Status.DEAD
        assert (await files.info("acme", artifact_id(plain.id, 3, "text"))).size_bytes == 4
        await until(counted)
        assert await same(site)
    async with site.projector(), kept(site, keep_s=KEEP_S):
        await until(lambda: erased(stays))
        assert not await erased(later)
