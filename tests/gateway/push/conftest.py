"""A gateway for the tests of what is pushed to servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.gateway.shared import SharedGateway


@pytest.fixture(scope="module")
def loopback_gateway(
    request: pytest.FixtureRequest, shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGateway]:
    """One that allows servers on loopback, for the tests of a module, with the module's `LIMITS` if any."""
    limits: dict[str, Any] = getattr(request.module, "LIMITS", {})
    running = SharedGateway(
        shared_broker.url, tmp_path_factory.mktemp("loopback-gateway"),
        server_networks=PRIVATE, timed_lease_s=4.0, push_connect_s=2.0, **limits,
    )  # fmt: skip
    yield running
    running.stop()
