"""The worker of curl and jq in `examples/`, run against a gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway, gateway

MISSING = [tool for tool in ("bash", "curl", "jq") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        bool(MISSING), reason=f"{', '.join(MISSING)} missing: apt-get install {' '.join(MISSING)}"
    ),
]

SCRIPT = Path(__file__).parents[2] / "examples" / "worker.sh"


@asynccontextmanager
async def shell_worker(api: Gateway, *command: str) -> AsyncIterator[None]:
    environment = os.environ | {"URL": api.url, "TOKEN": api.token("worker"), "KIND": api.tenant}
    process = await asyncio.create_subprocess_exec(str(SCRIPT), *command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(shared_broker.url, tmp_path) as running:
        yield running


async def test_a_command_becomes_a_worker(api: Gateway) -> None:
    async with shell_worker(api, "jq", "-r", ".word | ascii_upcase"):
        for word in ("one", "two"):
            answer = await api.call(
                "POST", "/v1/jobs?wait=15", {"kind": api.tenant, "payload": {"word": word}}
            )
            assert answer.json["result"] == {"output": f"{word.upper()}\n"}, answer.json


async def test_a_command_that_fails_fails_its_job(api: Gateway) -> None:
    async with shell_worker(api, "sh", "-c", "echo broken >&2; exit 3"):
        body = {"kind": api.tenant, "max_attempts": 1}
        answer = await api.call("POST", "/v1/jobs?wait=15", body)
        assert (answer.json["state"], answer.json["error"]["message"]) == ("dead", "broken\n")
