from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.client import AsyncClient
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on the broker of its module."""
    async with gateway(shared_broker.url, tmp_path) as found:
        yield found


@pytest.fixture
async def client(api: Gateway) -> AsyncIterator[AsyncClient]:
    """A client of that gateway."""
    async with AsyncClient(api.url, api.token()) as found:
        yield found
