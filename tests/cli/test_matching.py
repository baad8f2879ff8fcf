"""Abilities, requirements, limits and explanations, as a person types them."""

from __future__ import annotations

import json

import pytest

from tests.cli.site import COMMAND_S, Site, deadline, first_line

pytestmark = pytest.mark.system


def test_a_job_waits_for_a_worker_with_the_ability_and_says_so(site: Site) -> None:
    job_id = site.run(
        "submit",
        "--kind",
        "simulate",
        "--payload",
        '{"duration_s": 0}',
        "--requires",
        '{"gpu.memory_gb": {"$gte": 16}}',
    ).stdout.strip()
    explained = site.run("explain", job_id)
    assert explained.returncode == 0
    assert explained.stdout.startswith("queued: no worker fits: 1 worker would fit if gpu.memory_gb")
    assert site.json("explain", job_id)["reason"] == "no_worker_fits"
    abilities = site.directory / "abilities.json"
    abilities.write_text(json.dumps({"gpu": {"memory_gb": 8}}))
    worker = site.open(
        "worker",
        "--kinds",
        "simulate",
        "--name",
        "gpu",
        "--capabilities",
        str(abilities),
        "--capability",
        "zone=b",
    )  # fmt: skip
    with worker, deadline(worker, COMMAND_S):
        first_line(worker.stdout, "ready")
        abilities.write_text(json.dumps({"gpu": {"memory_gb": 24}}))
        worker.send_signal(1)  # SIGHUP
        assert site.run("watch", job_id).returncode == 0
        job = site.json("get", job_id)
        assert job["worker"].startswith("gpu-")
        assert site.run("explain", job_id).stdout.startswith("succeeded: attempt 1 on gpu-")
        worker.terminate()
        assert worker.wait() == 0


def test_a_limit_is_set_shown_used_and_removed(site: Site) -> None:
    assert site.run("limit", "set", "api", "--concurrency", "2").returncode == 0
    done = site.run(
        "submit", "--kind", "simulate", "--payload", '{"duration_s": 0}', "--limit", "api", "--wait"
    )
    assert done.returncode == 0
    assert "api" in site.run("limit", "list").stdout
    assert site.json("limit", "show", "api")["concurrency"] == 2
    held = site.json("submit", "--kind", "simulate", "--payload", '{"duration_s": 60}', "--limit", "api")
    while held["id"] not in site.run("limit", "show", "api").stdout:  # the jobs that hold its places
        assert site.json("get", held["id"])["state"] in ("queued", "running")
    assert site.run("cancel", held["id"], "--yes").returncode == 0
    assert site.run("limit", "delete", "api").returncode == 0
    refused = site.run("submit", "--kind", "simulate", "--limit", "api")
    assert refused.returncode != 0
    assert "has no limit" in refused.stderr


def test_a_requirement_that_is_none_is_refused_with_its_place(site: Site) -> None:
    refused = site.run("submit", "--kind", "simulate", "--requires", '{"gpu": {"$foo": 1}}')
    assert refused.returncode != 0
    assert "requires.gpu.$foo" in refused.stderr


def test_what_a_tenant_has_of_what_all_share_is_shown_beside_its_limits(site: Site) -> None:
    shown = site.run("usage")
    assert shown.returncode == 0
    assert "jobs" in shown.stdout
    jobs = site.json("usage")["usage"]["jobs"]
    assert 0 <= jobs["used"] < jobs["limit"]
