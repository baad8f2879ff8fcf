"""What a process says of itself whatever parts run in it, and the listener that says it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform
from collections.abc import AsyncIterator, Iterator
from typing import Final

from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from switchyard.services import clock
from switchyard.services.log import name_part
from switchyard.services.settings import Settings
from switchyard.services.telemetry.listener import Listener
from switchyard.services.telemetry.loop import Heartbeat
from switchyard.services.telemetry.names import BY_NAME
from switchyard.services.telemetry.part import Telemetry

PACKAGE: Final = "switchyard"


@contextlib.asynccontextmanager
async def observed(process: str, settings: Settings) -> AsyncIterator[Telemetry]:
    """The telemetry of this process, which listens where the settings say so, until the block ends.

    Args:
        process: the name of the part that runs in it, or `up`.
        settings: address, limits and names.

    Raises:
        CannotListenError: the address cannot be used.
    """
    name_part(process)
    telemetry = Telemetry(process, names=settings.metrics_names)
    heartbeat = Heartbeat()
    part = telemetry.part(process)
    part.registry.register(_Process(heartbeat))
    part.values("switchyard_loop_stuck_seconds", heartbeat.stuck_s)
    part.values("switchyard_clock_offset_seconds", clock.CLOCK.offset_s)
    beating = asyncio.create_task(heartbeat.run())
    try:
        if settings.metrics_port is None:
            yield telemetry
        else:
            with Listener(telemetry, heartbeat, settings):
                yield telemetry
    finally:
        beating.cancel()
        await asyncio.wait([beating])


class _Process(Collector):
    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def collect(self) -> Iterator[Metric]:
        build = InfoMetricFamily("switchyard_build", BY_NAME["switchyard_build"].meaning)
        build.add_metric((), {"version": version(), "python": platform.python_version()})
        yield build
        yield self._heartbeat.delays.family()


def version() -> str:
    """The version of the program, as it was installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
