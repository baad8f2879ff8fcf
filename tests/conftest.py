"""Brokers and connections for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from nats.aio.client import Client

from switchyard.services.broker.connection import connect
from switchyard.services.broker.server.server import NatsServer, start_broker
from tests.broker.shared import SharedBroker


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """An empty broker for one test, which may kill and restart it."""
    server = await start_broker(tmp_path_factory.mktemp("broker"))
    yield server
    await server.stop()


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """One broker for all tests that keep to job ids, subjects and streams of their own."""
    server = SharedBroker(tmp_path_factory.mktemp("shared-broker"))
    yield server
    server.stop()


@pytest.fixture
async def nats_connection(broker: NatsServer) -> AsyncIterator[Client]:
    """A connection to this test's own broker."""
    connection = await connect(broker.url, name="test")
    yield connection
    with contextlib.suppress(OSError):  # the test may have killed the broker
        await connection.close()
