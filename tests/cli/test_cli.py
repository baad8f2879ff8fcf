"""The commands as a person uses them: real processes, one running Switchyard."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli.site import COMMAND_S, Site, deadline, first_line

pytestmark = pytest.mark.system

DOCUMENT = Path(__file__).parents[2] / "examples" / "fieldreport.pdf"
UNKNOWN = "01a206f7-c7a1-7287-aad5-27ef529fe738"


def submit(site: Site, *arguments: str, duration_s: float = 0.0) -> str:
    """A job that was submitted and not waited for."""
    done = site.run(
        "submit", "--kind", "simulate", "--payload", json.dumps({"duration_s": duration_s}), *arguments
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_up_is_ready_when_it_says_so_and_only_its_owner_reads_the_connection(site: Site) -> None:
    path = site.data_dir / "connection.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(site.connection) == {"url", "token", "nats_url", "pids"}
    with urllib.request.urlopen(f"{site.connection['url']}/readyz", timeout=COMMAND_S) as answer:
        assert answer.status == 200


def test_submit_waits_and_prints_the_result_alone(site: Site) -> None:
    done = site.run("submit", "--kind", "simulate", "--payload", '{"echo": {"a": [1]}}', "--wait")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["echo"] == {"a": [1]}


def test_a_document_becomes_markdown_on_standard_output(site: Site) -> None:
    done = site.run("submit", "--kind", "convert", "--file", str(DOCUMENT), "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Field Report: Wind Farm Kestrel\n")


def test_what_a_conversion_warns_of_is_on_standard_error(site: Site) -> None:
    image = Path(__file__).parents[1] / "documents" / "phototest-rotated-180.png"
    payload = json.dumps({"ocr": "never"})
    done = site.run("submit", "--kind", "convert", "--file", str(image), "--payload", payload, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    warning = "switchyard: warning: an image has no text of its own, and OCR was switched off"
    assert warning in done.stderr.splitlines()


def test_a_result_too_long_for_an_event_is_printed_as_any_other_with_its_warnings(
    site: Site, tmp_path: Path
) -> None:
    # Each quote is two characters in JSON: the Markdown alone fits into a result, the result into no event.
    page = tmp_path / "page.xls"
    page.write_text("<html>" + '<p>"" "" "" ""</p>' * 4_000)
    done = site.run("submit", "--kind", "convert", "--file", str(page), "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('"" "" "" ""\n')
    assert "switchyard: warning: the file is called" in done.stderr


def test_a_refused_submission_leaves_no_file_behind(site: Site) -> None:
    before = _files(site)
    done = site.run("submit", "--kind", "convert", "--file", str(DOCUMENT), "--priority", "101")
    assert done.returncode == 6
    assert "priority" in done.stderr
    assert _files(site) == before


def _files(site: Site) -> list[str]:
    request = urllib.request.Request(
        f"{site.connection['url']}/v1/files",
        headers={"Authorization": f"Bearer {site.connection['token']}"},
    )
    with urllib.request.urlopen(request, timeout=COMMAND_S) as answer:
        return [file["id"] for file in json.load(answer)["files"]]


def test_a_job_is_found_by_id_label_and_history(site: Site) -> None:
    job = site.json("submit", "--kind", "simulate", "--label", "project=p1", "--priority", "7", "--wait")
    assert (job["state"], job["priority"]) == ("succeeded", 7)
    assert site.json("get", job["id"]) == job
    assert "succeeded" in site.run("get", job["id"]).stdout
    listed = site.json("list", "--label", "project=p1", "--state", "succeeded", "--kind", "simulate")["jobs"]
    assert [each["id"] for each in listed] == [job["id"]]
    assert job["id"] in site.run("list", "--label", "project=p1").stdout
    names = [event["type"] for event in site.json("history", job["id"])]
    assert names == ["submitted", "leased", "succeeded"]
    assert "leased" in site.run("history", job["id"]).stdout
    assert site.run("watch", job["id"]).returncode == 0  # it has ended, so this returns
    refused = site.run("cancel", job["id"])
    assert refused.returncode == 6
    assert "succeeded" in _sentence(refused)


def test_one_job_that_has_ended_is_archived_and_no_other(site: Site) -> None:
    done = site.json("submit", "--kind", "simulate", "--wait")
    waits = site.json("submit", "--kind", "nobodys")
    viewer = site.run("token", "--tenant", done["tenant"], "--role", "viewer").stdout.strip()
    stranger = site.run("token", "--tenant", "others", "--role", "submitter").stdout.strip()
    assert viewer
    assert stranger
    for token, code in ((viewer, 4), (stranger, 5)):
        refused = site.run("archive", done["id"], SWITCHYARD_TOKEN=token)
        assert refused.returncode == code, refused
        assert _sentence(refused)
    early = site.run("archive", waits["id"])
    assert early.returncode == 6
    assert "queued" in _sentence(early)
    for unknown in ("0198c0de-0000-7000-8000-000000000000", "no-job", "..", ""):
        assert site.run("archive", unknown).returncode == 5, unknown
    assert site.run("archive").returncode == 2
    assert site.json("get", done["id"])["state"] == "succeeded"
    assert site.run("archive", done["id"]).stdout == "archived; it was succeeded\n"
    assert site.json("archive", done["id"])["archived_as"] == "succeeded"  # once more changes nothing
    assert site.json("get", done["id"])["state"] == "archived"


def test_the_same_idempotency_key_gives_the_same_job(site: Site) -> None:
    assert submit(site, "--idempotency-key", "k1") == submit(site, "--idempotency-key", "k1")


def test_the_same_key_and_file_give_the_same_job(site: Site, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<h1>One</h1>")
    line = ["submit", "--kind", "convert", "--file", str(page), "--idempotency-key", "k2"]
    first, again = site.run(*line), site.run(*line)
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert first.stdout == again.stdout
    page.write_text("<h1>Two</h1>")
    refused = site.run(*line)
    assert refused.returncode == 6
    assert "other bytes" in refused.stderr


def test_a_cancelled_job_ends_whoever_watches_it(site: Site) -> None:
    job_id = submit(site, duration_s=60)
    watching = site.open("watch", job_id, "--json")
    with watching, deadline(watching, COMMAND_S):
        first_line(watching.stdout, '"subscribed"')
        assert site.run("cancel", job_id, "--reason", "no longer needed").returncode == 0
        assert "no longer needed" in first_line(watching.stdout, '"cancel')
        first_line(watching.stdout, '"cancelled"')
        assert watching.wait() == 1
    assert site.run("cancel", job_id).stdout == "cancelled\n"


def test_watch_shows_events_and_progress_until_it_is_interrupted(site: Site) -> None:
    watching = site.open("watch", "--kind", "simulate", "--label", "team=ml", "--json")
    with watching, deadline(watching, COMMAND_S):
        first_line(watching.stdout, '"subscribed"')
        other = submit(site)
        job_id = submit(site, "--label", "team=ml", duration_s=0.5)
        seen = first_line(watching.stdout, '"submitted"')
        assert job_id in seen
        assert other not in seen
        assert job_id in first_line(watching.stdout, '"leased"')
        assert job_id in first_line(watching.stdout, '"progress"')
        assert job_id in first_line(watching.stdout, '"succeeded"')
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130


def test_a_job_that_fails_is_reported_in_one_sentence(site: Site) -> None:
    done = site.run("submit", "--kind", "simulate", "--payload", '{"fail": "fatal"}', "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the job is dead" in _sentence(done)


def test_waiting_ends_with_its_time_and_the_job_goes_on(site: Site) -> None:
    done = site.run(
        "submit", "--kind", "simulate", "--payload", '{"duration_s": 60}', "--wait", "--timeout", "0.5"
    )
    assert done.returncode == 7
    job_id = _sentence(done).split()[2]
    assert site.json("get", job_id)["state"] in ("queued", "running")
    site.run("cancel", job_id)


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["get", UNKNOWN], {}, 5, UNKNOWN),
        (["history", "no-such-id/../x"], {}, 5, "no job"),
        (["list"], {"SWITCHYARD_TOKEN": "nonsense"}, 4, "token"),
        (["watch", "--all"], {"SWITCHYARD_TOKEN": "nonsense"}, 4, "401"),
        (["list"], {"SWITCHYARD_URL": "http://127.0.0.1:1"}, 3, "cannot be reached"),
        (["watch", "--all"], {"SWITCHYARD_URL": "http://127.0.0.1:1"}, 3, "cannot be reached"),
        (["list"], {"SWITCHYARD_URL": "nonsense"}, 3, "not the URL"),
        (["list", "--data-dir", "elsewhere"], {}, 3, "no Switchyard is running"),
        (["topology", "diff", "--nats", "nats://127.0.0.1:1"], {}, 3, "no broker answers"),
        (["token", "--tenant", "t", "--role", "admin", "--data-dir", "elsewhere"], {}, 5, "no secret"),
        (["keeper", "--data-dir", "elsewhere"], {}, 3, "no Switchyard is running"),
        (["worker", "--data-dir", "elsewhere"], {}, 3, "no Switchyard is running"),
        (["submit", "--kind", "No Kind"], {}, 6, "kind"),
        (["submit", "--kind", "simulate", "--priority", "101"], {}, 6, "priority"),
        (["submit", "--kind", "simulate", "--payload", '{"duration": 1}'], {}, 6, "duration"),
        (["submit", "--kind", "convert", "--payload", f'{{"file": "{UNKNOWN}"}}'], {}, 6, "file"),
        (["list", "--state", "sleeping"], {}, 6, "state"),
        (["worker", "--lease", "-1"], {}, 2, "lease_s"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_its_exit_code_says_which_kind(
    site: Site, arguments: list[str], environment: dict[str, str], code: int, said: str
) -> None:
    done = site.run(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert said in _sentence(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "--kind", "simulate", "--payload", "{"],
        ["submit", "--kind", "simulate", "--payload", "[]"],
        ["submit", "--kind", "simulate", "--payload", "@missing.json"],
        ["submit", "--kind", "simulate", "--payload", '{"x": NaN}'],
        ["submit", "--kind", "simulate", "--label", "x"],
        ["submit"],
        ["watch"],
        ["watch", UNKNOWN, "--all"],
        ["watch", UNKNOWN, "--label", "zone=eu"],
        ["watch", "--label", "zone"],
        ["token", "--tenant", "t"],
        ["token", "--tenant", "t", "--role", "admin", "--ttl", "soon"],
        ["token", "--tenant", "t", "--role", "king"],
        ["list", "--limit", "0"],
        ["worker", "--kinds", "simulate,nonsense"],
        ["worker", "--name", "no.name"],
        ["nonsense"],
    ],
)
def test_a_command_that_cannot_be_understood_exits_with_2(site: Site, arguments: list[str]) -> None:
    done = site.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "--tenant and --role are missing"),
        (["--tenant", "t"], "--role is missing"),
        (["--tenant", "", "--role", "viewer"], "--tenant is missing"),
    ],
)
def test_a_token_that_lacks_something_is_refused_with_what_that_is(
    site: Site, given: list[str], said: str
) -> None:
    done = site.run("token", *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{said}, as in `switchyard token --tenant acme --role submitter`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "--kind", "simulate", "--payload", '{"x": [1e400]}'], "payload.x[0]"),
        (["submit", "--kind", "simulate", "--payload", f'{{"x": {10**30}}}'], "payload.x"),
        (["submit", "--kind", "simulate", "--payload", r'{"x": "\ud800"}'], "payload.x"),
        (["submit", "--kind", "simulate", "--requires", "[" * 300 + "]" * 300], "requires[0]"),
        (["submit", "--kind", "simulate", "--payload", "[" * 5000], "payload[0]"),
        (["submit", "--kind", "convert", "--file", str(DOCUMENT), "--delay", "nan"], "delay_s"),
        (["schedule", "create", "--kind", "simulate", "--every", "inf"], "every_s"),
        (["dead", "redrive", UNKNOWN, "--payload", f'{{"a": {-(10**30)}}}'], "payload.a"),
        (["review", "reject", UNKNOWN, "--because", "b", "--feedback", f"[{10**30}]"], "feedback[0]"),
    ],
)
def test_a_value_that_cannot_be_sent_is_refused_by_name(site: Site, arguments: list[str], said: str) -> None:
    before = _files(site)
    done = site.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert _files(site) == before


def test_debug_shows_where_an_error_comes_from(site: Site) -> None:
    assert "Traceback" in site.run("--debug", "get", UNKNOWN).stderr


def test_a_token_allows_its_role_and_no_more(site: Site) -> None:
    token = site.run("token", "--tenant", "default", "--role", "viewer", "--ttl", "1h").stdout.strip()
    assert site.run("list", SWITCHYARD_TOKEN=token).returncode == 0
    assert site.run("submit", "--kind", "simulate", SWITCHYARD_TOKEN=token).returncode == 4
    other = site.run("token", "--tenant", "other", "--role", "viewer").stdout.strip()
    assert site.run("get", submit(site), SWITCHYARD_TOKEN=other).returncode == 5
    revoked = site.run("token", "revoke", token)
    assert revoked.returncode == 0, revoked.stderr
    assert _refusal(site, token) == "the token was revoked"


def test_a_token_ends_with_its_time(site: Site) -> None:
    token = site.run("token", "--tenant", "default", "--role", "viewer", "--ttl", "1s").stdout.strip()
    assert _refusal(site, token) == "the token has expired"


def _refusal(site: Site, token: str) -> str:
    """What is said once a token is not taken any more."""
    until_s = time.monotonic() + COMMAND_S
    while time.monotonic() < until_s:
        done = site.run("list", SWITCHYARD_TOKEN=token)
        if done.returncode:
            assert done.returncode == 4, done.stderr
            return _sentence(done).removeprefix("switchyard: ")
    raise AssertionError("the token is still taken")


def test_a_second_up_on_the_same_directory_says_who_runs(site: Site) -> None:
    done = site.run("up", "--port", "0")
    assert done.returncode == 6
    assert f"pid {site.connection['pids']['switchyard']}" in _sentence(done)
    assert site.connection["url"] in done.stderr
    with_broker = site.run("up", "--port", "0", "--nats", site.connection["nats_url"])
    assert with_broker.returncode == 6
    assert site.run("list").returncode == 0


def test_the_read_model_is_rebuilt_under_a_running_projector(site: Site) -> None:
    job_id = submit(site)
    done = site.run("rebuild")
    assert (done.returncode, done.stdout) == (0, "rebuilt\n"), done.stderr
    assert job_id in site.run("list", "--json").stdout


def _sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said about its error, which is one line."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_schedule_is_made_shown_paused_resumed_and_deleted(site: Site) -> None:
    made = site.run(
        "schedule", "create", "nightly", "--kind", "noop", "--cron", "30 2 * * *",
        "--timezone", "Europe/Berlin", "--missed", "last", "--payload", '{"n": 1}',
    )  # fmt: skip
    assert (made.returncode, made.stdout.strip()) == (0, "nightly"), made.stderr
    shown = site.json("schedule", "show", "nightly")
    assert (shown["timezone"], shown["missed"], shown["job"]["payload"]) == (
        "Europe/Berlin",
        "last",
        {"n": 1},
    )
    assert "Europe/Berlin" in site.run("schedule", "show", "nightly").stdout
    assert shown["next_runs"][0] in site.run("schedule", "list").stdout
    assert [each["id"] for each in site.json("schedule", "list")["schedules"]] == ["nightly"]
    coming = site.run("schedule", "next", "nightly", "--count", "3")
    assert coming.stdout.split() == shown["next_runs"][:3]
    assert site.run("schedule", "pause", "nightly").stdout.strip() == "paused"
    job = site.run("schedule", "run", "nightly").stdout.strip()
    assert site.json("get", job)["labels"]["schedule"] == "nightly"
    printed = site.run("logs", job, "--tail", "5")
    assert (printed.returncode, printed.stdout) == (0, "")
    assert site.run("logs", "none", "-f").returncode == 5
    assert site.run("schedule", "resume", "nightly").stdout.strip() == "active"
    assert site.run("schedule", "delete", "nightly").returncode == 0
    assert site.run("schedule", "show", "nightly").returncode == 5
    refused = site.run("schedule", "create", "--kind", "noop", "--cron", "61 * * * *")
    assert refused.returncode == 6
    assert "cron" in refused.stderr


def test_a_schedule_makes_jobs_that_run(site: Site) -> None:
    watching = site.open("watch", "--kind", "simulate")
    try:
        with deadline(watching, COMMAND_S):
            assert (
                site.json("schedule", "create", "often", "--kind", "simulate", "--every", "1")["id"]
                == "often"
            )
            job_id = first_line(watching.stdout, " succeeded ").split()[1]
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=COMMAND_S)
    assert site.json("get", job_id)["labels"]["schedule"] == "often"
    assert site.json("schedule", "show", "often")["last_run"] is not None
    assert site.run("schedule", "delete", "often").returncode == 0
