"""Erasures on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchyard.client import Client
from tests.cli.site import Site

pytestmark = pytest.mark.system


def test_jobs_are_erased_after_a_question_and_shown(site: Site) -> None:
    with Client(site.connection["url"], site.connection["token"]) as client:
        jobs = [client.submit("erased-by-hand", {"n": n}, erasable=True).id for n in range(2)]
    for job in jobs:
        assert site.run("cancel", job).returncode == 0
    asked = site.run("erase", *jobs)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert "would erase 2" in site.run("erase", *jobs, "--dry-run").stdout
    assert "erased 2, erased before 0, refused 0" in site.run("erase", *jobs, "--yes").stdout
    assert "erased before 2" in site.run("erase", *jobs, "--yes").stdout
    refused = site.run("erase", "nobody", "--yes")
    assert (refused.returncode, "not_found" in refused.stdout) == (1, True)
    assert {one["job"] for one in site.json("erasures")["erasures"]} >= set(jobs)
    assert site.json("erasures", jobs[0])["keys"] == 1
    assert jobs[1] in site.run("erasures").stdout
    for wrong in ((), ("x", "--tenant", "t"), ("--label", "x")):
        assert site.run("erase", *wrong, "--yes").returncode == 2


def test_a_job_is_submitted_with_its_file_to_be_erased(site: Site, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>x</p>")
    asked = ("submit", "--kind", "erased-by-hand", "--json")
    job = site.json(*asked[:-1], "--file", str(page), "--erasable", "--erase-s", "3600", "--json")
    assert site.run("cancel", job["id"]).returncode == 0
    assert "erased 1" in site.run("erase", job["id"], "--yes").stdout
    certificate = site.json("erasures", job["id"])
    assert (certificate["keys"], len(certificate["scopes"])) == (2, 2)
    for wrong in (("--erase-s", "60"), ("--erasable", "--erase-s", "0"), ("--erasable", "--erase-s", "x")):
        assert site.run(*asked, *wrong).returncode != 0
