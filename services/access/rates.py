"""How often a caller may ask: a token bucket for each key and tenant that has a limit.

Every gateway counts for itself, so that no request waits for another process: with n gateways a caller that
uses all of them has at most n times its limit.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

MINUTE_S: Final = 60.0
SHARE_AT_ONCE: Final = 6
"""Where a limit does not say, a sixth of a minute's requests may come at once."""


class Rate(NamedTuple):
    """One limit.

    Args:
        name: what it limits, as the headers say it: `key` or `tenant`.
        of: whose: an id of a key or the name of a tenant.
        per_minute: requests a minute, on average.
        burst: how many of those at once; in any t seconds at most `burst + per_minute * t / 60` pass.
    """

    name: str
    of: str
    per_minute: int
    burst: int


class Left(NamedTuple):
    """What is left of a limit.

    Args:
        rate: the limit.
        requests: that may come now.
        full_s: seconds until all of the burst may come again.
        wait_s: seconds until the next may come; 0 when one may.
    """

    rate: Rate
    requests: int
    full_s: float
    wait_s: float


def burst_of(per_minute: int) -> int:
    """How many may come at once where a limit does not say."""
    return max(1, per_minute // SHARE_AT_ONCE)


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class Rates:
    """The buckets of one gateway.

    Args:
        size: how many are kept at most. The one that was idle for longest goes first: by then it is full, or
            so many others were asked since that its owner was slowed anyway.
        now: a clock that only goes forward, in seconds.
    """

    def __init__(self, *, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, rates: Iterable[Rate]) -> list[Left]:
        """Take one request from each limit, or from none where one of them has none left."""
        now = self._now()
        found = [(rate, self._filled(rate, now)) for rate in rates]
        if all(bucket.tokens >= 1 for _, bucket in found):
            for _, bucket in found:
                bucket.tokens -= 1
            return [_left(rate, bucket, 0.0) for rate, bucket in found]
        return [
            _left(rate, bucket, max(0.0, (1 - bucket.tokens) * MINUTE_S / rate.per_minute))
            for rate, bucket in found
        ]

    def _filled(self, rate: Rate, now: float) -> _Bucket:
        """The bucket with what has come in since it was last looked at."""
        name = (rate.name, rate.of)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(float(rate.burst), now)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(name)
        added = (now - bucket.at) * rate.per_minute / MINUTE_S
        bucket.tokens = min(float(rate.burst), bucket.tokens + added)
        bucket.at = now
        return bucket


def _left(rate: Rate, bucket: _Bucket, wait_s: float) -> Left:
    full_s = (rate.burst - bucket.tokens) * MINUTE_S / rate.per_minute
    return Left(rate, int(bucket.tokens), full_s, wait_s)


def headers(left: Iterable[Left]) -> dict[str, str]:
    """What shows a client its limits. Source: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.

    A policy's quota `q` may come within its window `w` in seconds; `r` is what may come at once, `t` the
    seconds until that is all of the burst again.
    """
    shown = list(left)
    if not shown:
        return {}
    window = int(MINUTE_S)
    return {
        "RateLimit-Policy": ", ".join(
            f'"{one.rate.name}";q={one.rate.per_minute};w={window}' for one in shown
        ),
        "RateLimit": ", ".join(
            f'"{one.rate.name}";r={one.requests};t={math.ceil(one.full_s)}' for one in shown
        ),
    }
