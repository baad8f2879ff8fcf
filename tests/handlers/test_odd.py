"""Whatever a handler hands over, its attempt ends by name and its worker goes on."""

from __future__ import annotations

import pytest

from events.history import Dead, Succeeded
from services.connectors.custom import CustomConnector
from services.nats_server import NatsServer
from tests.handlers.odd import ASYNC, CASES, CASES_OF_FILES, LARGE, PROCESS, THREAD, handlers
from tests.worker.site import open_site

SOURCE = "tests.handlers.odd:handlers"


@pytest.mark.parametrize("kind", [ASYNC, THREAD, PROCESS])
async def test_what_does_not_fit_is_a_failure_that_names_it(kind: str, broker: NatsServer) -> None:
    connector = CustomConnector(handlers[kind], source=SOURCE, slots=2)
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(connector, slots=2):
        jobs = {name: await site.submit(kind=kind, payload={"case": name}, max_attempts=1) for name in CASES}
        for name, job in jobs.items():
            case, event = CASES[name], (await site.final(job)).event
            if case.code is None:
                assert isinstance(event, Succeeded), (name, event)
                continue
            assert isinstance(event, Dead), (name, event)
            assert event.error is not None, name
            assert (event.error.code, event.error.retryable) == (case.code, case.retryable), (name, event)
            assert case.says in event.error.message, (name, event.error.message[:300])
        last = (await site.final(await site.submit(kind=kind, payload={"case": "fine"}))).event
        assert isinstance(last, Succeeded)
        assert last.result == {"fine": [None, [1, 2.5]]}


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
