"""Gateways for the tests of its routes."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with a tenant of its own."""
    async with gateway(shared_broker.url, tmp_path) as running:
        yield running


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
