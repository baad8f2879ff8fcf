"""Every command of docs/nats-cli.md, run with the real `nats` program against real jobs."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.lanes import lane_for
from services.nats_server import NatsServer
from tests.worker.site import Site, TestConnector, open_site

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "nats-cli.md"
COMMANDS = [
    command for command in re.findall(r"```sh\n(.+?)\n```", PAGE.read_text(), re.DOTALL)
    if command.startswith("nats ")
]  # fmt: skip
PLACES = (ROOT / ".tools" / "bin" / "nats", Path.home() / "go" / "bin" / "nats")
NATS = shutil.which("nats") or next((str(place) for place in PLACES if place.exists()), None)

pytestmark = pytest.mark.skipif(
    NATS is None, reason="the nats CLI is missing: Go, which builds it, is not there"
)

SHOWS = {
    "stream view": "succeeded",
    "--all": "leased",
    "--last-for": '"result"',
    "get JOBS 1": "submitted",
    "--since": "submitted",
    "--start-sequence 2": "leased",
    "consumer ls": "_p50",
    "consumer info": "work.simulate-",
    "kv ls lanes": ".50",
    "kv get lanes": '"kind":"simulate"',
    "kv ls workers": "w1",
    "kv get workers": '"fences"',
    "stream ls": "JOBS",
    "stream info": "job.>",
    "stream subjects": "",
    "object ls": "",
}


@dataclass
class Example:
    """A system in which one job has succeeded."""

    site: Site
    environment: dict[str, str]


@pytest.fixture
async def example(broker: NatsServer) -> AsyncIterator[Example]:
    async def echo(attempt: object) -> int:
        return 1

    async with open_site(broker.url) as site, site.worker(TestConnector(echo)):
        job_id = await site.submit()
        await site.final(job_id)
        variables = {
            "PATH": f"{Path(str(NATS)).parent}:{os.environ['PATH']}",
            "NATS_URL": broker.url, "ID": job_id, "LANE": lane_for("simulate"), "WORKER": "w1",
            "NO_COLOR": "1", "TERM": "dumb",
        }  # fmt: skip
        yield Example(site, os.environ | variables)


async def at_a_terminal(command: str, environment: dict[str, str], until: str) -> str:
    """What a command prints at a terminal, up to a word; it is ended then."""
    controller, terminal = pty.openpty()
    process = await asyncio.create_subprocess_shell(
        f"exec {command}", env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    output = ""
    try:
        async with asyncio.timeout(20):
            while until not in output:
                try:
                    output += (await asyncio.to_thread(os.read, controller, 4096)).decode(errors="replace")
                except OSError:  # the program has ended
                    break
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(controller)
    return output


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("nats sub '")])
async def test_a_documented_command_shows_what_the_page_says(example: Example, command: str) -> None:
    wanted = next(shown for part, shown in SHOWS.items() if part in command)
    if "stream view" in command:
        assert wanted in await at_a_terminal(command, example.environment, wanted)
        return
    process = await asyncio.create_subprocess_shell(
        command, env=example.environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert wanted in output.decode()


async def test_the_live_commands_see_a_job_as_it_succeeds(example: Example) -> None:
    process = await asyncio.create_subprocess_shell(
        "exec nats sub 'job.*.succeeded'", env=example.environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert "nats sub 'job.*.succeeded'" in COMMANDS
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert b"Subscribing" in await process.stdout.readline()
        job_id = await example.site.submit()
        while job_id.encode() not in await process.stdout.readline():
            continue
    process.kill()
    await process.wait()
