"""The nudge: `WORK` sources `JOBS`, and after a change of leader the server retries that slowly."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client

from events import subjects
from events.errors import UnavailableError
from services.log_reader import api
from services.settings import Settings

log = structlog.get_logger()

LOOK_S = 0.5


async def watch_source(nc: Client, settings: Settings) -> None:
    """Ask the leader of `WORK` to step down while its source lags, until cancelled.

    Measured with three replicas: a source that stayed behind for 6 to 46 s after kill -9 of the leader of
    `JOBS` was current within a second of the step-down. A single server has no such gap and is left alone.
    """
    lagging_since: float | None = None
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            info = await api(nc, f"STREAM.INFO.{subjects.WORK}", timeout_s=settings.request_timeout_s)
        except UnavailableError:
            lagging_since = None
            continue
        lag = max((source.get("lag", 0) for source in info.get("sources", ())), default=0)
        replicated = bool(info.get("cluster", {}).get("replicas"))
        if not lag or not replicated:
            lagging_since = None
            continue
        lagging_since = lagging_since or loop.time()
        if loop.time() - lagging_since < settings.source_lag_s:
            continue
        try:
            await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=settings.request_timeout_s)
            await api(nc, f"STREAM.LEADER.STEPDOWN.{subjects.WORK}", timeout_s=settings.request_timeout_s)
        except UnavailableError as error:
            log.warning("source_not_nudged", error=str(error))
        else:
            log.info("source_nudged", lag=lag)
        lagging_since = None
