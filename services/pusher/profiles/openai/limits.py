"""How long a server asks to be left alone: by Retry-After, or by what it says of its rate limits. Pure.

Source: OpenAI, Rate limits: `x-ratelimit-remaining-requests`, `-tokens` and `x-ratelimit-reset-*`, the latter
as durations such as `6m0s` or `20ms`. Others send seconds, or a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from switchyard.services.pusher.calling import MOST_REST_S
from switchyard.services.pusher.calling import rest_s as retry_after_s

REMAINING: Final = "x-ratelimit-remaining-"
RESET: Final = "x-ratelimit-reset-"
SORTS: Final = ("requests", "tokens", "input-tokens", "output-tokens", "")
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|d|h|m|s)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_ZERO: Final = re.compile(r"-[0-9]+|0+(?:\.0*)?")
_UNITS: Final = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_EPOCH_S: Final = 10.0**8
"""A number of seconds beyond this is a time and no duration."""


def rest_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a server which is full asks for; None where it does not say, or says it unreadably."""
    if (text := headers.get("retry-after-ms")) is not None and _NUMBER.fullmatch(text.strip()):
        return min(MOST_REST_S, float(text) / 1000)
    found = retry_after_s(headers.get("Retry-After"))
    return found if found is not None else spent_s(headers, now)


def spent_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until a limit that is used up is full again; None where none is used up, as far as it says."""
    waits = []
    for sort in SORTS:
        name = f"{REMAINING}{sort}".rstrip("-")
        left = headers.get(name)
        if left is not None and _ZERO.fullmatch(left.strip()):
            waits.append(duration_s(headers.get(f"{RESET}{sort}".rstrip("-")), now))
    known = [wait for wait in waits if wait is not None]
    return max(known) if known else None


def duration_s(text: str | None, now: datetime) -> float | None:
    """Seconds of `6m0s`, `20ms`, `12.5` or an RFC 3339 time, at most five minutes; None for anything else."""
    if text is None or len(text) > 64:
        return None
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        return _bounded(number - now.timestamp() if number > _EPOCH_S else number)
    if _WHOLE.fullmatch(text):
        return _bounded(sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text)))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return _bounded((at - now).total_seconds())


def _bounded(seconds: float) -> float:
    return min(MOST_REST_S, max(0.0, seconds))
