"""Random logs: the lives of a few jobs, interleaved, as messages of the log."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import strategies as st

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Discard, Repair, Submit
from switchyard.events.encoding.codec import fold
from switchyard.events.errors import ConflictError, NewerVersionError
from switchyard.events.job import Job, decide, evolve
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections.fold import Message
from tests.events.examples import NOW, commands, encode, subject_of

PARENTS = tuple(f"01940000-0000-7000-9000-{n:012}" for n in range(2))

SPECS = st.builds(
    JobSpec,
    kind=st.sampled_from(("simulate", "convert")),
    tenant=st.sampled_from(("acme", "beta")),
    lane=st.sampled_from(("lane-a", "lane-b")),
    priority=st.sampled_from((25, 50)),
    labels=st.dictionaries(st.sampled_from(("env", "team", "batch")), st.sampled_from(("red", "blue"))),
    max_attempts=st.just(2),
    size_bytes=st.integers(0, 3),
    depends_on=st.sampled_from(((), PARENTS[:1], PARENTS)),
)

OURS = {"Switchyard-Tenant": "acme", "Switchyard-Kind": "simulate", "Nats-Msg-Id": "w-1"}
UNREADABLE: tuple[tuple[str, dict[str, str] | None, bytes], ...] = (
    ("job.{}.succeeded", OURS, b'{"v":1,"fence":"x"}'),
    ("job.{}.succeeded", OURS, b'{"v":2,"at":"2026-01-02T03:04:05Z"}'),
    ("job.{}.hello", None, b"hi"),
    ("job.{}.queued.lane-a.x", None, b"\xff"),
    ("job.hello", None, b"hi"),
    ("job.not-an-id.submitted", OURS, b"{}"),
    ("job.{}", OURS, b"{}"),
)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Message], dict[str, Job]]:
    """Messages in the order of the log, and what each job has come to."""
    ids = [f"01940000-0000-7000-8000-{n:012}" for n in range(draw(st.integers(1, 6)))]
    jobs = {job_id: Job(id=JobId(job_id)) for job_id in ids}
    messages: list[Message] = []
    now: datetime = NOW
    seq = 0
    for _ in range(draw(st.integers(1, 40))):
        now += timedelta(seconds=draw(st.sampled_from((0, 1, 400, 40000))))
        job = jobs[draw(st.sampled_from(sorted(jobs)))]
        if draw(st.integers(0, 9)) == 0:
            seq += 1
            subject, headers, body = draw(st.sampled_from(UNREADABLE))
            subject = subject.format(job.id)
            messages.append((subject, headers, body, Seq(seq)))
            if subjects.job_of(subject) == job.id:
                jobs[job.id] = fold(job, subject, body, Seq(seq), headers)
            continue
        if job.status is Status.ABSENT and job.damage is None:
            command: AnyCommand = Submit(now=now, job=draw(SPECS))
        else:
            repairs: list[AnyCommand] = (
                [Repair(now=now, by="root"), Discard(now=now, by="root")] if job.damage else []
            )
            command = draw(st.sampled_from([*commands(job, now), *repairs * 5]))
        try:
            event = decide(job, command)
        except (ConflictError, NewerVersionError):
            continue
        if event is None:
            continue
        seq += draw(st.sampled_from((1, 1, 1, 7)))  # purged messages leave gaps
        jobs[job.id] = job = evolve(job, event, Seq(seq))
        messages.append((subject_of(event, job.id), None, encode(event), Seq(seq)))
    return messages, {job.id: job for job in jobs.values() if job.seq}
