"""What handlers show is to be seen while they run, in each way to run them, under both sorts of workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from switchyard.client import AsyncClient, JobFailedError, Preview, PreviewShown
from switchyard.handlers import Fatal, Handlers
from switchyard.services.broker.connection import connect
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.worker.worker import Worker
from switchyard.testing import Harness
from tests.gateway.rest import Gateway, gateway
from tests.handlers import previewing
from tests.images import EACH
from tests.switchyard.test_worker import made, working

DEADLINE_S: Final = 60.0
SORTS: Final = ("nats", "rest")


@pytest.fixture
async def api(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(broker.url, tmp_path) as found:
        yield found


@pytest.fixture
async def client(api: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(api.url, api.token()) as found:
        yield found


@contextlib.asynccontextmanager
async def on_nats(api: Gateway, kind: str, telemetry: Telemetry) -> AsyncIterator[None]:
    handler = previewing.handlers[kind]
    connector = CustomConnector(handler, source="tests.handlers.previewing:handlers", slots=1)
    nc = await connect(api.nc.connected_url.geturl(), name="worker")  # type: ignore[union-attr]
    settings = api.settings.model_copy(update={"slots": 1})
    worker = Worker(nc, [connector], settings, worker_id="w", telemetry=telemetry)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        await worker.ready.wait()
        try:
            yield
        finally:
            worker.stop()
    await nc.close()


@contextlib.asynccontextmanager
async def over_rest(api: Gateway, kind: str) -> AsyncIterator[None]:
    found = Handlers()
    found.add(previewing.handlers[kind])
    async with working(made(api, handlers=found, vigil=False)):
        yield


@contextlib.asynccontextmanager
async def at_work(
    api: Gateway, sort: str, kind: str, telemetry: Telemetry | None = None
) -> AsyncIterator[None]:
    """A worker with one kind, until the block ends."""
    entered = over_rest(api, kind) if sort == "rest" else on_nats(api, kind, telemetry or Telemetry("worker"))
    async with entered:
        yield


async def preview_of(client: AsyncClient, job_id: str) -> Preview:
    """The job's last preview, once there is one."""
    async with asyncio.timeout(DEADLINE_S):
        while (found := await client.preview(job_id)) is None:
            await asyncio.sleep(0.02)
    return found


def numbers(telemetry: Telemetry) -> dict[str, float]:
    """What a worker has counted, by outcome."""
    family = telemetry.part("worker").counter("switchyard_previews")
    [metric] = family.collect()
    return {
        sample.labels["outcome"]: sample.value for sample in metric.samples if sample.name.endswith("_total")
    }


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("kind", previewing.KINDS)
async def test_what_a_handler_shows_is_seen_while_it_runs(
    api: Gateway, client: AsyncClient, tmp_path: Path, kind: str, sort: str
) -> None:
    async with at_work(api, sort, kind):
        for what, media_type in (("small", "image/webp"), ("view", "image/gif"), ("large", "image/jpeg")):
            go = tmp_path / what
            job = await client.submit(kind, {"what": what, "go": str(go)})
            seen: list[PreviewShown] = []
            async with contextlib.aclosing(client.follow(job.id, previews=True)) as messages:
                async for message in messages:
                    if isinstance(message, PreviewShown):
                        seen.append(message)
                        last = await preview_of(client, job.id)
                        assert last == Preview(message.data, message.media_type)
                        go.touch()
            assert [(one.job_id, one.attempt, one.media_type) for one in seen] == [(job.id, 1, media_type)]
            assert seen[0].data == EACH[media_type] if what != "large" else len(seen[0].data) < 256 * 1024
            assert (await client.get(job.id)).result == "done"
            assert await client.preview(job.id) is None


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("kind", previewing.KINDS)
async def test_a_hostile_handler_harms_neither_its_job_nor_its_worker(
    api: Gateway, client: AsyncClient, tmp_path: Path, kind: str, sort: str
) -> None:
    telemetry = Telemetry("worker")
    async with at_work(api, sort, kind, telemetry):
        for what in ("flood", "hostile"):
            go = tmp_path / what
            job = await client.submit(kind, {"what": what, "go": str(go)})
            assert (await preview_of(client, job.id)).media_type in ("image/png", "image/jpeg")
            go.touch()
            assert await client.result(job.id) == "done"
    if sort == "nats":
        counted = numbers(telemetry)
        assert counted["too_fast"] >= 900
        assert counted["sent"] >= 2
        assert sum(counted.values()) == 1008


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("kind", previewing.KINDS)
async def test_what_is_no_preview_is_the_handlers_fault(
    api: Gateway, client: AsyncClient, tmp_path: Path, kind: str, sort: str
) -> None:
    async with at_work(api, sort, kind):
        for what, field in (("page", "media_type"), ("text", "data")):
            job = await client.submit(kind, {"what": what, "go": str(tmp_path)})
            with pytest.raises(JobFailedError) as failed:
                await client.result(job.id)
            error = failed.value.job.error
            assert error is not None
            assert (error.code, error.message.partition(":")[0]) == ("invalid_preview", field)


async def test_the_harness_keeps_what_a_handler_shows(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    harness = Harness(previewing.handlers)
    for kind in previewing.KINDS:
        done = await harness.run(kind, {"what": "view", "go": str(tmp_path / "go")})
        assert done.previews == [(EACH["image/gif"], "image/gif")]
        done = await harness.run(kind, {"what": "page", "go": str(tmp_path / "go")})
        assert isinstance(done.error, Fatal)
