"""Whatever a connector hands over, its attempt ends by name and its worker continues."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from switchyard.events.events import Dead, Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import connection as broker_of
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import (
    Attempt,
    ConnectorError,
    FatalError,
    Outcome,
    RetryableError,
)
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.reports.reporter import Reporter
from tests.worker.site import DEADLINE_S, TestConnector, open_site

REFERENCE = {"file": "f", "name": "n", "type": "t/t", "size_bytes": 1, "sha256": "0"}


def fails(error: ConnectorError) -> Any:
    raise error


Case = tuple[Callable[[Attempt], Any], str, str]
CASES: dict[str, Case] = {
    "no outcome": (lambda _: {"result": 1}, "invalid_result", "dict"),
    "result": (lambda _: Outcome([math.nan]), "invalid_result", "result[0]: "),
    "usage": (lambda _: Outcome(usage={"x": "3"}), "invalid_usage", "usage.x: "),  # type: ignore[dict-item]
    "usage five": (lambda _: Outcome(usage=5), "invalid_usage", "usage: "),  # type: ignore[arg-type]
    "checks": (lambda _: Outcome(checks={"x": 1}), "invalid_checks", "checks.x: "),  # type: ignore[dict-item]
    "artifacts": (lambda _: Outcome(artifacts=({},)), "invalid_artifacts", "artifacts[0]: "),
    "artifact": (
        lambda _: Outcome(artifacts=(REFERENCE, REFERENCE | {"size_bytes": "1"})),
        "invalid_artifacts",
        "artifacts[1]: ",
    ),
    "artifact text": (
        lambda _: Outcome(artifacts=(REFERENCE | {"name": "\ud800"},)),
        "invalid_artifacts",
        "artifacts[0].name",
    ),
    "code": (lambda _: fails(FatalError(None, "failed")), "invalid_error", "failed"),  # type: ignore[arg-type]
    "retry": (lambda _: fails(RetryableError("a b", "failed")), "invalid_error", "failed"),
    "message": (lambda _: fails(FatalError("c", object())), "c", "object"),  # type: ignore[arg-type]
    "progress": (lambda attempt: attempt.progress("x"), "invalid_progress", "fraction: "),  # type: ignore[arg-type]
    "log": (lambda attempt: attempt.log(b"x"), "invalid_log", "line: "),  # type: ignore[arg-type]
}  # fmt: skip


class OddConnector(TestConnector):
    async def run(self, attempt: Attempt) -> Any:
        case = CASES.get(attempt.payload["n"])
        return case[0](attempt) if case else Outcome("fine", (REFERENCE,), {"pages": 1})

    def __init__(self) -> None:
        super().__init__(handler=lambda _: asyncio.sleep(0))


async def test_what_does_not_fit_is_a_failure_that_names_it(broker: NatsServer) -> None:
    async with open_site(broker.url, lease_s=10.0) as site, site.worker(OddConnector()):
        for name, (_, code, says) in CASES.items():
            event = (await site.final(await site.submit(name))).event
            assert isinstance(event, Dead), (name, event)
            assert event.error is not None
            assert (event.error.code, event.error.retryable) == (code, False), (name, event)
            assert says in event.error.message, (name, event)
        last = (await site.final(await site.submit("fine"))).event
        assert isinstance(last, Succeeded)
        assert (last.result, last.usage) == ("fine", {"pages": 1})


async def test_a_report_that_cannot_be_sent_holds_up_no_other(broker: NatsServer) -> None:
    nc = await broker_of.connect(broker.url, name="test")
    heard = await nc.subscribe("progress.>")
    lines = await nc.subscribe("log.>")
    publisher = Publisher(nc)
    await publisher.start()
    reporter = Reporter(nc, LogShare(10**6), publisher)
    for job, said in (("a", object()), ("b", "\ud800"), ("c", "x" * 2_000_000), ("d", 10**30), ("e", "fine")):
        reporter.progress(JobId(job), {"message": said})
        reporter.log(JobId(job), {"line": said, "tenant": "acme"})
    await reporter.flush()
    async with asyncio.timeout(DEADLINE_S):
        assert b"fine" in (await heard.next_msg(timeout=DEADLINE_S)).data
        assert b"fine" in (await lines.next_msg(timeout=DEADLINE_S)).data
    await publisher.close()
    await nc.close()
