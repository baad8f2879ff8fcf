from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.connectors.backend_conformance import BackendConformance, Stage
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import connector, scaled
from tests.worker.site import open_site


class ComfyBackEnd:
    """The double as the suite holds it."""

    def __init__(self, double: ComfyDouble) -> None:
        self._double = double

    def hold(self) -> None:
        self._double.execution.held.clear()

    def go(self) -> None:
        self._double.execution.held.set()

    def forget(self) -> None:
        self._double.restart()

    def ids(self) -> set[str]:
        return self._double.execution.ids()

    def runs(self) -> dict[str, int]:
        return dict(self._double.execution.runs)

    def stopped(self) -> list[str]:
        return self._double.stopped


class ComfyConformance(BackendConformance):
    generation = "2026"

    @pytest.fixture
    async def stage(self, broker: NatsServer) -> AsyncIterator[Stage]:
        double = ComfyDouble("2025" if self.generation == "2025" else "2026")
        async with double.running() as url, open_site(broker.url, timed_lease_s=6.0) as site, site.keeper():
            back_end = ComfyBackEnd(double)
            yield Stage(site, back_end, lambda: connector(url, slots=4), {"prompt": scaled()})


class TestFirstGeneration(ComfyConformance):
    generation = "2025"


class TestSecondGeneration(ComfyConformance):
    pass
