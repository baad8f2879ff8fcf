"""Three brokers in network namespaces, of which one is killed, stopped or cut off under load."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from benchmarks import drill

pytestmark = [pytest.mark.system, pytest.mark.drill, pytest.mark.timeout(3600)]
PROBE = "swprobe"


def lacks() -> str:
    """What this machine lacks for network namespaces; empty if nothing."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs Linux, root and iproute2"
    made = subprocess.run(["ip", "netns", "add", PROBE], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", PROBE], capture_output=True, check=False)
    return "" if made.returncode == 0 else f"cannot make a network namespace: {made.stderr.strip()}"


async def test_a_broker_that_is_killed_stopped_or_cut_off_costs_no_job() -> None:
    if why := lacks():
        pytest.skip(why)
    assert await drill.main(list(drill.CASES), 1, None, "") == 0
