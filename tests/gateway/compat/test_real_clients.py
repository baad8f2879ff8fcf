"""The public Python clients of Replicate, RunPod and OpenAI, installed for the test, with another URL."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.batches.site import keeper
from tests.gateway.compat.site import KIND, OPENAI_KINDS, compat

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
STEP_S = 400.0


async def ran(*command: str | Path) -> tuple[int, str]:
    """Run a program: its status, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(STEP_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")


@pytest.mark.parametrize(
    ("name", "script"),
    [("replicate", "use_replicate.py"), ("runpod", "use_runpod.py"), ("openai", "use_openai.py")],
)
async def test_the_public_client_works(
    shared_broker: SharedBroker, tmp_path: Path, name: str, script: str
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        (sys.executable, "-m", "venv", tmp_path / "venv"),
        (python, "-m", "pip", "install", "-q", name),
    ):
        status, said = await ran(*command)
        if status:
            pytest.skip(f"the client {name} cannot be installed from PyPI: {said[-300:]}")
    async with (
        compat(shared_broker, tmp_path / "data", "", compat_kinds=OPENAI_KINDS) as site,
        keeper(site.api),
    ):
        status, said = await ran(python, HERE / script, site.api.url, site.api.token(), KIND)
    assert status == 0, said
    assert said.splitlines()[-1] == '"done"'
