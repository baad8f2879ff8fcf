"""A log and buckets that the version before this one wrote, put into a fresh broker as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api

FILE = Path(__file__).with_name("log_of_before.jsonl")
"""Written by the version that first failed at 10**30: jobs by fate with their views, then all messages."""

FILLER = "job.filler"
TIMEOUT_S = 5.0


class OldLog(NamedTuple):
    """What is in it.

    Args:
        jobs: ids by fate.
        views: what the API said of each; without a state where it could not.
    """

    jobs: dict[str, str]
    views: dict[str, dict[str, Any]]


async def replay(nc: Client) -> OldLog:
    """Store every message again, those of the log under the sequences that they had."""
    head, *lines = FILE.read_text().splitlines()
    counts = json.loads(head)
    last = 0
    for line in lines:
        stream, seq, subject, headers, body = json.loads(line)
        while stream == subjects.JOBS and last + 1 < seq:  # what was purged with an archived job
            last = await _store(nc, FILLER, {}, b"")
        stored = await _store(nc, subject, headers, body.encode())
        if stream == subjects.JOBS:
            assert stored == seq
            last = seq
    await api(nc, f"STREAM.PURGE.{subjects.JOBS}", {"filter": FILLER}, timeout_s=TIMEOUT_S)
    return OldLog(counts["jobs"], counts["views"])


async def _store(nc: Client, subject: str, headers: dict[str, str], body: bytes) -> int:
    answer = json.loads((await nc.request(subject, body, TIMEOUT_S, headers=headers or None)).data)
    assert "seq" in answer, (subject, answer)
    return int(answer["seq"])
