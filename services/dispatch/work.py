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


class Work(NamedTuple):
    """One delivery of a claimable event.

    Args:
        subject: that of the event in `JOBS`.
        seq: that of the event in `JOBS`.
        body: the event.
        reply: where acknowledgement, renewal and hand-back go.
        delivery: what the broker says of it; `seq` is of the message in `WORK`.
        priority: that of its lane.
        grant: the tokens that its start takes, where its lane has limits.
        trace: W3C trace context of the event, or "".
    """

    subject: str
    seq: Seq
    body: bytes
    reply: str
    delivery: Delivery
    priority: int
    grant: Grant | None = None
    trace: str = ""

    @property
    def consumer(self) -> str:
        """Whose message it is."""
        return self.delivery.consumer


def parse_work(message: Msg) -> tuple[str, Work]:
    """The consumer's name and what it delivered.

    Source: `Nats-Stream-Source` reads `<stream> <seq> <filter> <transform> <subject> …`. What does not is no
    event of a job, and its work has no subject.
    """
    delivery = delivery_of(message)
    headers: Any = message.headers
    priority = int(message.subject.rpartition(".")[2])  # as that of the consumer
    try:
        if isinstance(headers, LazyHeaders):
            found, trace = headers.find(SOURCE), headers.find(TRACE)
        else:
            found, trace = headers[subjects.H_SOURCE], headers.get(subjects.H_TRACE)
        source = str(found).split(" ")
        subject, seq = source[4], Seq(int(source[1]))
    except (LookupError, ValueError):
        subject, seq, trace = "", Seq(0), ""
    return delivery.consumer, Work(
        subject, seq, message.data, message.reply, delivery, priority, trace=checked(trace)
    )
