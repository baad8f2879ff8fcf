from __future__ import annotations

from typing import Any

from switchyard.services.telemetry.part import Telemetry
from switchyard.services.worker.observing import Standing, observe
from switchyard.services.worker.slots import Slots
from tests.connectors.a1111.payloads import connector
from tests.worker.site import TestConnector


async def test_switches_of_models_are_counted_by_connector() -> None:
    async def none(_: Any) -> None:
        return

    telemetry = Telemetry("worker")
    one, other = connector("http://127.0.0.1:9"), connector("http://127.0.0.1:9", id="other")
    one.switches = 3
    standing = Standing(started=True, draining=False, seen=True, room=True)
    slots = Slots(2, lambda _: None, refit=lambda _: None)
    nc: Any = None
    observe(telemetry.part("worker"), nc, slots, [one, other, TestConnector(none)], lambda: standing)
    text = telemetry.text().decode()
    assert 'switchyard_model_switches_total{connector="a1111",part="worker"} 3.0' in text
    assert 'switchyard_model_switches_total{connector="other",part="worker"} 0.0' in text
    assert 'connector="simulate"' not in text
    for each in (one, other):
        await each.close()
