from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.connectors.backend_conformance import BackendConformance, Stage
from tests.connectors.backend_connector import DoubleConnector
from tests.gateway.backends.backend_double import BackendDouble
from tests.worker.site import open_site


class DoubleBackEnd:
    """The double as the suite holds it."""

    def __init__(self, double: BackendDouble) -> None:
        self._double = double

    def hold(self) -> None:
        self._double.held.clear()

    def go(self) -> None:
        self._double.held.set()

    def forget(self) -> None:
        self._double.forget()

    def ids(self) -> set[str]:
        return set(self._double.work)

    def runs(self) -> dict[str, int]:
        return dict(self._double.runs)

    def stopped(self) -> list[str]:
        return self._double.stopped


class TestDouble(BackendConformance):
    @pytest.fixture
    async def stage(self, broker: NatsServer) -> AsyncIterator[Stage]:
        double = BackendDouble(list)
        async with double.running() as url, open_site(broker.url, timed_lease_s=6.0) as site, site.keeper():
            yield Stage(site, DoubleBackEnd(double), lambda: DoubleConnector(url), {"number": 1})
