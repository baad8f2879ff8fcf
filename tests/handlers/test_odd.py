"""Whatever a handler hands over or does, its attempt ends by name and its worker continues."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest

from switchyard._worker.contained import install, ours
from switchyard.events.events import Dead, Succeeded
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from tests.handlers import hostile, odd
from tests.handlers.odd import ASYNC, CASES, CASES_OF_FILES, LARGE, PROCESS, THREAD, handlers
from tests.handlers.remains import Remains
from tests.worker.site import Site, open_site

SOURCE = "tests.handlers.odd:handlers"


@pytest.fixture
def no_threads_stay() -> Iterator[None]:
    hostile.GO.clear()
    yield
    hostile.GO.set()


async def check(site: Site, kind: str, cases: Mapping[str, odd.Case], results: Mapping[str, object]) -> None:
    """Run all cases at once; each ends as it says."""
    jobs = {name: await site.submit(kind=kind, payload={"case": name}, max_attempts=1) for name in cases}
    for name, job in jobs.items():
        case, event = cases[name], (await site.final(job)).event
        if case.code is None:
            assert isinstance(event, Succeeded), (name, event)
            assert name not in results or event.result == results[name], (name, event)
            continue
        assert isinstance(event, Dead), (name, event)
        assert event.error is not None, name
        assert (event.error.code, event.error.retryable) == (case.code, case.retryable), (name, event)
        assert case.says in event.error.message, (name, event.error.message[:300])


@pytest.mark.parametrize("kind", [ASYNC, THREAD, PROCESS])
async def test_what_does_not_fit_is_a_failure_that_names_it(kind: str, broker: NatsServer) -> None:
    connector = CustomConnector(handlers[kind], source=SOURCE, slots=2)
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(connector, slots=2):
        await check(site, kind, CASES, {})
        last = (await site.final(await site.submit(kind=kind, payload={"case": "fine"}))).event
        assert isinstance(last, Succeeded)
        assert last.result == {"fine": [None, [1, 2.5]]}


@pytest.mark.parametrize("kind", [hostile.ASYNC, hostile.THREAD, hostile.PROCESS])
@pytest.mark.usefixtures("no_threads_stay")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_would_end_the_worker_ends_its_attempt_alone(kind: str, broker: NatsServer) -> None:
    assert len(hostile.BOTH | hostile.ON_THE_LOOP | hostile.IN_A_THREAD) >= 60
    connector = CustomConnector(hostile.handlers[kind], source="tests.handlers.hostile:handlers", slots=2)
    beside = [CustomConnector(handlers[innocent], source=SOURCE, slots=1) for innocent in (THREAD, ASYNC)]
    install(asyncio.get_running_loop())
    with ours():  # as all is in the process of a worker
        async with (
            open_site(broker.url, lease_s=20.0) as site,
            Remains(),
            site.worker(connector, *beside, slots=4),
        ):
            innocent = [
                await site.submit(kind=other.kind, payload={"case": "fine"})
                for other in beside
                for _ in range(30)
            ]
            await check(site, kind, hostile.CASES[kind], hostile.RESULTS)
            for job in innocent:
                assert (await site.final(job)).name == "succeeded"
            last = (await site.final(await site.submit(kind=kind, payload={"case": "fine"}))).event
            assert isinstance(last, Succeeded)
            assert last.result == {"fine": True}
            hostile.GO.set()


@pytest.mark.parametrize("kind", [ASYNC, THREAD, PROCESS])
async def test_a_file_that_is_refused_ends_the_attempt_and_is_not_tried_again(
    kind: str, broker: NatsServer
) -> None:
    connector = CustomConnector(handlers[kind], source=SOURCE, slots=1)
    async with open_site(broker.url, lease_s=10.0, file_bytes=4_000) as site, site.worker(connector):
        event = (await site.final(await site.submit(kind=kind, payload={"case": LARGE}))).event
    assert isinstance(event, Dead), event
    assert event.error is not None
    assert (event.error.code, event.error.retryable) == (CASES_OF_FILES[LARGE].code, False)
    assert CASES_OF_FILES[LARGE].says in event.error.message
