"""Gateways for the tests of its routes."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from switchyard.services.gateway.http import connections
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway
from tests.gateway.shared import SharedGateway


@pytest.fixture(scope="module")
def shared_gateway(
    shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGateway]:
    """One gateway for the tests of a module."""
    running = SharedGateway(shared_broker.url, tmp_path_factory.mktemp("shared-gateway"))
    yield running
    running.stop()


@pytest.fixture
async def api(
    request: pytest.FixtureRequest, shared_broker: SharedBroker, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A gateway with a tenant of its own; by the marker `shared_gateway` that of the module."""
    if request.node.get_closest_marker("shared_gateway") is None:
        async with gateway(shared_broker.url, tmp_path) as running:
            yield running
        return
    shared: SharedGateway = request.getfixturevalue("shared_gateway")
    async with shared.visited() as running:
        yield running


@pytest.fixture
def many_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-ins that fail do not wait: whoever knocks at every route without a token would for a minute."""
    monkeypatch.setattr(connections, "FREE_FAILURES", 1_000_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)
