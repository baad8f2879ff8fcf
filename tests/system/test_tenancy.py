"""Two workers as processes and three tenants: who runs what, also when a worker is killed in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import READY_S, STOP_S, Site, deadline, first_line

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

TENANTS = ("acme", "blue", "crow")
LONG_S = 600


class Place(Site):
    """A `switchyard up` and what each tenant does there."""

    def said(self, tenant: str) -> dict[str, str]:
        """The environment of a tenant's commands."""
        made = self.run("token", "--tenant", tenant, "--role", "submitter")
        assert made.returncode == 0, made.stderr
        return {"SWITCHYARD_TOKEN": made.stdout.strip(), "SWITCHYARD_URL": self.connection["url"]}

    def submit(self, said: dict[str, str], seconds: float, *more: str) -> str:
        payload = json.dumps({"duration_s": seconds})
        made = self.run("submit", "--kind", "simulate", "--payload", payload, *more, **said)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def job(self, said: dict[str, str], job: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("get", job, "--json", **said).stdout)
        return found

    def until(self, said: dict[str, str], job: str, state: str) -> dict[str, Any]:
        ends_at = time.monotonic() + 3 * READY_S
        while (found := self.job(said, job))["state"] != state:
            assert time.monotonic() < ends_at, found
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    running = Place(tmp_path)
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


@contextmanager
def worker(place: Place, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = place.open(
        "worker", "--kinds", "simulate", "--name", name, *arguments, errors=subprocess.STDOUT
    )
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            process.communicate()


def test_two_workers_run_the_jobs_of_three_tenants_each_its_own(place: Place) -> None:
    acme, blue, crow = (place.said(tenant) for tenant in TENANTS)
    first = place.submit(acme, 0)  # at the head of the lane that all share
    with worker(place, "not-acme", "--exclude-tenant", "acme") as dying:
        mine = [place.submit(said, 0) for said in (blue, crow)]
        ran = [place.until(said, job, "succeeded") for said, job in zip((blue, crow), mine, strict=True)]
        assert all(job["worker"].startswith("not-acme") for job in ran)
        why = json.loads(place.run("explain", first, "--json", **acme).stdout)
        assert (why["reason"], why["workers"][0]["verdict"]) == ("no_worker_fits", "excluded")
        assert why["summary"].endswith("excludes your tenant")
        with worker(place, "acme-and-crow", "--tenant", "acme", "--tenant", "crow"):
            assert place.until(acme, first, "succeeded")["worker"].startswith("acme-and-crow")
            long = [place.submit(said, LONG_S) for said in (blue, crow, acme)]
            by = [
                place.until(said, job, "running") for said, job in zip((blue, crow, acme), long, strict=True)
            ]
            assert by[0]["worker"].startswith("not-acme")
            assert by[2]["worker"].startswith("acme-and-crow")
            dying.kill()  # its jobs are lost; only those of crow may run on the other one
            if by[1]["worker"].startswith("not-acme"):
                ends_at = time.monotonic() + 3 * READY_S
                while not (again := place.job(crow, long[1])).get("worker", "").startswith("acme-and-crow"):
                    assert time.monotonic() < ends_at, again
            place.until(blue, long[0], "queued")
            last = place.submit(acme, 0)
            place.until(acme, last, "succeeded")
            assert place.job(blue, long[0])["state"] == "queued"
            for said, job in zip((blue, crow, acme), long, strict=True):
                place.run("cancel", job, **said)


def test_strict_and_loose_isolation_hold_between_a_worker_of_one_tenant_and_one_of_two(place: Place) -> None:
    acme, blue, _ = (place.said(tenant) for tenant in TENANTS)
    with worker(place, "two", "--tenant", "acme", "--tenant", "blue"):
        strict = place.submit(acme, 0, "--isolation", "strict")
        plain = place.submit(acme, 0)
        assert place.until(acme, plain, "succeeded")["worker"].startswith("two")
        assert place.job(acme, strict)["state"] == "queued"
        with worker(place, "own", "--tenant", "acme"):
            assert place.until(acme, strict, "succeeded")["worker"].startswith("own")
            loose = place.submit(acme, 0, "--isolation", "loose")
            assert place.until(acme, loose, "succeeded")["worker"].startswith("own")
        assert place.until(blue, place.submit(blue, 0), "succeeded")["worker"].startswith("two")
