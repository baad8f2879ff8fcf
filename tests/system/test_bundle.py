"""The bundle: one file that is a whole worker, without the internet and without an environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bundle

pytestmark = [pytest.mark.drill, pytest.mark.timeout(3600)]


def test_the_bundle_runs_in_an_empty_environment_without_a_network(tmp_path: Path) -> None:
    file = bundle.build(tmp_path / "dist", [])
    python = Path(sys.executable).resolve()
    alone = ["env", "-i", f"PEX_ROOT={tmp_path / 'root'}", f"HOME={tmp_path}"]
    if shutil.which("unshare") and not subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        alone = [*alone, "unshare", "-rn"]
    command = [*alone, str(python), str(file), "worker", "--kinds", "simulate"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, text=True, capture_output=True, timeout=600, check=False
        )

    unreachable = run("--nats", "nats://127.0.0.1:1")
    assert unreachable.returncode != 0
    assert "no broker answers at nats://127.0.0.1:1" in unreachable.stderr, unreachable.stderr
    unit = run("--install-service", "user", "--print").stdout
    assert f"ExecStart={python} {file} worker --kinds simulate\n" in unit
