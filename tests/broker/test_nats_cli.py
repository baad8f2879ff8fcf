"""Every command of docs/nats-cli.md, run with the real `nats` program against real jobs."""

from __future__ import annotations

import asyncio
import os
import pty
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Repair
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import Stored
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.files.store import Files
from switchyard.services.records.lanes import lane_for
from switchyard.services.run.connection_file import ConnectionInfo, write
from tests.programs import NATS, needs_nats
from tests.worker.site import Site, TestConnector, open_site

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "nats-cli.md"
BLOCKS: list[str] = re.findall(r"```sh\n(.+?)\n```", PAGE.read_text(), re.DOTALL)
COMMANDS = [block for block in BLOCKS if block.startswith("nats ")]

pytestmark = needs_nats

# What each command shows; $ID is a job that has succeeded, $RUNNING one that runs while one more waits, and
# $DAMAGED one that was damaged by the message with sequence $SEQ.
SHOWS = {
    'nats sub --stream JOBS --all --count 3 "job.$ID.>"': (
        "job.$ID.submitted", "job.$ID.leased", "job.$ID.succeeded", "Switchyard-Actor: worker:w1",
        "Nats-Expected-Last-Subject-Sequence: 2",
    ),
    'nats stream view JOBS --subject "job.$ID.>"': ("job.$ID.succeeded",),
    'nats stream get JOBS --last-for "job.$ID.succeeded"': ("on Subject job.$ID.succeeded", '"result":1'),
    "nats stream get JOBS 1": ("JOBS#1", "job.$ID.submitted"),
    "nats sub --stream JOBS --since 1h --count 3 'job.>'": ("seq: 1 ", "seq: 2 ", "seq: 3 "),
    "nats sub --stream JOBS --start-sequence 2 --count 2 'job.>'": ("seq: 2 ", "seq: 3 "),
    "nats consumer ls WORK": ("$LANE_p50", "Ack Pending", "Unprocessed"),
    'nats consumer info WORK "$LANE"_p50': (
        "work.$LANE.50", "Outstanding Acks: 1 out of", "Unprocessed Messages: 1\n",
    ),
    "nats kv ls lanes": ("$LANE.50",),
    'nats kv get lanes "$LANE".50 --raw': ('"kind":"simulate"',),
    "nats kv ls workers": ("w1",),
    'nats kv get workers "$WORKER" --raw': ('"id":"w1"', '"fences":{', "$RUNNING"),
    'nats kv get capabilities "$WORKER" --raw': ('"id":"w1"', '"capabilities":{"simulate":true}'),
    "nats stream ls": ("JOBS", "WORK", "TIMERS"),
    "nats stream report": ("JOBS", "KV_workers", "OBJ_files", "Consumers", "Bytes", "Lost"),
    "nats stream info JOBS": ("job.>",),
    "nats stream subjects TIMERS": ("timer.set.$RUNNING.deadline",),
    "nats object ls files": ("acme/report", "5 B"),
    "nats stream subjects QUARANTINE": ("quarantine.JOBS.$SEQ",),
    'nats stream get QUARANTINE --last-for "quarantine.JOBS.$SEQ"': (
        "on Subject quarantine.JOBS.$SEQ", '"subject":"job.$DAMAGED.hello"', "there is no event named",
    ),
    'nats stream get JOBS "$SEQ"': ("JOBS#$SEQ", "job.$DAMAGED.hello", "not an event"),
    'nats sub --stream JOBS --all --count 3 "job.$DAMAGED.>"': (
        "job.$DAMAGED.submitted", "job.$DAMAGED.hello", "job.$DAMAGED.repaired",
    ),
    'nats stream purge QUARANTINE --subject "quarantine.JOBS.*" --force': ("Messages: 0",),
}  # fmt: skip
LIVE = "nats sub 'job.*.succeeded'"
DEADLINE_S = 90.0


@dataclass
class Example:
    """A system in which one job has succeeded, one runs, one waits, and one was damaged and repaired."""

    site: Site
    environment: dict[str, str]

    def shown(self, command: str) -> list[str]:
        """What the command shows here."""
        names = re.compile(r"\$(ID|LANE|RUNNING|SEQ|DAMAGED)")
        return [names.sub(lambda name: self.environment[name[1]], text) for text in SHOWS[command]]


