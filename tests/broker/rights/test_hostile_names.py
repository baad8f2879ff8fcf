"""`switchyard nats-config` where names of directories, users and files are odd, or made to do harm."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from switchyard.services.broker.rights import users
from switchyard.services.broker.server.server import find_binary
from tests.broker.rights.test_command import contents, done, refused
from tests.operate.blocks import DOCS


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "new\nline", "\x1b[31m", "\udcff", "\u202e", 'x"\n}\naccounts {']
)
def test_a_directory_that_no_line_can_name_is_refused_and_not_made(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path / name)
    assert "cannot stand in the server's configuration" in said
    assert said.strip().isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_spaces_and_signs_is_named_so_that_server_and_shell_find_it(tmp_path: Path) -> None:
    out = tmp_path / "a $b 'ä' {x} #1; ..y"
    said = done(out, "--worker", "a")
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    include = line.removeprefix("next: ").partition(" in a configuration")[0]
    configuration = tmp_path / "nats.conf"
    configuration.write_text(f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n{include}\n')
    taken = subprocess.run([find_binary(), "-t", "-c", configuration], capture_output=True, check=False)
    assert taken.returncode == 0, taken.stderr
    (line,) = [line for line in said.splitlines() if line.startswith("the nats command: ")]
    words = shlex.split(line.removeprefix("the nats command: "))
    assert words[:3] == ["nats", "--nkey", str(out / "operator.nk")]


def test_the_line_of_the_page_is_found_from_where_the_page_says(tmp_path: Path) -> None:
    page = (DOCS / "broker-rights.md").read_text()
    (block,) = re.findall(r"```\n( *jetstream .*?)```", page, re.DOTALL)
    (out,) = re.findall(r"nats-config --out /etc/(\S+) --worker", page)
    (home,) = re.findall(r"one in `/etc/(\w+)`", page)
    done(tmp_path / out)
    (tmp_path / home).mkdir()
    configuration = tmp_path / home / "nats.conf"
    configuration.write_text(block.replace("/var/lib/nats", str(tmp_path / "js")))
    taken = subprocess.run([find_binary(), "-t", "-c", configuration], capture_output=True, check=False)
    assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize(
    "name", ["a\nb", "../a", "worker-../a", "worker-", "\x1b[31m", "\udcff", "x" * 5000, "a,b"]
)
@pytest.mark.parametrize("option", ["--rotate", "--remove"])
def test_a_user_that_nobody_has_is_named_in_one_short_line(tmp_path: Path, option: str, name: str) -> None:
    done(tmp_path, "--worker", "a")
    before = contents(tmp_path)
    said = refused(tmp_path, option, name, "--yes")
    assert "there is no user" in said
    assert "\n" not in said.strip()
    assert said.isprintable()
    assert len(said) < 400
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps({"parts": {"gateway": ["x"]}, "workers": {}}).encode(),
        json.dumps({"parts": {}, "workers": {"a\nb": "U" * 56}}).encode(),
        json.dumps({"parts": {"../x": "U" * 56}, "workers": {}}).encode(),
    ],
    ids=["nested", "no text", "a list", "a line end", "a path"],
)
def test_a_list_of_users_that_somebody_else_wrote_is_refused(tmp_path: Path, said: bytes) -> None:
    done(tmp_path)
    (tmp_path / users.USERS).write_bytes(said)
    for arguments in ((), ("--worker", "a"), ("--remove", "gateway", "--yes")):
        assert "is not as `switchyard nats-config` writes it" in refused(tmp_path, *arguments)
    assert (tmp_path / users.USERS).read_bytes() == said


def test_a_link_in_the_place_of_a_key_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    out = tmp_path / "out"
    out.mkdir()
    (out / "worker-a.nk").symlink_to(elsewhere)
    assert "worker-a.nk is there" in refused(out, "--worker", "a")
    done(out, "--worker", "a", "--yes")
    assert elsewhere.read_text() == "theirs"
    assert not (out / "worker-a.nk").is_symlink()
