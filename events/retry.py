"""When a job that failed, or was given back, is tried again."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from switchyard.events.numbers import Seconds

RELEASE_BASE_S: Final = 1.0
RELEASE_MAX_S: Final = 60.0
MAX_RELEASES: Final = 1000
"""Releases in a row after which a job is dead: at the longest delay, some 16 hours."""


class RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Delays before the next attempt: `base_s * factor ** (failures - 1)`, at most `max_s`, plus jitter.

    Args:
        base_s: seconds after the first failure.
        factor: what each further failure multiplies the delay by.
        max_s: the longest delay in seconds, before jitter.
        jitter: the largest share of the delay that is added at random, 0 to 1.
    """

    base_s: Seconds = 5.0
    factor: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 2.0
    max_s: Seconds = 3600.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.1


def retry_delay_s(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Seconds to wait after the given count of failures.

    Args:
        policy: the job's retry policy.
        failures: failures so far, this one included; at least 1.
        jitter: a random number of 0 to 1, drawn by the caller.
    """
    # The exponent is capped: 1.01 ** 10**6 would overflow long after max_s is reached.
    delay = min(policy.max_s, policy.base_s * policy.factor ** min(failures - 1, 64))
    return delay * (1 + policy.jitter * jitter)


def release_delay_s(releases: int, jitter: float) -> float:
    """Seconds to wait after a handler has given a job back; none the first time, then more and more.

    Args:
        releases: releases in a row so far, this one included; at least 1.
        jitter: a random number of 0 to 1, drawn by the caller.
    """
    if releases < 2:
        return 0.0
    return min(RELEASE_MAX_S, RELEASE_BASE_S * 2.0 ** min(releases - 2, 16)) * (1 + 0.1 * jitter)
