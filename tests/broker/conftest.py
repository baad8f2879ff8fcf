"""Brokers for the tests of what is laid out on them."""

from __future__ import annotations

import pytest

from switchyard.services.broker.server.server import NatsServer


@pytest.fixture
def broker(empty_broker: NatsServer) -> NatsServer:
    """An empty broker for one test, which may kill and restart it."""
    return empty_broker
