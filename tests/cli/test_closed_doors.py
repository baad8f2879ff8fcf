"""What commands refuse, ask before, keep to themselves, and never let reach a terminal."""

from __future__ import annotations

import json
import re
import stat
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import pytest

from switchyard.services.ids import new_id
from tests.cli.site import Site
from tests.cli.terminal import at_terminal
from tests.cli.test_control import dead, die

pytestmark = pytest.mark.system

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31mred\u202e\u2066"
OBEYED = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SWITCHYARD_LEASES_S", "SWITCHYARD_LEASE_S"),
        ("SWITCHYARD_OCTOPOID_SCOPE", "SWITCHYARD_OCTOPOID_SCOPES"),
        ("switchyard_lease_s", "SWITCHYARD_LEASE_S"),
        ("SWITCHYARD_", "docs/settings.md"),
        ("SWITCHYARD_QQQ", "docs/settings.md"),
        ("SWITCHYARD_BROKER_PORT", "there is no setting"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, name: str, said: str
) -> None:
    for command in ("up", "worker", "gateway"):
        done = Site(tmp_path).run(command, "--data-dir", "d", **{name: "3"})
        assert (done.returncode, name in done.stderr, said in done.stderr) == (2, True, True), done.stderr
    assert not (tmp_path / "d").exists()


def test_what_others_put_into_the_environment_is_no_setting(tmp_path: Path) -> None:
    found = {
        "SWITCHYARD_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "SWITCHYARD_PORT_8080_TCP_ADDR": "10.0.0.1",
        "SWITCHYARD_CHILD": "x",
        "SWITCHYARD_LOG_LEVEL": "info",
        "SWITCHYARD_URL": "http://127.0.0.1:1",
        "SWITCHYARD_TOKEN": "x",
    }
    done = Site(tmp_path).run("list", **found)
    assert "cannot be reached" in done.stderr


def test_what_is_no_token_of_ours_is_not_said_to_be_revoked(site: Site) -> None:
    with_dots = jwt.encode({"jti": "a.*.>", "exp": 9e9}, "x" * 40)
    for wrong in ("abc", "*", ">", "a b", "a.b.c", new_id()[:-1], with_dots):
        done = site.run("token", "revoke", wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong
    for wrong in ("*", "a b", ">"):
        assert site.run("token", "revoke", "--outside", wrong).returncode == 2
    for endless in (float("inf"), float("nan"), 1e300):
        token = jwt.encode({"jti": new_id(), "exp": endless}, "x" * 40)
        assert site.run("token", "revoke", token).returncode == 0
    gone = new_id()
    assert site.run("token", "revoke", gone).stdout == f"revoked {gone}\n"
    assert site.run("token", "revoke", "--outside", "abc").stdout == "revoked abc\n"


def test_what_nothing_takes_back_is_asked_before(site: Site) -> None:
    job_id = die(site)
    for selection in (["--all"], ["--code", "simulated"]):
        done = site.run("dead", "discard", *selection)
        assert (done.returncode, "--yes" in done.stderr) == (2, True), done.stderr
        code, shown = at_terminal(site, "dead", "discard", *selection, typed="n\n")
        assert (code, "for ever" in shown) == (130, True)
    assert site.run("quarantine", "forget", "--all").returncode == 2
    assert dead(site, "simulated") == [job_id]
    code, shown = at_terminal(site, "dead", "discard", "--all", typed="y\n")
    assert (code, "discarded 1" in shown) == (0, True), shown
    assert site.run("dead", "discard", "--all", "--yes").stdout.startswith("discarded 0")


def test_up_prints_its_token_at_a_terminal_alone(site: Site, tmp_path: Path) -> None:
    own = Site(tmp_path)
    try:
        printed = own.up("--no-worker")
        token = own.connection["token"]
        assert token not in "\n".join(printed) + own.log.read_text()
        assert any("connection.json" in line for line in printed)
    finally:
        own.close()
    code, shown = at_terminal(own, "up", "--no-worker", "--port", "0", until="ready;")
    assert (code, "TOKEN=ey" in shown) == (0, True), shown


def test_no_part_lets_other_users_look_into_its_data_directory(site: Site, tmp_path: Path) -> None:
    nats = site.connection["nats_url"]
    for part, line in (("projector", None), ("gateway", "URL=")):
        own = Site(tmp_path / part)
        own.directory.mkdir()
        arguments = [part, "--nats", nats, "--data-dir", "new/data", *(["--port", "0"] if line else [])]
        process = own.open(*arguments)
        place = own.directory / "new/data"
        wanted = place / ("read_model.sqlite" if part == "projector" else "secret")
        try:
            while not wanted.exists():
                assert process.poll() is None
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in [wanted]} == {0}
        finally:
            process.terminate()
            process.communicate()


