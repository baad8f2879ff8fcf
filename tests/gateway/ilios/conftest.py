"""The house for most tests of the document door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.ilios.site import House, house


@pytest.fixture
async def here(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway with a worker."""
    async with house(shared_broker, tmp_path) as found:
        yield found
