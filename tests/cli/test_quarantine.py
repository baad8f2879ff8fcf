"""What cannot be read, and the jobs that it damages, as an operator meets them at a terminal."""

from __future__ import annotations

import json
import re
import subprocess

import nats
import orjson
import pytest
import structlog

from switchyard.services.cli.output import json_of
from switchyard.services.log import configure
from switchyard.services.visible import visible
from tests.cli.site import COMMAND_S, Site, deadline
from tests.cli.test_cli import submit

pytestmark = pytest.mark.system

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


async def publish(site: Site, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    nc = await nats.connect(site.connection["nats_url"])
    seq = (await nc.jetstream().publish(subject, body, headers=headers)).seq
    await nc.close()
    return seq


def plain(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, which no terminal obeys."""
    assert OBEYED.findall(done.stdout + done.stderr) == []
    return done.stdout


def until_set_aside(site: Site, seq: int) -> None:
    while site.run("quarantine", "show", "JOBS", str(seq)).returncode:
        pass


async def test_a_message_that_cannot_be_read_is_listed_shown_and_forgotten(site: Site) -> None:
    job_id = submit(site, duration_s=0)
    subject = f"job.{job_id}.hello{ESCAPE}"
    seq = await publish(site, subject, f"body{ESCAPE}\nmore".encode(), {"Odd": f"value{ESCAPE[:1]}"})
    until_set_aside(site, seq)

    row = next(each for each in site.json("quarantine", "list", "--stream", "JOBS")["quarantine"])
    assert (row["seq"], row["subject"]) == (seq, subject)
    for arguments in (("quarantine",), ("quarantine", "list", "--stream", "JOBS")):
        listed = plain(site.run(*arguments))
        assert "hello\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e" in listed
    assert site.json("quarantine", "list", "--stream", "WORK") == {"quarantine": [], "cursor": None}

    shown = plain(site.run("quarantine", "show", "JOBS", str(seq)))
    assert "body\\x1b]0;owned" in shown
    assert "\nmore" in shown
    assert "value\\x1b" in shown
    assert job_id in shown
    assert site.json("quarantine", "show", "JOBS", str(seq))["message"]["size_bytes"] > 10
    plain(site.run("quarantine", "show", "JOBS", str(seq), "--json"))

    assert site.run("quarantine", "forget", "JOBS", str(seq)).stdout == "forgotten 1\n"
    assert site.run("quarantine", "forget", "JOBS", str(seq)).returncode == 5
    assert site.run("quarantine", "show", "JOBS", str(seq)).returncode == 5
    for wrong in ((), ("JOBS",), ("JOBS", str(seq), "--all"), ("JOBS", "x")):
        assert site.run("quarantine", "forget", *wrong).returncode == 2


async def test_a_body_that_is_no_text_is_shown_byte_by_byte_and_all_are_forgotten(site: Site) -> None:
    job_id = submit(site, duration_s=0)
    seq = await publish(site, f"job.{job_id}.hello", bytes(range(250, 256)) * 5)
    until_set_aside(site, seq)
    shown = plain(site.run("quarantine", "show", "JOBS", str(seq)))
    assert "00000000  fa fb fc fd fe ff fa fb fc fd fe ff fa fb fc fd\n00000010  fe ff" in shown
    assert site.json("quarantine", "forget", "JOBS", "--all", "--yes")["forgotten"] >= 1
    assert site.run("quarantine", "forget", "--all", "--yes").stdout == "forgotten 0\n"


async def test_a_damaged_job_says_so_and_is_repaired(site: Site) -> None:
    # A kind that nobody runs, so that it stays where it is.
    job_id = site.json("submit", "--kind", "nobody")["id"]
    watching = site.open("watch", job_id, errors=subprocess.PIPE)
    with watching, deadline(watching, COMMAND_S):
        seq = await publish(site, f"job.{job_id}.hello{ESCAPE}", b"{")
        said = watching.communicate()
        assert watching.returncode == 1
    assert OBEYED.findall("".join(said)) == []
    assert "the job is damaged: event 'hello\\x1b" in said[1]
    assert f"switchyard repair {job_id}" in said[1]
    while job_id not in site.run("list", "--state", "damaged").stdout:
        pass

    again = site.run("submit", "--kind", "nobody", "--depends-on", job_id)
    assert again.returncode == 0, again.stderr
    for command in ("get", "history", "explain"):
        assert f"{seq}" in plain(site.run(command, job_id))
    refused = site.run("cancel", job_id)
    assert refused.returncode == 6
    plain(refused)
    assert "damaged" in refused.stderr

    assert site.run("repair", job_id, "--reason", "it was nothing").stdout == "queued\n"
    assert site.run("repair", job_id).returncode == 6
    assert "it was nothing" in plain(site.run("history", job_id))
    await publish(site, f"job.{job_id}.hello", b"{")
    assert site.json("repair", job_id, "--to", "dead")["state"] == "dead"


async def test_submit_does_not_wait_for_a_damaged_job(site: Site) -> None:
    line = ("submit", "--kind", "nobody", "--idempotency-key", "damaged", "--wait")
    job_id = site.json(*line[:-1])["id"]
    waiting = site.open(*line, errors=subprocess.PIPE)
    with waiting, deadline(waiting, COMMAND_S):
        await publish(site, f"job.{job_id}.hello", b"{")
        said = waiting.communicate()
        assert waiting.returncode == 1
    assert "the job is damaged" in said[1]
    done = site.run(*line)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"switchyard repair {job_id}" in done.stderr


async def test_the_doctor_counts_what_cannot_be_read_and_what_it_damages(site: Site) -> None:
    site.run("quarantine", "forget", "--all", "--yes")
    for job in site.json("list", "--state", "damaged")["jobs"]:
        site.run("repair", job["id"], "--to", "cancelled")
    checks = {check["what"]: check for check in site.json("doctor")}
    assert (checks["quarantine"]["status"], checks["quarantine"]["found"]) == ("ok", "nothing is unreadable")
    assert (checks["damaged jobs"]["status"], checks["damaged jobs"]["found"]) == ("ok", "none")

    job_id = site.json("submit", "--kind", "nobody")["id"]
    until_set_aside(site, await publish(site, f"job.{job_id}.hello", b"{"))
    while not site.json("list", "--state", "damaged")["jobs"]:
        pass
    checks = {check["what"]: check for check in site.json("doctor")}
    assert checks["quarantine"]["status"] == "warn"
    assert checks["quarantine"]["found"] == "1 message cannot be read: 1 in JOBS"
    assert "switchyard quarantine" in checks["quarantine"]["advice"]
    assert (checks["damaged jobs"]["status"], checks["damaged jobs"]["found"]) == ("warn", "1")
    assert "switchyard list --state damaged" in checks["damaged jobs"]["advice"]
    assert "switchyard repair" in checks["damaged jobs"]["advice"]


# --- The characters themselves


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 🙂", "plain é 漢 🙂"), ("\x1b[31m", "\\x1b[31m"), ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"), ("\x7f\x00", "\\x7f\\x00"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"), ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_says_the_same_with_control_characters_escaped() -> None:
    value = {"a\x9b": "\x1b\x9b\u202e\x7fé\n", "b": [1, None]}
    for indent in (False, True):
        text = json_of(value, indent=indent)
        assert json.loads(text) == orjson.loads(text) == value
        assert OBEYED.findall(text) == []


def test_a_log_at_a_terminal_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    configure(as_json=False)
    try:
        structlog.get_logger().warning("message_set_aside", subject="job.\x9b2J\x1b]0;owned", seq=1)
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert "job.\\x9b2J\\x1b]0;owned" in said
    assert "\x9b" not in said
