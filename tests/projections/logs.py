"""Random logs: the lives of a few jobs, interleaved, as messages of the log."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import strategies as st

from events import subjects
from events.codec import CLAIMABLE, encode, event_name
from events.commands import AnyCommand, Submit
from events.errors import ConflictError
from events.job import Job, decide, evolve
from events.spec import JobSpec, Status
from tests.events.examples import NOW, commands

Message = tuple[str, bytes, int]

SPECS = st.builds(
    JobSpec,
    kind=st.sampled_from(("simulate", "convert")),
    tenant=st.sampled_from(("acme", "beta")),
    lane=st.sampled_from(("lane-a", "lane-b")),
    priority=st.sampled_from((25, 50)),
    labels=st.dictionaries(st.sampled_from(("env", "team")), st.sampled_from(("red", "blue"))),
    max_attempts=st.just(2),
    size_bytes=st.integers(0, 3),
    depends_on=st.sampled_from(((), ("0194-x",), ("0194-x", "0194-y"))),
)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Message], dict[str, Job]]:
    """Messages in the order of the log, and what each job has come to."""
    jobs = {f"0194-{n}": Job(id=f"0194-{n}") for n in range(draw(st.integers(1, 6)))}
    messages: list[Message] = []
    now: datetime = NOW
    seq = 0
    for _ in range(draw(st.integers(1, 40))):
        now += timedelta(seconds=draw(st.sampled_from((0, 1, 400, 40000))))
        job = jobs[draw(st.sampled_from(sorted(jobs)))]
        if job.status is Status.ABSENT:
            command: AnyCommand = Submit(now=now, job=draw(SPECS))
        else:
            command = draw(st.sampled_from(commands(job, now)))
        try:
            event = decide(job, command)
        except ConflictError:
            continue
        if event is None:
            continue
        seq += draw(st.sampled_from((1, 1, 1, 7)))  # purged messages leave gaps
        jobs[job.id] = job = evolve(job, event, seq)
        name = event_name(event)
        subject = (
            subjects.claimable_event(job.id, name, job.lane, job.priority)
            if name in CLAIMABLE
            else subjects.job_event(job.id, name)
        )
        messages.append((subject, encode(event), seq))
    return messages, {job.id: job for job in jobs.values() if job.status is not Status.ABSENT}
