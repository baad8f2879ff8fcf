"""A broker whose time jumps, as where another node of a cluster, with another clock, comes to lead.

nats-server is linked statically, so its clock cannot be shifted by a preloaded library: a real one answers
over real sockets, and what it says of its time is moved on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.services import clock
from switchyard.services.broker import connection as connections
from switchyard.services.broker import topology
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.clock import BrokerClock
from switchyard.services.connectors.protocol import Attempt
from tests.worker.cable import Cable
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

TS = re.compile(rb'"ts":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z"')
JUMPS_S = (-300, 300)


class OtherTime(Cable):
    """Passes what a broker says, with its time moved by `shift_s`."""

    shift_s = 0

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readuntil(b"\r\n"):
                body = b""
                if line.startswith((b"MSG ", b"HMSG ")):
                    body = await reader.readexactly(int(line.split()[-1]) + 2)
                elif line.startswith((b"PUB ", b"HPUB ")):
                    writer.write(line + await reader.readexactly(int(line.split()[-1]) + 2))
                    continue
                writer.write(line + TS.sub(self._moved, body))
                await writer.drain()
        writer.transport.abort()

    def _moved(self, found: re.Match[bytes]) -> bytes:
        at = datetime.fromisoformat(found[1].decode()) + timedelta(seconds=self.shift_s)
        return b'"ts":"%b%bZ"' % (at.isoformat().encode(), found[2] or b"")  # as long as it was

    async def jump(self, shift_s: float) -> None:
        """Another node leads from now on, and connections are lost with the one before."""
        self.shift_s = int(shift_s)
        self.cut()
        self.repair()


@contextlib.asynccontextmanager
async def other_time(broker: NatsServer) -> AsyncIterator[OtherTime]:
    wire = OtherTime(broker.url)
    async with await wire.open():
        yield wire
        await wire.ended()


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test lets the process believe is forgotten at its end."""
    monkeypatch.setattr(clock.CLOCK, "_best", None)


def off_s(known: BrokerClock, wire: OtherTime) -> float:
    """How far a clock is from the time that the broker says."""
    return abs((known.now() - datetime.now(UTC)).total_seconds() - wire.shift_s)


async def until_followed(known: BrokerClock, wire: OtherTime) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while off_s(known, wire) >= 1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_a_jump_is_followed_after_a_reconnection_and_before_it_time_goes_on_as_it_was(
    broker: NatsServer, jump_s: int
) -> None:
    async with other_time(broker) as wire:
        nc = await connections.connect(wire.url, name="test")
        await topology.apply(nc)
        assert await clock.CLOCK.ask(nc)
        assert off_s(clock.CLOCK, wire) < 1
        before = clock.CLOCK._best
        wire.shift_s = jump_s
        assert clock.CLOCK._best is before  # nobody has been asked
        for there in (jump_s, 0):
            await wire.jump(there)
            await until_followed(clock.CLOCK, wire)
        await nc.close()


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_a_jump_is_followed_by_the_next_reading_without_a_reconnection(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    monkeypatch.setattr("switchyard.services.clock.REFRESH_S", 0.05)
    async with other_time(broker) as wire:
        nc = await connections.connect(wire.url, name="test")
        await topology.apply(nc)
        await until_followed(clock.CLOCK, wire)
        for there in (jump_s, 0):
            wire.shift_s = there
            await until_followed(clock.CLOCK, wire)
            assert nc.stats["reconnects"] == 0
        await nc.close()


async def lives_through(site: Site, wire: OtherTime, jump_s: int) -> str:
    """A job whose worker and keeper see the time jump there and back while it runs; its id."""
    began, ends = asyncio.Event(), asyncio.Event()

    async def handler(_: Attempt) -> None:
        began.set()
        await ends.wait()

    async with site.worker(TestConnector(handler), url=wire.url):
        job_id = await site.submit()
        await began.wait()
        for there in (jump_s, 0, jump_s):
            await wire.jump(there)
            await until_followed(clock.CLOCK, wire)
            await asyncio.sleep(2 * site.settings.lease_s)  # as long as it takes to lose one
        ends.set()
        await site.final(job_id)
    return job_id


@pytest.mark.system
@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_a_lease_that_is_held_outlives_every_jump_of_the_brokers_time(
    broker: NatsServer, jump_s: int
) -> None:
    settings = {"lease_s": 3.0, "request_timeout_s": 1.0}  # what a cut loses is asked again within a lease
    async with other_time(broker) as wire, open_site(broker.url, **settings) as direct:
        behind = Site(wire.url, direct.nc, direct.publisher, direct.settings)
        async with behind.keeper():
            job_id = await lives_through(direct, wire, jump_s)
        assert await direct.names(job_id) == ["submitted", "leased", "succeeded"]
