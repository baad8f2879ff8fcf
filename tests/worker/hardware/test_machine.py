"""The machine's cores and memory, programs that hang, and what is declared in place of what is found."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.settings import Settings
from switchyard.services.worker.hardware import limits
from switchyard.services.worker.hardware.machine import Machine, declared_of, laid_over
from switchyard.services.worker.hardware.program import Program
from tests.site import DEADLINE_S
from tests.worker.hardware import recorded
from tests.worker.hardware.test_gpus import Recorded


class Absent(Program):
    @property
    def is_there(self) -> bool:
        return False


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def machine(root: Path, *answers: Any, **options: Any) -> Machine:
    return Machine({}, root=root, nvidia=Recorded(*answers), amd=Absent("rocm-smi"), **options)


MEMORY = {"proc/meminfo": "MemTotal:       65766004 kB\nMemFree: 1 kB\n"}


def test_limits_of_control_groups_count_and_those_above_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert (limits.cores(tmp_path), limits.ram_gb(tmp_path)) == (16, None)
    tree(tmp_path, MEMORY)
    assert limits.ram_gb(tmp_path) == 62.7
    two = {
        "proc/self/cgroup": "0::/a.slice/b.scope\n",
        "sys/fs/cgroup/a.slice/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a.slice/memory.max": "max\n",
        "sys/fs/cgroup/a.slice/b.scope/memory.max": "8589934592\n",
    }
    tree(tmp_path, two)
    assert (limits.cores(tmp_path), limits.ram_gb(tmp_path)) == (2.5, 8)


def test_limits_of_older_control_groups_count(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    one = {
        "proc/self/cgroup": "4:cpu,cpuacct:/d\n9:memory:/d\n1:name=systemd:/d\n",
        "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "9223372036854771712\n",
    }
    tree(tmp_path, MEMORY | one)
    assert (limits.cores(tmp_path), limits.ram_gb(tmp_path)) == (4, 62.7)


@pytest.mark.parametrize("said", ["", "x", "0 0", "1000", "max", "100 0", "-5 100", "\0"])
def test_limits_that_cannot_be_read_limit_nothing(tmp_path: Path, said: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    tree(tmp_path, {"proc/self/cgroup": "0::/../..\nnonsense\n", "sys/fs/cgroup/cpu.max": said})
    assert limits.cores(tmp_path) == 2


def test_a_program_that_hangs_is_left_and_none_is_started_beside_it(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nsleep 3600\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = Program("nvidia-smi", answer_s=0.3)
    assert program.run(["-L"]) is None
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\nsleep 20 &\necho "$1 $LC_ALL"\nexit 3\n')
    answer = Program("nvidia-smi", answer_s=DEADLINE_S).run(["-L"])
    assert answer is not None, "what it leaves behind is not waited for"
    assert (answer.code, answer.output) == (3, "-L C\n")
    (tmp_path / "nvidia-smi").write_text("no program")
    assert Program("nvidia-smi").run(["-L"]) is None
    assert Program("no-such-program").run([]) is None


def test_gpus_stay_while_their_program_once_does_not_answer(tmp_path: Path) -> None:
    looked = machine(tmp_path, recorded.ONE, None, None, recorded.ONE, recorded.NO_DEVICES)
    assert [bool(looked.look().get("gpu")) for _ in range(5)] == [True, True, False, True, False]


async def test_a_gpu_that_vanishes_is_noticed(tmp_path: Path) -> None:
    looked = machine(tmp_path, recorded.TWO_UNLIKE, recorded.TWO_UNLIKE, recorded.LOST, again_s=0.01)
    assert looked.look()["gpu"]["count"] == 2
    changed: asyncio.Queue[Any] = asyncio.Queue()
    following = asyncio.create_task(looked.follow(lambda: changed.put_nowait(looked.found["gpu"]["count"])))
    async with asyncio.timeout(DEADLINE_S):
        assert await changed.get() == 1
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_what_is_declared_goes_before_what_is_found(tmp_path: Path) -> None:
    found = machine(tmp_path, recorded.ONE).look()
    settings = Settings(gpu_count=2, gpu_memory_gb=20, gpu_model="mine", cpu_cores=3.5, worker_type="gpu")
    seen = laid_over(found, declared_of(settings))
    assert (seen["gpu"]["count"], seen["gpu"]["memory_gb"], seen["gpu"]["memory_total_gb"]) == (2, 20, 40)
    assert (seen["gpu"]["model"], seen["gpu"]["vendor"]) == ("mine", "nvidia")
    assert (seen["cpu"], seen["worker"]) == ({"cores": 3.5}, {"type": "gpu"})
    assert "gpu" not in laid_over(found, declared_of(Settings(gpu_count=0, gpu_model="x")))
    assert laid_over({}, declared_of(Settings(ram_gb=64))) == {"ram": {"total_gb": 64}}
    assert laid_over({}, declared_of(Settings(gpu_memory_gb=24))) == {
        "gpu": {"memory_gb": 24, "count": 1, "memory_total_gb": 24}
    }


def test_a_machine_that_is_not_to_be_looked_at_says_nothing() -> None:
    assert Machine({}, looks=False).look() == {}
