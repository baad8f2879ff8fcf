"""Gateways for the tests of its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker import SharedBroker
from tests.gateway.rest import Gateway, gateway


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with a tenant of its own."""
    async with gateway(shared_broker.url, tmp_path) as running:
        yield running
