"""Dead letters, priorities, pauses and drains as an operator types them."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.site import STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system


def submit(site: Site, kind: str = "simulate", **payload: object) -> str:
    done = site.run("submit", "--kind", kind, "--payload", json.dumps(payload))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def die(site: Site) -> str:
    job_id = submit(site, duration_s=0, fail="fatal")
    assert site.run("watch", job_id).returncode == 1
    assert site.json("get", job_id)["state"] == "dead"
    return job_id


def dead(site: Site, code: str) -> list[str]:
    return [job["id"] for job in site.json("dead", "list", "--code", code)["dead_letters"]]


def test_a_waiting_job_gets_another_priority(site: Site) -> None:
    job_id = submit(site, kind="nobody")
    assert site.run("priority", job_id, "77").stdout == "77\n"
    assert site.json("priority", job_id, "7")["priority"] == 7
    assert site.run("priority", job_id, "101").returncode == 2


def test_dead_letters_are_listed_redriven_and_discarded(site: Site) -> None:
    first, second, third = (die(site) for _ in range(3))
    assert dead(site, "simulated") == [third, second, first]
    assert "simulated" in site.run("dead", "list").stdout
    done = site.run("dead", "redrive", first, "--payload", '{"duration_s": 0}', "--priority", "60")
    assert done.stdout == "queued\n", done.stderr
    assert site.run("watch", first).returncode == 0
    assert site.run("dead", "discard", second, "--because", "old").stdout == "archived\n"
    assert site.json("get", second)["archived_as"] == "dead"
    assert site.json("dead", "discard", "--code", "simulated", "--yes") == {
        "discarded": 1,
        "skipped": 0,
        "refused": 0,
    }
    assert dead(site, "simulated") == []
    assert site.run("dead", "redrive", "--all", "--code", "simulated").stdout.startswith("redriven 0,")


def test_a_call_that_names_nothing_or_both_is_refused(site: Site) -> None:
    assert site.run("dead", "redrive").returncode == 2
    assert site.run("dead", "discard", "x", "--all").returncode == 2
    assert site.run("dead", "redrive", "--all", "--payload", "{}").returncode == 2


def test_a_kind_is_paused_and_resumed(site: Site) -> None:
    assert site.run("pause", "kind", "simulate").stdout == "kind simulate: paused\n"
    job_id = submit(site)
    assert "simulate" in site.run("paused").stdout
    assert site.run("resume", "kind", "simulate").stdout == "kind simulate: running\n"
    assert site.run("watch", job_id).returncode == 0
    assert site.json("paused") == {"controls": []}
    assert site.run("pause", "lane", "none-1").returncode == 5


def test_a_drained_worker_process_ends_by_itself(site: Site) -> None:
    process = site.open("worker", "--name", "drained", "--kinds", "simulate")
    first_line(process.stdout, "ready")
    (worker,) = [each["id"] for each in site.json("workers")["workers"] if each["id"].startswith("drained-")]
    assert site.run("pause", "worker", worker).stdout == f"worker {worker}: paused\n"
    assert site.json("workers", worker)["jobs"] == []
    assert site.run("drain", worker).stdout == f"worker {worker}: draining\n"
    with deadline(process, STOP_S):
        process.communicate()
    assert process.returncode == 0
    gone = site.run("workers", worker)
    assert gone.returncode == 5
    assert site.json("paused") == {"controls": []}


def test_a_worker_that_declares_too_much_is_refused_in_a_sentence(site: Site) -> None:
    (site.directory / "large.json").write_text(json.dumps({"models": ["m" * 1000] * 300}))
    refused = site.run("worker", "--kinds", "simulate", "--capabilities", "large.json")
    assert refused.returncode == 6
    line = refused.stderr.splitlines()[-1]
    assert re.fullmatch(r"switchyard: capabilities: [0-9]+ bytes as JSON, of at most 262144", line)
