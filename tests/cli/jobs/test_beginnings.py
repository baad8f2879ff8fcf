"""Jobs by the beginning of their id, the way back after Ctrl-C, and kinds that nobody runs."""

from __future__ import annotations

import re
import shlex
import signal
from itertools import takewhile
from typing import Final

import click
import pytest

from switchyard.services.cli.root import cli
from tests.cli.site import Site
from tests.cli.terminal import at_terminal
from tests.cli.test_asking import commands

pytestmark = pytest.mark.system

TRIED: Final = (
    "again JOB", "archive JOB --yes", "artifacts JOB", "cancel JOB --dry-run", "dead discard JOB --dry-run",
    "dead redrive JOB --dry-run", "erase JOB --dry-run", "erasures JOB", "explain JOB", "get JOB --json",
    "history JOB", "logs JOB", "priority JOB 50", "repair JOB", "result JOB", "review accept JOB",
    "review reject JOB --because x", "watch ENDED", "submit --kind simulate --depends-on JOB",
)  # fmt: skip
"""Every command that is given a job; none changes one that waits."""


@pytest.fixture(scope="module")
def waiting(site: Site) -> str:
    """A job that nobody runs, which is in the lists."""
    return listed(site, site.json("submit", "--kind", "nobodys")["id"])


def listed(site: Site, job: str) -> str:
    """The job, once lists have it."""
    while job not in site.run("list", "--limit", "500").stdout:
        pass
    return job


def test_each_command_that_is_given_a_job_is_tried() -> None:
    found = {
        name
        for name, one in commands(cli, click.Context(cli))
        if any("JOB" in (each.make_metavar(click.Context(one)) or "") for each in one.params)
    }
    tried = {re.split(r" (?:JOB|ENDED|--)", line)[0] for line in TRIED}
    assert found == tried


@pytest.mark.parametrize("line", TRIED)
def test_a_job_is_named_by_the_beginning_of_its_id(site: Site, waiting: str, line: str) -> None:
    job = waiting
    if "ENDED" in line:
        job = site.json("submit", "--kind", "nobodys")["id"]
        assert site.run("cancel", job, "--yes").returncode == 0
        listed(site, job)
    whole, short = (site.run(*re.sub("JOB|ENDED", name, line).split()) for name in (job, job[:-2]))
    if line.startswith("again"):
        assert (whole.returncode, short.returncode) == (0, 0)
        return
    if line.startswith("submit"):
        made = [site.json("get", done.stdout.strip())["depends_on"] for done in (whole, short)]
        assert made == [[job], [job]]
        return
    assert (short.returncode, short.stdout, short.stderr) == (whole.returncode, whole.stdout, whole.stderr)
    assert "there is no job" not in whole.stderr


def test_a_beginning_of_several_jobs_is_refused_with_their_ids(site: Site, waiting: str) -> None:
    other = listed(site, site.json("submit", "--kind", "nobodys")["id"])
    both = "".join(
        one for one, _ in takewhile(lambda two: two[0] == two[1], zip(waiting, other, strict=True))
    )
    assert len(both) >= 4
    done = site.run("cancel", both, "--yes")
    assert done.returncode == 6
    assert done.stderr.startswith(f"switchyard: several jobs begin with {both}: ")
    assert site.run("get", both.upper()).returncode == 6
    assert {site.json("get", job)["state"] for job in (waiting, other)} == {"queued"}
    for unknown in (f"{waiting[:-1]}{'0' if waiting[-1] != '0' else '1'}", "zzzz", waiting[:3], "ffff"):
        assert site.run("get", unknown).returncode == 5, unknown


def test_after_ctrl_c_the_command_that_is_shown_waits_for_the_result(site: Site) -> None:
    payload = '{"duration_s": 3, "steps": 30, "echo": "back"}'
    code, shown = at_terminal(
        site, "submit", "--kind", "simulate", "--payload", payload, "--wait",
        until="step", number=signal.SIGINT, TERM="xterm",
    )  # fmt: skip
    assert code == 130, shown
    job = re.search(r"switchyard: job (\S+)\r?\n", shown)
    assert job is not None, shown
    said = shown[shown.rindex("switchyard: job ") :]
    assert f"job {job[1]} goes on" in said
    back = re.search(r"`switchyard (result \S+ --wait)`", said)
    assert back is not None, said
    done = site.run(*shlex.split(back[1]))
    assert (done.returncode, '"back"' in done.stdout) == (0, True), done.stderr


def test_a_bar_begins_with_the_state_that_the_job_is_in(site: Site) -> None:
    job = site.json("submit", "--kind", "simulate", "--payload", '{"duration_s": 60, "steps": 1}')["id"]
    while site.json("get", job)["state"] != "running":
        pass
    code, shown = at_terminal(
        site, "result", job, "--wait", until="running", number=signal.SIGINT, TERM="xterm"
    )
    assert (code, "running" in shown) == (130, True), shown
    assert site.run("cancel", job, "--yes").returncode == 0


def test_a_kind_that_nobody_runs_is_answered_with_the_one_that_was_meant(site: Site) -> None:
    while "simulate" not in site.run("workers").stdout:
        pass
    code, shown = at_terminal(site, "submit", "--kind", "simulat")
    assert code == 0
    found = re.search(
        r"nobody runs jobs of kind 'simulat' now; did you mean 'simulate'\? `switchyard (cancel \S+)`", shown
    )
    assert found is not None, shown
    done = site.run(*shlex.split(found[1]), "--yes")
    assert (done.returncode, "cancelled" in done.stdout) == (0, True), done.stdout
    _, shown = at_terminal(site, "submit", "--kind", "zzz")
    assert "nobody runs jobs of kind 'zzz' now; it waits; others run convert, simulate" in shown
    _, shown = at_terminal(site, "submit", "--kind", "simulate", "--payload", '{"duration_s": 0}')
    assert "nobody" not in shown
