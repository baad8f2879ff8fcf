"""Work messages of jobs that have ended, in lanes where no job waits or runs any more.

A worker that pulls such a message sees that the job has ended, and it goes. Where no worker fits the lane, it
would stay, the lane would never be empty, and it would count for its tenant for ever.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog
from nats.aio.client import Client

from events import subjects
from projections.reader import ReadModel
from services.log_reader import api, last_message

log = structlog.get_logger()

AT_ONCE = 500
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


def _in_use(read_model: ReadModel) -> set[str]:
    """The subjects of lanes in which jobs wait or run."""
    return {
        subjects.work(queue["lane"], queue["priority"])
        for queue in read_model.queues(tenant=None)
        if any(queue[state] for state in HELD)
    }
