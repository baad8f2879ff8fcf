"""The type checker refuses what the program would run with: one id or number in the place of another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MIXED_UP: Final = """
from datetime import datetime
from switchyard.events import subjects
from switchyard.events.commands import Complete, Fail, FailDependency, Requeue, TakeLease
from switchyard.events.job import Job, decide, evolve
from switchyard.events.events import AnyEvent
from switchyard.events.values import Lease, Status
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Revision, Seq, WorkerId

def right(job: Job, lease: Lease, event: AnyEvent, now: datetime) -> None:
    Complete(now=now, fence=lease.fence)
    TakeLease(now=now, worker=lease.worker, revision=lease.revision)
    Requeue(now=now, claimable_seq=job.claimable_seq)
    subjects.claimable_event(job.id, "queued", job.lane, job.priority)
    evolve(job, event, Seq(job.seq + 1))

def wrong(job: Job, lease: Lease, event: AnyEvent, now: datetime) -> None:
    Complete(now=now, fence=job.seq)  # a sequence is no fence
    Complete(now=now, fence=lease.attempt)  # nor is a count
    TakeLease(now=now, worker=lease.worker, revision=lease.fence)  # a fence is no revision
    TakeLease(now=now, worker=job.id, revision=lease.revision)  # a job is no worker
    Requeue(now=now, claimable_seq=lease.fence)  # a fence is not the sequence that was asked for
    FailDependency(now=now, dependency=job.lane, outcome=Status.DEAD)  # a lane is no job
    subjects.claimable_event(job.lane, "queued", job.id, job.priority)  # the wrong way round
    subjects.lane_consumer(lease.worker, job.priority)  # a worker is no lane
    evolve(job, event, job.priority)  # a priority is no sequence
    lease.fence == job.id  # an integer is no text
"""


def test_mixed_up_ids_and_sequences_are_type_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    snippet = tmp_path / "mixed_up.py"
    snippet.write_text(MIXED_UP)
    options = ("--strict", "--no-pretty", "--config-file", "", "--cache-dir", str(tmp_path / "cache"))
    # In a process of its own: it raises the recursion limit of whoever calls it.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(snippet)], capture_output=True, text=True, check=False
    )
    out = done.stdout
    assert not done.stderr
    lines = MIXED_UP.splitlines()
    meant = {number for number, line in enumerate(lines, 1) if line.startswith("    ") and "  # " in line}
    found = {int(number) for number in re.findall(r"mixed_up\.py:(\d+): error", out)}
    assert len(meant) == 10
    assert found == meant, out
