"""`switchyard nats-config`: what it writes, what it leaves, what it refuses."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from switchyard.services.broker.rights import files, users
from switchyard.services.broker.rights.nkeys import NKeyError, credentials_in, new_seed, public_of
from switchyard.services.broker.rights.server_file import is_untouched
from switchyard.services.broker.server.server import find_binary
from switchyard.services.cli.commands.rights.nats_config import nats_config
from switchyard.services.run.broker import credentials_of
from switchyard.services.settings import Settings
from switchyard.services.settings.errors import SettingsError
from tests.broker.rights.site import running


def run(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(nats_config, ["--out", str(out), *arguments])


def done(out: Path, *arguments: str) -> str:
    result = run(out, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(out: Path, *arguments: str) -> str:
    result = run(out, *arguments)
    assert result.exit_code != 0
    return f"{result.output} {result.exception}"


def contents(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in out.iterdir()}


def test_it_writes_a_key_for_each_part_and_worker_and_a_file_that_the_server_takes(tmp_path: Path) -> None:
    out = tmp_path / "users"
    said = done(out, "--worker", "gpu-1", "--worker", "gpu_2")
    keys = {f"{part}.nk" for part in users.ALONE} | {"worker-gpu-1.nk", "worker-gpu_2.nk"}
    assert {path.name for path in out.iterdir()} == keys | {users.USERS, users.SERVER}
    assert "include" in said
    assert out.stat().st_mode & 0o777 == 0o700
    for name in keys:
        assert (out / name).stat().st_mode & 0o777 == 0o600
        seed = files.read(out / name).seed
        assert seed not in said
        assert seed not in (out / users.SERVER).read_text() + (out / users.USERS).read_text()
        assert public_of(seed) in (out / users.SERVER).read_text()
    config = tmp_path / "nats-server.conf"
    config.write_text(f'jetstream {{ store_dir: "{tmp_path}/js" }}\ninclude "users/{users.SERVER}"\n')
    subprocess.run([find_binary(), "-t", "-c", config], check=True, capture_output=True, timeout=60)


def test_others_stay_as_they_are_when_workers_are_added(tmp_path: Path) -> None:
    done(tmp_path, "--worker", "a")
    before = contents(tmp_path)
    (tmp_path / "worker-a.nk").rename(tmp_path / "moved")  # to where it is used
    said = done(tmp_path, "--worker", "b", "--worker", "a")
    assert "left worker-a as it was" in said
    after = contents(tmp_path)
    assert not (tmp_path / "worker-a.nk").exists()
    assert {name: after[name] for name in before if name.endswith(".nk") and name != "worker-a.nk"} == {
        name: text for name, text in before.items() if name.endswith(".nk") and name != "worker-a.nk"
    }
    assert public_of(before["worker-a.nk"].strip()) in after[users.SERVER]
    done(tmp_path)
    assert contents(tmp_path) == after


def test_a_part_may_be_made_alone(tmp_path: Path) -> None:
    done(tmp_path, "--part", "gateway")
    assert set(users.read(tmp_path).parts) == {"gateway"}
    done(tmp_path)
    assert set(users.read(tmp_path).parts) == set(users.ALONE)


@pytest.mark.parametrize(
    "name", ["a.b", "a b", ">", "*", "a*", "", "A", "-a", "a\n", "a/../b", '"', "ä", "x" * 64, "}", "$a"]
)
def test_a_worker_has_a_name_that_stands_for_itself(tmp_path: Path, name: str) -> None:
    assert "no name of a worker" in refused(tmp_path, "--worker", name)
    assert not (tmp_path / users.SERVER).exists()


def test_what_cannot_be_meant_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    done(tmp_path, "--worker", "a")
    before = contents(tmp_path)
    assert "'b' is given twice" in refused(tmp_path, "--worker", "b", "--worker", "b")
    assert "no user 'worker-c'" in refused(tmp_path, "--remove", "worker-c", "--yes")
    assert "no user 'a'" in refused(tmp_path, "--rotate", "a", "--yes")
    assert "to be renewed and removed" in refused(
        tmp_path, "--rotate", "worker-a", "--remove", "worker-a", "--yes"
    )
    assert "pass --yes" in refused(tmp_path, "--remove", "worker-a")
    assert "'x' is not one of" in refused(tmp_path, "--part", "x")
    assert "'worker' is not one of" in refused(tmp_path, "--part", "worker")
    assert "--check changes nothing" in refused(tmp_path, "--check", "--worker", "b")
    assert contents(tmp_path) == before


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "gateway.nk").write_text("mine")
    assert "gateway.nk is there" in refused(tmp_path)
    assert contents(tmp_path) == {"gateway.nk": "mine"}
    (tmp_path / "gateway.nk").unlink()
    done(tmp_path)
    server = tmp_path / users.SERVER
    assert is_untouched(server.read_text())
    server.write_text(server.read_text().replace("jetstream: enabled", "jetstream: disabled"))
    assert "was changed" in refused(tmp_path, "--worker", "a")
    done(tmp_path, "--worker", "a", "--yes")
    assert is_untouched(server.read_text())
    (tmp_path / users.USERS).write_text('{"parts": {"gateway": "}{"}, "workers": {}}')
    assert "is not as" in refused(tmp_path, "--worker", "b")


def test_a_renewed_key_replaces_the_one_before_and_a_removed_user_is_gone(tmp_path: Path) -> None:
    done(tmp_path, "--worker", "a", "--worker", "b")
    before = contents(tmp_path)
    done(tmp_path, "--rotate", "worker-a", "--rotate", "keeper", "--remove", "worker-b", "--yes")
    after = contents(tmp_path)
    assert "worker-b.nk" not in after
    for name in ("worker-a.nk", "keeper.nk"):
        assert after[name] != before[name]
        assert public_of(before[name].strip()) not in after[users.SERVER]
        assert public_of(after[name].strip()) in after[users.SERVER]
    assert public_of(before["worker-b.nk"].strip()) not in after[users.SERVER]
    assert after["gateway.nk"] == before["gateway.nk"]
    done(tmp_path, "--worker", "b")
    assert contents(tmp_path)["worker-b.nk"] != before["worker-b.nk"]


async def test_it_tries_the_keys_at_the_broker_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(tmp_path, "a") as site:
        users.change(site.users, parts=[], workers=["late"], rotate=["keeper"], remove=[])
        site.key("pusher").unlink()
        result = await asyncio.to_thread(run, site.users, "--check", "--nats", site.url)
    lines = dict(line.partition(": ")[::2] for line in result.output.splitlines())
    assert result.exit_code == 1
    assert lines["gateway.nk"] == lines["worker-a.nk"] == "may do all that it must"
    assert "uthorization" in lines["keeper.nk"]
    assert "uthorization" in lines["worker-late.nk"]
    assert lines["pusher.nk"] == "not here, so not tried"


# --- Keys


def test_keys_are_those_of_other_programs() -> None:
    # Source: the documentation of NATS on NKey authentication.
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    assert public_of(seed) == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    assert len({new_seed() for _ in range(100)}) == 100


def test_the_credentials_of_nsc_are_read_too() -> None:
    seed = new_seed()
    found = credentials_in(
        f"-----BEGIN NATS USER JWT-----\nab.c-d.e_f\n------END NATS USER JWT------\n\nIMPORTANT\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    assert (found.seed, found.token) == (seed, "ab.c-d.e_f")


@pytest.mark.parametrize(
    "text",
    ["", "x", new_seed()[:-1], new_seed()[:-1] + "!", "SUA" + "A" * 55, f"{new_seed()}\n{new_seed()}",
     "SAAHZXKJ4PJWTRXJHYLTHZTDK7VSSYNSMFTMGAVAYQJNDPBO6QSJ2HJOWE"],
    ids=["empty", "a letter", "cut", "no base32", "no checksum", "two", "of an account"],
)  # fmt: skip
def test_what_is_no_key_of_a_user_is_refused(text: str) -> None:
    with pytest.raises(NKeyError):
        credentials_in(text)


def test_a_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "key.nk"
    settings = Settings(nats_credentials=path)
    with pytest.raises(
        SettingsError, match=r"SWITCHYARD_NATS_CREDENTIALS: .*key\.nk cannot be read: No such"
    ):
        credentials_of(settings)
    path.write_text(new_seed())
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"can be read by others; chmod 600"):
        credentials_of(settings)
    path.chmod(0o600)
    assert credentials_of(settings) == files.read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is no text"):
        credentials_of(settings)
    assert credentials_of(Settings()) is None