def test_doctor_says_that_a_data_directory_is_open_to_all(site: Site) -> None:
    def found() -> str:
        checks = site.json("doctor")
        return str(next(check["status"] for check in checks if check["what"] == "data directory"))

    assert found() == "ok"
    site.data_dir.chmod(0o755)
    try:
        assert found() == "warn"
    finally:
        site.data_dir.chmod(0o700)


def test_doctor_says_whether_octopoid_has_an_administrator(site: Site) -> None:
    for key, status, said in (
        (None, "ok", "not set"),
        ("correct-horse-battery", "ok", "acts for every scope"),
        ("short", "warn", "fewer than 16 characters"),
        ("ab" * 10, "warn", "fewer than 6 different characters"),
    ):
        done = site.run("doctor", "--json", **({} if key is None else {"API_SECRET_KEY": key}))
        checks = {check["what"]: check for check in json.loads(done.stdout)}
        found = checks["Octopoid's administrator"]
        assert (found["status"], said in found["found"]) == (status, True), found
        assert key is None or key not in done.stdout


def test_no_terminal_obeys_what_others_wrote(site: Site, tmp_path: Path) -> None:
    page = tmp_path / "evil.html"
    page.write_text(f"<h1>{EVIL}&#155;31m&#8238;</h1><p>body", encoding="utf-8")
    code, shown = at_terminal(site, "submit", "--kind", "convert", "--file", str(page), "--wait")
    assert code == 0, shown
    assert "body" in shown
    plain(shown)
    token = site.run("token", "--tenant", "default", "--role", "worker", "--role", "submitter").stdout.strip()
    payload = json.dumps({"duration_s": 0, "fail": "fatal", "message": EVIL})
    job = site.json("submit", "--kind", "evil", "--payload", payload, "--label", f"a={EVIL[:40]}")
    claim = {"worker": "w", "kinds": ["evil"], "wait_s": 30}
    lease = _call(site, token, "/v1/leases", claim)["lease"]
    headers = {"Switchyard-Lease-Token": lease["token"]}
    path = f"/v1/leases/{lease['id']}"
    _call(site, token, f"{path}/progress", {"fraction": 0.5, "message": EVIL, "stage": EVIL}, headers)
    _call(site, token, f"{path}/logs", {"lines": [EVIL]}, headers)
    error = {"code": "evil", "message": EVIL, "retryable": False}
    _call(site, token, f"{path}/fail", {"error": error}, headers)
    for command in (
        ["explain", job["id"]], ["dead", "list"], ["list"], ["get", job["id"]], ["history", job["id"]],
        ["watch", job["id"]], ["dead", "list", "--json"], ["get", EVIL], ["list", "--kind", EVIL],
    ):  # fmt: skip
        code, shown = at_terminal(site, *command)
        plain(shown)
    assert "\\x1b" in at_terminal(site, "explain", job["id"])[1]


def plain(shown: str) -> None:
    """Nothing in it is obeyed, save what the table's own bold is written with."""
    found = OBEYED.search(re.sub("\x1b\\[[0-9;]*m", "", shown))
    assert found is None, repr(shown)


def _call(
    site: Site, token: str, path: str, body: object, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    request = urllib.request.Request(
        site.connection["url"] + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
        return json.loads(text) if text else {}
