"""Mistral's batch API as a back end that carries documents on by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.connectors import BackendConnector
from switchyard.services.broker.server.server import NatsServer
from tests.connectors.backend_conformance import BackendConformance, Stage
from tests.connectors.convert.bench import Bench, pdf
from tests.connectors.convert.double.mistral import MistralDouble
from tests.connectors.convert.test_workers import stored
from tests.gateway.rest import gateway
from tests.worker.site import open_site

pytestmark = [pytest.mark.drill]
FOR_EVER = 10**9


class Batches:
    """The double as the suite holds it."""

    def __init__(self, double: MistralDouble) -> None:
        self._double = double

    def hold(self) -> None:
        self._double.polls_left = FOR_EVER

    def go(self) -> None:
        self._double.polls_left = 0

    def forget(self) -> None:
        self._double.jobs.clear()

    def ids(self) -> set[str]:
        return set(self._double.jobs)

    def runs(self) -> dict[str, int]:
        return Counter(job["id"] for job in self._double.jobs.values() if job["status"] == "SUCCESS")

    def stopped(self) -> list[str]:
        return [job["id"] for job in self._double.jobs.values() if job["status"] == "CANCELLED"]


class TestMistralBatches(BackendConformance):
    short_s = 15.0  # a child process looks at the document first

    @pytest.fixture
    async def stage(self, broker: NatsServer, bench: Bench, tmp_path: Path) -> AsyncIterator[Stage]:
        async with (
            open_site(broker.url, timed_lease_s=6.0) as site,
            gateway(broker.url, tmp_path / "gateway") as api,
            site.keeper(),
        ):
            api.tenant = "acme"  # as the site submits
            file = await stored(api, pdf(tmp_path / "a.pdf", 1))

            def make() -> BackendConnector:
                made = bench.converter(slots=4, mistral={"batch_poll_s": 0.05})
                assert isinstance(made, BackendConnector)
                return made

            yield Stage(site, Batches(bench.mistral), make, {"file": file, "batch": True})
