"""Reviews as a person types them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system


def post(site: Site, path: str, body: Any, **headers: str) -> Any:
    """What a worker's request is answered."""
    token = site.connection["token"]
    request = urllib.request.Request(
        site.connection["url"] + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def propose(site: Site, job_id: str) -> None:
    claim = {"worker": "w", "kinds": ["draft"], "wait_s": 20}
    claimed = post(site, "/v1/leases", claim)
    assert claimed["job"]["id"] == job_id
    lease = claimed["lease"]
    token = {"Switchyard-Lease-Token": lease["token"]}
    post(site, f"/v1/leases/{lease['id']}/propose", {"result": "text"}, **token)


def test_a_proposed_result_is_listed_rejected_and_accepted(site: Site) -> None:
    rules = {"kind": "draft", "review": {"four_eyes": False}}
    job_id = post(site, "/v1/jobs", rules)["id"]
    propose(site, job_id)
    assert [job["id"] for job in site.json("review", "list", "--kind", "draft")["reviews"]] == [job_id]
    assert job_id in site.run("review", "list").stdout
    assert site.run("review", "reject", job_id).returncode == 2
    rejected = site.json("review", "reject", job_id, "--because", "short", "--feedback", '{"more": 1}')
    assert (rejected["state"], rejected["feedback"]) == ("queued", {"more": 1})
    propose(site, job_id)
    for verb in (("accept",), ("reject", "--because", "short")):  # the first attempt's, which has gone
        other = site.run("review", *verb, job_id, "--attempt", "1")
        assert (other.returncode, "attempt 2" in other.stderr) == (6, True)
    assert site.run("review", "accept", job_id, "--attempt", "2").stdout == "succeeded\n"
    again = site.run("review", "accept", job_id)
    assert (again.returncode, "archive" in again.stderr) == (site.run("cancel", job_id).returncode, True)
