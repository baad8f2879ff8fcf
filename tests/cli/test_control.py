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


def test_a_dry_run_shows_which_dead_letters_would_start_again_and_starts_none(site: Site) -> None:
    first, second = (die(site) for _ in range(2))
    for verb in ("redrive", "discard"):
        found = site.json("dead", verb, "--code", "simulated", "--dry-run")["dead_letters"]
        assert [job["id"] for job in found] == [second, first]
        (one,) = site.json("dead", verb, first, "--dry-run")["dead_letters"]
        assert (one["id"], one["state"]) == (first, "dead")
    done = site.run("dead", "redrive", "--all", "--dry-run")
    assert "2 in all; nothing was done" in done.stderr
    assert first in done.stdout
    assert dead(site, "simulated") == [second, first]
    assert site.run("dead", "redrive", "--dry-run").returncode == 2
    site.run("dead", "discard", "--all", "--yes")
    gone = site.run("dead", "redrive", first, "--dry-run")
    assert gone.returncode == 1
    assert "archived, not dead" in gone.stderr


def test_a_list_has_the_order_and_the_fields_that_were_asked_for(site: Site) -> None:
    first, second = (die(site) for _ in range(2))
    done = site.json("list", "--state", "dead", "--sort", "created_at", "--fields", "state,error")["jobs"]
    assert [job["id"] for job in done] == [first, second]
    assert {frozenset(job) for job in done} == {frozenset({"id", "state", "error"})}
    heading, *rows = site.run("list", "--sort", "created_at", "--fields", "state, id").stdout.splitlines()
    assert heading.split() == ["state", "id"]
    assert [row.split()[:2] for row in rows[-2:]] == [["dead", first], ["dead", second]]
    assert "artifacts" in site.json("list", "--fields", "full", "--limit", "1")["jobs"][0]
    for wrong in (("--fields", "full"), ("--fields", ","), ("--sort", "kind")):
        assert site.run("list", *wrong).returncode == 2, wrong
    refused = site.run("list", "--fields", "nothing")
    assert refused.returncode == 6
    assert "fields" in refused.stderr
    site.run("dead", "discard", "--all", "--yes")


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


def test_what_is_watched_is_shown_again_with_every_change(site: Site) -> None:
    assert site.run("pause", "kind", "simulate").returncode == 0
    watching = site.open("queues", "--watch", "--json", "--kind", "simulate")
    assert watching.stdout is not None
    with deadline(watching, STOP_S):
        first_line(watching.stdout, '{"queues":[')
        job_id = submit(site)
        assert json.loads(first_line(watching.stdout, '"waiting":1'))["queues"][0]["kind"] == "simulate"
        watching.terminate()
        watching.communicate()
    assert "simulate" in site.run("queues", "--kind", "simulate").stdout
    assert site.run("cancel", job_id).returncode == 0
    assert site.run("resume", "kind", "simulate").returncode == 0
    workers = site.open("workers", "--watch")
    with deadline(workers, STOP_S):
        first_line(workers.stdout, "succeeded")
        workers.terminate()
        workers.communicate()
