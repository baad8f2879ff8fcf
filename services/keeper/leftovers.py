"""Work messages of jobs that have ended.

A worker that pulls such a message sees that the job has ended, and it goes. Where no worker fits the lane, it
would stay, the lane would never be empty, and it would count for its tenant for ever. A lane in which no job
waits or runs any more is purged whole; in another one, the messages of such jobs are deleted one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import last_message, read_range
from switchyard.services.keeper.stale import delete

log = structlog.get_logger()

AT_ONCE = 500
PAGE = 100  # a message may have a payload of 256 KiB
MOST = 20_000  # of one lane in one sweep
HELD = ("waiting", "running", "cancelling")


class _Last(NamedTuple):
    """A lane's last message: its place in `WORK`, and its event's in `JOBS`."""

    seq: int
    source: int


async def purge_leftovers(nc: Client, read_model: ReadModel, *, timeout_s: float) -> int:
    """Purge lanes in which the read model, come past all of their messages, knows of no job; how many.

    Raises:
        UnavailableError: the broker does not answer.
    """
    info = await api(nc, f"STREAM.INFO.{subjects.WORK}", {"subjects_filter": "work.>"}, timeout_s=timeout_s)
    filled = info["state"].get("subjects") or {} if "error" not in info else {}
    in_use = _in_use(read_model)
    candidates = [subject for subject in filled if subject not in in_use][:AT_ONCE]
    lasts: dict[str, _Last] = {}
    for subject in candidates:
        message = await last_message(nc, subjects.WORK, subject, timeout_s=timeout_s)
        if message is not None:
            lasts[subject] = _Last(message.seq, int(message.headers[subjects.H_SOURCE].split(" ")[1]))
    # Looked at again after the messages: what came into a lane since then is behind what is purged.
    reached, in_use = read_model.checkpoint().seq, _in_use(read_model)
    purged = 0
    for subject, last in lasts.items():
        if subject in in_use or last.source > reached:
            continue
        query = {"filter": subject, "seq": last.seq + 1}
        answer = await api(nc, f"STREAM.PURGE.{subjects.WORK}", query, timeout_s=timeout_s)
        if "error" not in answer:
            purged += 1
            log.info("leftovers_purged", subject=subject, messages=answer.get("purged"))
    return purged


async def delete_leftovers(nc: Client, read_model: ReadModel, *, timeout_s: float) -> int:
    """Delete what jobs that have ended left in lanes that hold more messages than jobs; how many.

    Raises:
        UnavailableError: the broker does not answer.
    """
    info = await api(nc, f"STREAM.INFO.{subjects.WORK}", {"subjects_filter": "work.>"}, timeout_s=timeout_s)
    filled = info["state"].get("subjects") or {} if "error" not in info else {}
    deleted = 0
    for queue in read_model.queues(tenant=None):
        lane, priority = queue["lane"], queue["priority"]
        jobs = sum(queue[state] for state in HELD)
        if not jobs or filled.get(subjects.work(lane, priority), 0) <= jobs:
            continue
        sources = await _sources(nc, subjects.work(lane, priority), timeout_s)
        # Asked after the messages were read: a job that is in its lane again has another message there.
        reached, needed = read_model.checkpoint().seq, read_model.claimable(lane, priority)
        for source, seq in sources.items():
            if source <= reached and source not in needed:
                deleted += await delete(nc, subjects.WORK, seq, timeout_s=timeout_s)
    if deleted:
        log.info("leftovers_deleted", messages=deleted)
    return deleted


async def _sources(nc: Client, subject: str, timeout_s: float) -> dict[int, int]:
    """The sequence in `WORK` of each message of a lane, by that of its event in `JOBS`."""
    found: dict[int, int] = {}
    start = 1
    while len(found) < MOST and (
        page := await read_range(nc, subjects.WORK, subject, start=start, limit=PAGE, timeout_s=timeout_s)
    ):
        found |= {int(message.headers[subjects.H_SOURCE].split(" ")[1]): message.seq for message in page}
        start = page[-1].seq + 1
    return found


def _in_use(read_model: ReadModel) -> set[str]:
    """The subjects of lanes in which jobs wait or run."""
    return {
        subjects.work(queue["lane"], queue["priority"])
        for queue in read_model.queues(tenant=None)
        if any(queue[state] for state in HELD)
    }
