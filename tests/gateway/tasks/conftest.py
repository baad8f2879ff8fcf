"""Gateways with a task door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway
from tests.gateway.tasks.site import door


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with a task door."""
    async with door(shared_broker, tmp_path) as running:
        yield running
