"""Gateways with an emp-redis door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import door
from tests.gateway.rest import Gateway


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an emp-redis door."""
    async with door(shared_broker, tmp_path) as running:
        yield running
