"""Orders to fetch models, for a worker on NATS: whichever gateway hears its report answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.connectors.supply import Reply, Report, run_fetches
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.settings import Settings

_REPLY: Final = msgspec.json.Decoder(Reply)


class NatsSupply:
    """Reports over the broker.

    Args:
        nc: an open connection.
        worker: the id of the worker.
        timeout_s: seconds to wait for an answer.
    """

    def __init__(self, nc: Client, worker: str, *, timeout_s: float) -> None:
        self._nc = nc
        self._worker = worker
        self._timeout_s = timeout_s

    async def report(self, report: Report) -> Reply:
        """Say how it stands, and hear what is next.

        Raises:
            UnavailableError: no gateway answers.
        """
        body = msgspec.json.encode(msgspec.structs.replace(report, worker=self._worker))
        try:
            answer = await self._nc.request(subjects.MODEL_REPORTS, body, timeout=self._timeout_s)
            return _REPLY.decode(answer.data)
        except (nats.errors.Error, TimeoutError, msgspec.MsgspecError) as error:
            raise UnavailableError(f"no gateway says what to fetch: {type(error).__name__}") from error


async def follow_orders(
    nc: Client, worker: str, connectors: Iterable[object], lacking: Lacking, settings: Settings
) -> None:
    """Fetch what waiting jobs need, for all connectors of a worker that may, until cancelled.

    Args:
        nc: an open connection.
        worker: the id of the worker.
        connectors: those of the worker.
        lacking: what the worker was seen to lack.
        settings: timeouts.
    """
    supply = NatsSupply(nc, worker, timeout_s=settings.request_timeout_s)
    await run_fetches(connectors, supply, lambda: lacking.of(worker))
