"""The agent worker with review in `examples/`, run against a gateway."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services.access.jwt import load_or_create_secrets, mint
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[2] / "examples" / "agent.py"


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path) as running:
        yield running


async def run(api: Gateway, verb: str, role: str) -> None:
    """Let the example do one turn, as a user of its own."""
    secret = load_or_create_secrets(api.settings.data_dir)[0]
    token = mint(secret, tenant=api.tenant, roles=[role], ttl_s=600, subject=f"{role}-{secrets.token_hex(4)}")
    environment = os.environ | {"URL": api.url, "TOKEN": token}
    process = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), verb, "1", env=environment)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_an_agents_work_is_rejected_with_feedback_and_then_accepted(api: Gateway) -> None:
    job = await api.submit(kind="agent", payload={"question": "why"})
    await run(api, "work", "worker")
    await run(api, "review", "reviewer")
    again = (await api.get(f"/v1/jobs/{job['id']}")).json
    assert (again["state"], again["rejections"]) == ("queued", 1)
    await run(api, "work", "worker")
    await run(api, "review", "reviewer")
    done = (await api.get(f"/v1/jobs/{job['id']}")).json
    assert (done["state"], done["result"]) == (
        "succeeded",
        {"text": "An answer to why", "sources": ["a book"]},
    )
