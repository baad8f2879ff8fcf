"""What is said beside results: lines of the log, how many there are in all, and how a job has ended."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system

TRACE = "0af7651916cd43dd8448eb211c80319c"


def submitted(site: Site, **headers: str) -> str:
    """A job that was sent over REST and has ended."""
    token = site.connection["token"]
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    body = json.dumps({"kind": "simulate", "payload": {"duration_s": 0}}).encode()
    request = urllib.request.Request(f"{site.connection['url']}/v1/jobs?wait=30", body, sent)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.loads(answer.read())["id"])


def lines(site: Site) -> list[dict[str, Any]]:
    """What `up` has logged until now, whole lines alone."""
    whole, _, _ = site.log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def ends(site: Site, job: str) -> list[dict[str, Any]]:
    """The lines in which its attempts have ended."""
    return [one for one in lines(site) if one["event"] == "job_ended" and one["job"] == job]


def test_a_line_of_the_log_is_json_and_says_of_which_part_process_and_attempt_it_is(site: Site) -> None:
    job = submitted(site, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    while not (ended := ends(site, job)):
        pass
    found = lines(site)
    assert site.process is not None
    assert {one["pid"] for one in found} == {site.process.pid}
    assert {one["version"] for one in found} == {site.run("--version").stdout.split()[-1]}
    assert {"keeper", "worker", "gateway"} <= {one["part"] for one in found}
    (line,) = ended
    assert (line["part"], line["outcome"]) == ("worker", "complete")
    assert line["fence"] > 0
    assert TRACE in line["trace"]
    asked = [one for one in found if one["event"] == "request"]
    assert {"method", "route", "status", "tenant", "ms", "request_id"} <= asked[-1].keys()


def test_a_log_for_people_has_no_colours_in_a_file(tmp_path: Path) -> None:
    own = Site(tmp_path, SWITCHYARD_LOG_FORMAT="console")
    try:
        own.up("--no-worker")
    finally:
        own.close()
    said = own.log.read_text()
    assert "keeper_started" in said
    assert "\x1b" not in said


def test_a_list_says_how_many_there_are_in_all(site: Site) -> None:
    made = [site.json("submit", "--kind", "counted")["id"] for _ in range(3)]
    while made[-1] not in site.run("list", "--kind", "counted").stdout:
        pass
    done = site.run("list", "--kind", "counted", "--limit", "2")
    assert (len(done.stdout.splitlines()), done.stderr) == (3, "2 of 3\n")
    assert site.run("list", "--kind", "counted", "--limit", "3").stderr == ""


def test_watching_a_job_that_has_ended_says_how(site: Site) -> None:
    job = site.json("submit", "--kind", "nobodys")["id"]
    site.run("cancel", job, "--yes", "--reason", "not wanted")
    done = site.run("watch", job)
    assert (done.returncode, "cancelled" in done.stdout + done.stderr) == (1, True), done
    died = site.json("submit", "--kind", "simulate", "--payload", '{"duration_s": 0, "fail": "fatal"}')["id"]
    site.run("result", died, "--wait")
    done = site.run("watch", died)
    assert (done.returncode, "the job is dead: " in done.stderr) == (1, True), done
