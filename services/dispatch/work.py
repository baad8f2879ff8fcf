"""A delivery of a claimable event, as it comes out of `WORK`."""

from __future__ import annotations

from typing import Any, NamedTuple

from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import Seq
from switchyard.services.broker.puller import Delivery, delivery_of
from switchyard.services.broker.wire import LazyHeaders
from switchyard.services.dispatch.limit_tokens import Grant
from switchyard.services.telemetry.tracing import checked

SOURCE = subjects.H_SOURCE.encode()
TRACE = subjects.H_TRACE.encode()
TENANT = subjects.H_TENANT.encode()


class Work(NamedTuple):
    """One delivery of a claimable event.

    Args:
        subject: that of the event in `JOBS`.
        seq: that of the event in `JOBS`.
        body: the event.
        reply: where acknowledgement, renewal and hand-back go; "" for one that was taken by its name.
        delivery: what the broker says of it; `seq` is of the message in `WORK`.
        priority: that of its lane.
        grant: the tokens that its start takes, where its lane has limits.
        trace: W3C trace context of the event, or "".
        tenant: whose job it is; None where nobody asks.
        is_passed: whether another process has sent it here, which it did not fit.
    """

    subject: str
    seq: Seq
    body: bytes
    reply: str
    delivery: Delivery
    priority: int
    grant: Grant | None = None
    trace: str = ""
    tenant: str | None = None
    is_passed: bool = False

    @property
    def consumer(self) -> str:
        """Whose message it is."""
        return self.delivery.consumer


def source_of(header: object) -> tuple[str, Seq]:
    """The subject and the sequence in `JOBS` that a message of `WORK` comes from; "" and 0 without.

    Source: `Nats-Stream-Source` reads `<stream> <seq> <filter> <transform> <subject> …`. What does not is no
    event of a job, and its work has no subject.
    """
    source = str(header).split(" ")
    try:
        return source[4], Seq(int(source[1]))
    except (LookupError, ValueError):
        return "", Seq(0)


def parse_work(message: Msg) -> tuple[str, Work]:
    """The consumer's name and what it delivered."""
    delivery = delivery_of(message)
    headers: Any = message.headers or {}
    priority = int(message.subject.rpartition(".")[2])  # as that of the consumer
    if isinstance(headers, LazyHeaders):
        found, trace, tenant = headers.find(SOURCE), headers.find(TRACE), headers.find(TENANT)
    else:
        found, trace, tenant = map(headers.get, (subjects.H_SOURCE, subjects.H_TRACE, subjects.H_TENANT))
    subject, seq = source_of(found)
    return delivery.consumer, Work(
        subject, seq, message.data, message.reply, delivery, priority,
        trace=checked(trace if subject else None), tenant=tenant or "",
    )  # fmt: skip
