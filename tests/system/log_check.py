"""What the log of a correct system never shows, whatever was killed while it was written."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.job import Job, evolve
from switchyard.events.transitions import TRANSITIONS
from switchyard.services.broker.reader import read_range


@dataclass
class LogReport:
    """What a whole log came to.

    Args:
        jobs: each job's state after all of its events.
        events: count of events by name.
        faults: sentences about what should not be there.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def read_log(nc: Client) -> list[Recorded]:
    """Every event, in order."""
    entries: list[Recorded] = []
    start = 1
    while stored := await read_range(
        nc, subjects.JOBS, subjects.ALL_JOBS, start=start, limit=5000, timeout_s=20
    ):
        entries += [recorded(item.subject, item.headers, item.data, item.seq) for item in stored]
        start = stored[-1].seq + 1
    return entries


async def check_log(nc: Client) -> LogReport:
    """Fold the whole log and note every transition that the state machine does not have."""
    report = LogReport()
    finals: defaultdict[str, int] = defaultdict(int)
    for entry in await read_log(nc):
        job = report.jobs.get(entry.job_id, Job(id=entry.job_id))
        sources, _ = TRANSITIONS[entry.name]
        if job.status not in sources:
            report.faults.append(f"{entry.seq}: {entry.name} of {entry.job_id} while {job.status.value}")
        if entry.name in ("leased", "claimed") and job.lease is not None:
            report.faults.append(f"{entry.seq}: the leases of {entry.job_id} overlap")
        finals[entry.job_id] += entry.name in FINAL_EVENTS
        report.events[entry.name] += 1
        report.jobs[entry.job_id] = evolve(job, entry.event, entry.seq)
    report.faults += [f"{job_id} has {count} final events" for job_id, count in finals.items() if count != 1]
    return report
