"""What a client has for each area of the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from switchyard._client.areas.batches import AsyncBatches, SyncBatches
from switchyard._client.areas.erasures import AsyncErasures, SyncErasures
from switchyard._client.areas.logs import AsyncLogs, SyncLogs
from switchyard._client.areas.models import AsyncModels, SyncModels
from switchyard._client.areas.prices import AsyncPrices, SyncPrices
from switchyard._client.areas.quotas import AsyncQuotas, SyncQuotas
from switchyard._client.areas.schedules import AsyncSchedules, SyncSchedules
from switchyard._client.areas.uploads import AsyncUploads, SyncUploads
from switchyard._client.areas.usage import AsyncUsage, SyncUsage
from switchyard._client.areas.workflows import AsyncWorkflows, SyncWorkflows
from switchyard._client.artifacts import AsyncArtifacts, SyncArtifacts
from switchyard._client.keys import AsyncKeys, SyncKeys
from switchyard._client.servers import AsyncServers, SyncServers
from switchyard._client.transport import Transport


class AsyncAreas:
    """Those of the client for asyncio."""

    def __init__(self, transport: Transport) -> None:
        self.keys = AsyncKeys(transport)
        self.servers = AsyncServers(transport)
        self.models = AsyncModels(transport)
        self.artifacts = AsyncArtifacts(transport)
        self.workflows = AsyncWorkflows(transport)
        self.usage = AsyncUsage(transport)
        self.prices = AsyncPrices(transport)
        self.quotas = AsyncQuotas(transport)
        self.erasures = AsyncErasures(transport)
        self.batches = AsyncBatches(transport)
        self.uploads = AsyncUploads(transport)
        self.schedules = AsyncSchedules(transport)
        self.logs = AsyncLogs(transport)


class SyncAreas:
    """Those of the other client, over the first one's."""

    def __init__(
        self,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        each: Callable[[AsyncGenerator[Any, None]], Iterator[Any]],
        areas: AsyncAreas,
    ) -> None:
        self.keys = SyncKeys(run, areas.keys)
        self.servers = SyncServers(run, areas.servers)
        self.models = SyncModels(run, areas.models)
        self.artifacts = SyncArtifacts(run, areas.artifacts)
        self.workflows = SyncWorkflows(run, areas.workflows)
        self.usage = SyncUsage(run, areas.usage)
        self.prices = SyncPrices(run, areas.prices)
        self.quotas = SyncQuotas(run, areas.quotas)
        self.erasures = SyncErasures(run, areas.erasures)
        self.batches = SyncBatches(run, each, areas.batches)
        self.uploads = SyncUploads(run, areas.uploads)
        self.schedules = SyncSchedules(run, areas.schedules)
        self.logs = SyncLogs(each, areas.logs)
