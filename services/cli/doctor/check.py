"""A finding of `switchyard doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from switchyard.services.settings import SKEW_S


@dataclass(frozen=True)
class Check:
    """One finding; `advice` says what to do about it."""

    what: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def clock_check(what: str, ahead_s: float, error_s: float) -> Check:
    """How far a clock is from the broker's."""
    found = f"{ahead_s:+.3f} s from the broker, to within {error_s * 1000:.1f} ms"
    if abs(ahead_s) - error_s <= SKEW_S:
        return Check(what, "ok", found)
    advice = "the broker's time counts, but logs have another: synchronise the clocks (chrony, ntp)"
    return Check(what, "warn", found, advice)
