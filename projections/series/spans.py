"""Spans of time counted in slots, so that sums over any number of them are as small as one.

A slot is an eighth of an octave of milliseconds: what is read from a middle of one is off by 6.25 % at most.
Source: HdrHistogram, buckets with sub-buckets of equal width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SUB_BITS: Final = 3
_SUBS: Final = 1 << _SUB_BITS
MOST_MS: Final = 1 << 40
"""35 years; what takes longer counts as that."""


def slot_of(span_us: int) -> int:
    """The slot of a span in microseconds; one below nothing counts as nothing."""
    span_ms = min(max(span_us, 0) // 1000, MOST_MS)
    if span_ms < _SUBS:
        return span_ms
    octave = span_ms.bit_length() - 1 - _SUB_BITS
    return (octave + 1) * _SUBS + ((span_ms >> octave) & (_SUBS - 1))


def bounds(slot: int) -> tuple[int, int]:
    """The first millisecond of a slot, and the first after it."""
    if slot < _SUBS:
        return slot, slot + 1
    octave, sub = slot // _SUBS - 1, slot % _SUBS
    return (_SUBS + sub) << octave, (_SUBS + sub + 1) << octave


def quantile_s(jobs: Mapping[int, int], share: float) -> float | None:
    """The span in seconds that this share of jobs does not exceed; None where there are none.

    Args:
        jobs: how many are in each slot.
        share: over 0, at most 1.
    """
    total = sum(jobs.values())
    if total <= 0:
        return None
    wanted = max(1, -(-total * round(share * 1000) // 1000))
    seen = 0
    for slot in sorted(jobs):
        seen += jobs[slot]
        if seen >= wanted:
            first, end = bounds(slot)
            return (first + end) / 2000
    raise AssertionError("the slots hold all jobs")
