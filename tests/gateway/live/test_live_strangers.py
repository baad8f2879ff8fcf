"""Reports that no worker of ours wrote: readers are shown what they can be, and the feed continues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.gateway.live.site import LiveGateway, live_gateway


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


OTHERS = ('x","type":"event', "x", "a.b", "01940000-0000-7000-8000-00000000000A", "a\x0bb")
GOOD = b'{"fence":1,"tenant":"acme","kind":"simulate","line":"hi"}'
BIG = b"1" + b"0" * 30


@pytest.mark.parametrize("kind", ["progress", "log"])
@pytest.mark.parametrize("job_id", OTHERS)
async def test_a_report_about_no_job_is_shown_to_nobody(gateway: LiveGateway, kind: str, job_id: str) -> None:
    """Its subject would stand in the message as it is."""
    reader = await gateway.reader()
    await reader.subscribe(all=True, progress=True, logs=True)
    await gateway.nc.publish(f"{kind}.{job_id}", GOOD)
    job = await gateway.lease(await gateway.submit("acme"))
    await gateway.report(job, 0.5)
    received = [await reader.receive() for _ in range(3)]
    # Reports and events come by different ways: which is first is not said.
    assert sorted(message["type"] for message in received) == ["event", "event", "progress"]
    assert {message.get("job_id", message.get("event", {}).get("job_id")) for message in received} == {job.id}


@pytest.mark.parametrize("attempt", [BIG, b"-" + BIG, b"1e400", b"[]"])
async def test_reports_with_numbers_beyond_all_bounds_leave_the_feed_whole(
    gateway: LiveGateway, attempt: bytes
) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True, progress=True, logs=True)
    job = await gateway.lease(await gateway.submit("acme"))
    fence = job.lease.fence if job.lease else 0
    odd = b'{"fence":%d,"attempt":%b,"tenant":"acme","kind":"simulate","line":"hi"}' % (fence, attempt)
    for kind in ("progress", "log"):
        await gateway.nc.publish(f"{kind}.{job.id}", odd)
    await gateway.report(job, 0.5)
    while (await reader.until("progress"))["progress"]["fraction"] != 0.5:
        pass
    later = await gateway.submit("acme")
    while (event := (await reader.until("event"))["event"])["job_id"] != later.id:
        pass
    assert event["type"] == "submitted"