@pytest.fixture
async def example(broker: NatsServer) -> AsyncIterator[Example]:
    go_on = asyncio.Event()

    async def handler(attempt: Attempt) -> int:
        if attempt.payload["n"] == "hold":
            await go_on.wait()
        return 1

    async def body() -> AsyncIterator[bytes]:
        yield b"hello"

    async with open_site(broker.url) as site, site.keeper(), site.worker(TestConnector(handler)):
        job_id = await site.submit(deadline_at=datetime.now(UTC) + timedelta(hours=1))
        await site.final(job_id)
        running = await site.submit("hold", deadline_at=datetime.now(UTC) + timedelta(hours=1))
        await site.until(running, "leased")
        await site.submit()
        await Files(site.nc, timeout_s=20).put(
            tenant="acme", file_id="report", name="report.txt", type="text/plain", body=body(),
            max_bytes=100, ttl_s=600,
        )  # fmt: skip
        damaged, seq = await _damaged(site)
        variables = {
            "PATH": f"{Path(str(NATS)).parent}:{os.environ['PATH']}",
            "NATS_URL": broker.url, "ID": job_id, "RUNNING": running, "LANE": lane_for("simulate"),
            "SEQ": str(seq), "DAMAGED": damaged, "WORKER": "w1", "NO_COLOR": "1", "TERM": "dumb",
        }  # fmt: skip
        yield Example(site, os.environ | variables)
        go_on.set()


async def _damaged(site: Site) -> tuple[str, int]:
    """A job that a stranger has damaged and an operator repaired, and the sequence of what damaged it."""
    job_id = await site.submit(kind="other")
    message = Stored(f"job.{job_id}.hello", {}, b"not an event", Seq(0), 0)
    seq = (await site.nc.jetstream().publish(message.subject, message.data)).seq
    message = msgspec.structs.replace(message, seq=seq)
    job = await site.store.load(JobId(job_id))
    assert job.damage is not None
    await set_aside(site.nc, subjects.JOBS, message, job.damage.reason)
    await site.store.transition(job, Repair(now=datetime.now(UTC), by="user:root"), actor="user:root")
    return job_id, seq


async def ran(command: str, environment: dict[str, str], directory: Path = ROOT) -> str:
    """What a command prints; it must succeed, and without a question to anybody."""
    process = await asyncio.create_subprocess_shell(
        command, env=environment, cwd=directory, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def at_a_terminal(command: str, environment: dict[str, str], until: str) -> str:
    """What a command prints at a terminal, up to a word; it is ended then."""
    controller, terminal = pty.openpty()
    process = await asyncio.create_subprocess_shell(
        f"exec {command}", env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    output = ""
    try:
        async with asyncio.timeout(60):
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


def test_the_page_has_the_commands_that_are_run_here() -> None:
    assert sorted(COMMANDS) == sorted([*SHOWS, LIVE])


@pytest.mark.parametrize("command", SHOWS)
async def test_a_documented_command_shows_what_the_page_says(example: Example, command: str) -> None:
    wanted = example.shown(command)
    if "stream view" in command:
        assert wanted[0] in await at_a_terminal(command, example.environment, wanted[0])
        return
    until = asyncio.get_running_loop().time() + DEADLINE_S
    output = await ran(command, example.environment)
    while missing := [text for text in wanted if text not in output]:
        # A timer and a heartbeat follow the event that they report.
        assert asyncio.get_running_loop().time() < until, (missing, output)
        await asyncio.sleep(0.1)
        output = await ran(command, example.environment)


async def test_the_address_comes_from_the_connection_file(example: Example, tmp_path: Path) -> None:
    url = example.environment["NATS_URL"]
    data_dir = tmp_path / ".switchyard"
    data_dir.mkdir()
    write(data_dir, ConnectionInfo(url="http://127.0.0.1:1", token="t", nats_url=url, pids={}))
    (export,) = [block for block in BLOCKS if block.startswith("export NATS_URL=")]
    without = {name: value for name, value in example.environment.items() if name != "NATS_URL"}
    assert "JOBS" in await ran(f"{export} && nats stream ls", without, tmp_path)


async def test_the_live_commands_see_a_job_as_it_succeeds(example: Example) -> None:
    process = await asyncio.create_subprocess_shell(
        f"exec {LIVE}", env=example.environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert b"Subscribing" in await process.stdout.readline()
            async with example.site.worker(TestConnector(_echo), name="w2"):
                job_id = await example.site.submit()
                while f"job.{job_id}.succeeded".encode() not in await process.stdout.readline():
                    assert not process.stdout.at_eof()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _echo(attempt: Attempt) -> int:
    return 1
