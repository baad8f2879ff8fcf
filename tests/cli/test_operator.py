"""What an operator runs to see whether all is well, and to repair it."""

from __future__ import annotations

import json

import nats
import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system


async def test_drift_is_shown_field_by_field_failed_by_the_doctor_and_repaired(site: Site) -> None:
    assert site.run("topology", "diff").stdout == ""
    nc = await nats.connect(site.connection["nats_url"])
    stream = nc.jetstream()
    config = (await stream.stream_info("LOGS")).config
    config.max_msgs_per_subject = 7
    await stream.update_stream(config)
    await nc.close()

    drifted = site.run("topology", "diff")
    assert drifted.returncode == 1
    assert len(drifted.stdout.splitlines()) == 1
    assert "LOGS" in drifted.stdout
    assert "max_msgs_per_subject" in drifted.stdout
    checks = {check["what"]: check for check in site.json("doctor", code=1)}
    assert checks["streams"]["status"] == "fail"
    assert checks["streams"]["advice"] == "switchyard topology apply"

    assert "max_msgs_per_subject" in site.run("topology", "apply").stdout
    assert site.run("topology", "diff").returncode == 0
    assert site.run("topology", "apply").stdout == ""


def test_the_doctor_finds_a_running_switchyard_in_order(site: Site) -> None:
    checks = {check["what"]: check for check in site.json("doctor")}
    wanted = ("python", "packages", "nats-server", "disk", "broker", "streams", "clock", "gateway", "workers")
    assert {name: checks[name]["status"] for name in wanted} == dict.fromkeys(wanted, "ok")
    assert checks["ocr"]["status"] in ("ok", "warn")
    assert "streams" in site.run("doctor").stdout


def test_the_doctor_says_what_to_do_where_nothing_runs(site: Site) -> None:
    checks = {check["what"]: check for check in site.json("doctor", "--data-dir", "elsewhere")}
    for name in ("broker", "gateway"):
        assert checks[name]["status"] == "warn"
        assert "switchyard up" in checks[name]["advice"]


def test_the_doctor_fails_what_does_not_answer(site: Site) -> None:
    done = site.run("doctor", "--json", "--nats", "nats://127.0.0.1:1", SWITCHYARD_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    checks = {check["what"]: check for check in json.loads(done.stdout)}
    assert (checks["broker"]["status"], checks["gateway"]["status"]) == ("fail", "fail")


def test_the_doctor_fails_a_token_that_opens_nothing(site: Site) -> None:
    done = site.run("doctor", "--json", SWITCHYARD_TOKEN="nonsense")
    assert done.returncode == 1
    checks = [check for check in json.loads(done.stdout) if check["what"] == "gateway"]
    assert [check["status"] for check in checks] == ["ok", "fail"]
    assert "switchyard token" in checks[1]["advice"]
