"""Brokers and connections for all tests."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from nats.aio.client import Client

from switchyard.services.broker.connection import connect
from switchyard.services.broker.server.server import NatsServer, start_broker
from tests.broker.laid_out import start_laid_out
from tests.broker.shared import SharedBroker
from tests.scratch import write_into_memory
from tests.sizes import load_profiles

load_profiles()
write_into_memory()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell puts into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
EARLY: Final = 0.8
pytest_plugins = ["tests.logs", "tests.overdue", "tests.rewriting"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread files with tests that run programs over the first part of the others.

    They are few and long: all together would be too much for the machine, and the last would run alone.
    """
    programs = {item.path for item in items if item.get_closest_marker("system") is not None}
    files = dict.fromkeys(item.path for item in items)
    turns: dict[Path, float] = {}
    for some, until in (
        ([path for path in files if path in programs], EARLY),
        ([*files.keys() - programs], 1),
    ):
        turns |= {path: until * n / len(some) for n, path in enumerate(sorted(some))}
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A broker for one test, which may kill and restart it: it has all streams, and nothing in them."""
    server = await start_laid_out(tmp_path_factory.mktemp("broker"))
    yield server
    await server.stop()


@pytest.fixture
async def empty_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A broker for one test, without any stream."""
    server = await start_broker(tmp_path_factory.mktemp("empty-broker"))
    yield server
    await server.stop()


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """One broker for the tests of a module that keep to job ids, subjects and streams of their own.

    Not one for all: whatever starts on a broker reads all that is there, of every test before.
    """
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
