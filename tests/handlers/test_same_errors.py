"""An exception that a handler raises again and again gathers nothing of the attempts that it ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from switchyard.events.events import Dead, Succeeded
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from tests.handlers import hostile, same_errors
from tests.handlers.same_errors import (
    ASYNC,
    ERRORS,
    ON_CANCEL,
    OUTLIVES,
    OUTLIVES_IN_A_THREAD,
    PROCESS,
    PROCESS_LIVES,
    THREAD,
    alive,
    contexts,
    handlers,
)
from tests.worker.site import DEADLINE_S, Site, open_site

SOURCE = "tests.handlers.same_errors:handlers"
TIMES = 3


@pytest.fixture(autouse=True)
def no_search_for_cycles() -> Iterator[None]:
    """What lives until the next search may be much, when each attempt has a large payload."""
    contexts.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def none_lives() -> None:
    """Attempts end a little after their jobs."""
    async with asyncio.timeout(DEADLINE_S):
        while alive():
            await asyncio.sleep(0.01)


async def all_die(site: Site, kind: str, cases: list[str], *, times: int = TIMES, **options: float) -> None:
    for _ in range(times):
        for case in cases:
            job = await site.submit(kind=kind, payload={"case": case}, max_attempts=1, **options)
            event = (await site.final(job)).event
            assert isinstance(event, Dead), (case, event)
            if not options:
                assert event.error is not None
                assert same_errors.__name__.rpartition(".")[2] in event.error.traceback, case


@pytest.mark.parametrize("kind", [ASYNC, THREAD])
async def test_an_error_holds_nothing_of_attempts_that_have_ended(kind: str, broker: NatsServer) -> None:
    connector = CustomConnector(handlers[kind], source=SOURCE, slots=2)
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(connector, slots=2):
        await all_die(site, kind, list(ERRORS))
        assert len(contexts) == 2 * TIMES * len(ERRORS)
        await none_lives()


async def test_an_error_that_nobody_hears_holds_nothing_either(broker: NatsServer) -> None:
    connector = CustomConnector(handlers[ON_CANCEL], source=SOURCE, slots=2)
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(connector, slots=2):
        await all_die(site, ON_CANCEL, ["-"], attempt_timeout_s=0.2)
        assert len(contexts) == TIMES
        await none_lives()


@pytest.mark.parametrize("kind", [OUTLIVES, OUTLIVES_IN_A_THREAD])
async def test_nor_does_that_of_code_that_outlived_its_attempt(kind: str, broker: NatsServer) -> None:
    hostile.GO.clear()
    connector = CustomConnector(handlers[kind], source=SOURCE, slots=2)
    settings = {"cancel_grace_s": 0.2, "lost_slots": 100}
    async with open_site(broker.url, lease_s=10.0, **settings) as site, site.worker(connector, slots=2):
        try:
            await all_die(site, kind, ["-"], times=2, attempt_timeout_s=0.2)
            assert len(contexts) == 2
            assert alive() == 2
        finally:
            hostile.GO.set()
        await none_lives()


async def test_nor_does_it_in_a_process_that_serves_many_jobs(broker: NatsServer) -> None:
    connector = CustomConnector(handlers[PROCESS], source=SOURCE, slots=1)
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(connector):
        pids = set()
        for _ in range(2):
            await all_die(site, PROCESS, list(ERRORS))
            job = await site.submit(kind=PROCESS, payload={"case": PROCESS_LIVES})
            event = (await site.final(job)).event
            assert isinstance(event, Succeeded)
            pids.add(event.result["pid"])
            assert event.result["alive"] == 0
        assert len(pids) == 1
