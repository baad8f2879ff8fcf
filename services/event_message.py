"""An event as the broker takes it: subject, body and the headers that guard it and say whose it is."""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

from switchyard.events import subjects
from switchyard.events.encoding.codec import write
from switchyard.events.events import AnyEvent, Archived
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.services.ids import process_token

KEY_ACTOR: Final = "key:"

# Ids of events: unique to this process and then counted, which is cheaper than drawing each at random.
_COUNT: Final = itertools.count(1)


class Message(NamedTuple):
    """A guarded write as it goes on the wire."""

    subject: str
    body: bytes
    headers: bytes
    event_id: str


def message_of(
    job: Job, event: AnyEvent, actor: str, trace: str, key: str = "", *, home: str = "", ttl_s: float = 0.0
) -> Message:
    """The write of an event that was decided on a state of its job.

    Args:
        job: the state; the write is refused if the job has a later event.
        event: what happened.
        actor: who did it.
        trace: W3C trace context, or "".
        key: the id of the API key that it came with, where the actor does not say so.
        home: the actor's own tenant, where it acts for another.
        ttl_s: for how long the broker keeps an event that archives a job; 0 for ever.

    Raises:
        UnwritableError: the event holds a value that no reader could read.
    """
    subject, body = write(job.id, event)
    spec: JobSpec | None = getattr(event, "job", None)
    event_id = f"{process_token()}-{next(_COUNT):x}"
    tenant, kind = (spec.tenant, spec.kind) if spec else (job.tenant, job.kind)
    # Spelled out, for this is done for every event; names of tenants and kinds were checked at the door.
    block = (
        f"NATS/1.0\r\n{subjects.H_MSG_ID}: {event_id}\r\n{subjects.H_EXPECTED_SEQ}: {job.seq}\r\n"
        f"{subjects.H_EXPECTED_SUBJECT}: {subjects.job_filter(job.id)}\r\n"
        f"{subjects.H_TENANT}: {tenant}\r\n{subjects.H_KIND}: {kind}\r\n"
        f"{subjects.H_ACTOR}: {_one_line(actor)}\r\n"
    )
    if key or actor.startswith(KEY_ACTOR):
        block += f"{subjects.H_KEY}: {_one_line(key or actor.removeprefix(KEY_ACTOR))}\r\n"
    if home:
        block += f"{subjects.H_HOME}: {_one_line(home)}\r\n"
    if trace:
        block += f"{subjects.H_TRACE}: {_one_line(trace)}\r\n"
    if ttl_s and isinstance(event, Archived):
        block += f"{subjects.H_TTL}: {math.ceil(ttl_s)}s\r\n"
    return Message(subject, body, f"{block}\r\n".encode(), event_id)


def _one_line(value: str) -> str:
    """The value without what would begin another header."""
    return value if value.isprintable() else "".join(char for char in value if char.isprintable())
