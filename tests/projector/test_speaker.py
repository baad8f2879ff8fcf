"""What concerns the whole system is exported by one of several projectors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from switchyard.events import subjects
from switchyard.services.broker.connection import connect
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.projector import observing, speaker
from switchyard.services.projector.projector import Projector
from switchyard.services.projector.speaker import Speaker
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry
from tests.gateway.rest import Gateway, gateway

DEADLINE_S = 60.0


@contextlib.asynccontextmanager
async def speaking(url: str) -> AsyncIterator[Speaker]:
    """One that announces itself until the block ends."""
    nc = await connect(url, name="test")
    found = Speaker(nc)
    running = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        running.cancel()
        await asyncio.wait([running])
        await nc.close()


async def until(found: Speaker, speaks: bool) -> None:  # noqa: FBT001 - what is waited for
    async with asyncio.timeout(DEADLINE_S):
        while found.speaks is not speaks:
            await asyncio.sleep(0.01)


async def test_the_one_that_started_first_speaks_and_the_next_when_it_has_ended(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker, "BEAT_S", 0.1)
    async with contextlib.AsyncExitStack() as others:
        async with speaking(broker.url) as first:
            second = await others.enter_async_context(speaking(broker.url))
            await until(second, speaks=False)
            third = await others.enter_async_context(speaking(broker.url))
            await until(third, speaks=False)
            assert first.speaks
            monkeypatch.setattr(speaker, "LOST_S", 1.0)
        await until(second, speaks=True)
        await until(third, speaks=False)


async def test_what_no_projector_says_silences_nobody(broker: NatsServer) -> None:
    async with speaking(broker.url) as found:
        nc = await connect(broker.url, name="stranger")
        for said in (b"", b"9" * 20, b"x" * 1000, b"00000000001.000000-0000000\xff"):
            await nc.publish(subjects.SPEAKERS, said)
        await nc.flush()
        async with speaking(broker.url) as other:
            await until(other, speaks=False)  # so what was said before has arrived
        assert found.speaks
        await nc.close()


def jobs_in(telemetry: Telemetry) -> float:
    families = text_string_to_metric_families(telemetry.text().decode())
    return sum(
        sample.value for family in families if family.name == "switchyard_jobs" for sample in family.samples
    )


async def jobs_of(api: Gateway) -> float:
    text = (await api.get("/metrics", token=api.token("operator"))).raw.decode()
    families = text_string_to_metric_families(text)
    return sum(
        sample.value for family in families if family.name == "switchyard_jobs" for sample in family.samples
    )


async def test_jobs_are_counted_once_with_two_read_models(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker, "BEAT_S", 0.1)
    monkeypatch.setattr(observing, "FRESH_S", 0.0)
    async with gateway(broker.url, tmp_path / "one") as api:
        await api.bulk(*({"kind": "noop"} for _ in range(5)))
        other = Telemetry("projector")
        nc = await connect(broker.url, name="other")
        settings = Settings(data_dir=tmp_path / "two", request_timeout_s=3.0)
        (tmp_path / "two").mkdir()
        projector = Projector(nc, settings, telemetry=other)
        running = asyncio.create_task(projector.run())
        await projector.ready.wait()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await other.refresh()
                if (
                    b'switchyard_speaks_for_all{part="projector"} 0.0' in other.text()
                    and await jobs_of(api) == 5
                ):
                    break
        assert jobs_in(other) == 0
        assert b"switchyard_projection_lag_events" in other.text()
        running.cancel()
        await asyncio.wait([running])
        await nc.close()
