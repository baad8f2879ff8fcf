"""A line of the ledger: one attempt that has ended, what it used and how it ended.

Amounts are whole millionths of a unit, so that sums are exact in whatever order they are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.numbers import Time

MICRO: Final = 10**6
MOST: Final = 10**12
"""Units of one kind that one attempt can be billed for."""
RUN: Final = "run_s"
"""The unit of the seconds that an attempt ran; every line has it."""
ATTEMPTS: Final = "attempts"
"""The unit of attempts themselves, of which every line has one."""
OURS: Final = frozenset({RUN, ATTEMPTS})
MAX_LEVELS: Final = 8
OPERATION_CHARS: Final = 40

Amount = Annotated[int, Meta(ge=0, le=MOST * MICRO)]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One attempt that has ended.

    Args:
        id: that of the event by which the line counts; no two lines have the same.
        seq: that event's sequence in `JOBS`.
        job: whose attempt.
        attempt: which.
        fence: that of its lease.
        tenant: whose job.
        kind: the job's.
        operation: the word for the way it came by, such as `batch`; "" for none, as in older lines.
        key: the id of the API key that submitted the job, or "".
        worker: who ran it.
        engine: what did the work: the back end that carried it on, as `<kind>/<id>`, or the worker.
        units: millionths by unit: what the handler reported, `run_s` and `attempts`.
        refused: what it reported and nobody can be billed for: amounts below 0 or over `MOST`, and those
            under a name of ours.
        started_at: when it started, by the broker's clock as all times here.
        ended_at: when its lease ended.
        at: when it counts: as it ended or, where a reviewer judged it, as that was decided.
        outcome: the ending event's name, or why the job went back.
    """

    id: str
    seq: int
    job: str
    attempt: int
    fence: int
    tenant: str
    kind: str
    operation: str = ""
    key: str = ""
    worker: str
    engine: str
    units: dict[str, Amount]
    refused: dict[str, float] = {}
    started_at: Time
    ended_at: Time
    at: Time
    outcome: str


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Line)


def amounts_of(usage: Mapping[str, float], run_s: float) -> tuple[dict[str, int], dict[str, float]]:
    """What a line holds of a usage that was reported, and what it refuses of it.

    An amount is rounded to the nearest millionth, and to the even one of two.
    """
    units = {RUN: micro(max(0.0, run_s)), ATTEMPTS: MICRO}
    refused: dict[str, float] = {}
    for name, amount in usage.items():
        if name in OURS or not math.isfinite(amount) or not 0 <= amount <= MOST:
            refused[name] = amount
        else:
            units[name] = micro(amount)
    return units, refused


def micro(amount: float) -> int:
    """An amount in whole millionths."""
    return int((Decimal(amount) * MICRO).to_integral_value(ROUND_HALF_EVEN))


def shown(amount: int) -> str:
    """Millionths as a decimal number of units, without needless zeros."""
    whole, rest = divmod(amount, MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".") if rest else str(whole)


def encode(line: Line) -> bytes:
    """A line as it stands in a message."""
    return _ENCODER.encode(line)


def page(lines: Iterable[bytes]) -> bytes:
    """The body of a message that holds these lines."""
    return b"\n".join(lines)


def lines_of(body: bytes) -> list[Line]:
    """The lines of a message.

    Raises:
        ValueError: one of them cannot be read, or a newer version wrote it.
    """
    found = []
    for line in body.split(b"\n"):
        if deeper_than(line, MAX_LEVELS):
            raise ValueError("a line is nested too deeply")
        found.append(_DECODER.decode(line))
    return found
