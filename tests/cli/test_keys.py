"""API keys as a tenant's admin types them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.site import COMMAND_S, Site

pytestmark = pytest.mark.system


def test_key_is_made_used_turned_and_taken_back(site: Site) -> None:
    made = site.run(
        "keys", "create", "--name", "ci", "--role", "submitter", "--kind", "simulate", "--expires", "12h",
        "--per-minute", "600", "--jobs-per-day", "50",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    key_id = secret.split("_")[1]
    assert key_id in made.stderr
    assert secret not in made.stderr
    other = site.run("submit", "--kind", "noop", SWITCHYARD_TOKEN=secret)
    assert other.returncode != 0
    assert "simulate" in other.stderr
    (found,) = [key for key in site.json("keys", "list")["keys"] if key["id"] == key_id]
    assert found["rate"] == {"per_minute": 600, "burst": 100}
    turned = site.json("keys", "rotate", key_id, "--now")["key"]
    assert site.run("list", SWITCHYARD_TOKEN=turned).returncode == 0
    assert site.run("keys", "revoke", key_id).stdout == f"revoked {key_id}\n"
    refused = site.run("list", SWITCHYARD_TOKEN=turned)
    assert refused.returncode != 0
    assert turned[-40:] not in refused.stderr


def test_secret_of_another_system_is_read_from_standard_input(site: Site) -> None:
    def create(secret: str) -> subprocess.CompletedProcess[str]:
        command = ["keys", "create", "--name", "old", "--role", "viewer", "--foreign"]
        return subprocess.run(
            [sys.executable, "-m", "switchyard.services.cli", *command],
            cwd=site.directory, env=site.environment, input=f"{secret}\n", text=True, check=False,
            capture_output=True, timeout=COMMAND_S,
        )  # fmt: skip

    assert create("too-short").returncode != 0
    made = create("the-key-of-the-old-system")
    assert made.stdout == "the-key-of-the-old-system\n", made.stderr
    assert site.run("list", SWITCHYARD_TOKEN="the-key-of-the-old-system").returncode == 0
    again = create("the-key-of-the-old-system")
    assert again.returncode != 0
    assert "already" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--name", "x"), ("create", "--name", "x", "--role", "king"), ("revoke", "../jobs"),
        ("create", "--name", "x", "--role", "viewer", "--burst", "5"), ("rotate", "x", "--overlap", "soon"),
    ],
)  # fmt: skip
def test_wrong_words_are_reported(site: Site, arguments: tuple[str, ...]) -> None:
    done = site.run("keys", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
