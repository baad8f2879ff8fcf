"""When a failed job is tried again."""

from __future__ import annotations

from typing import Annotated

import msgspec

from events.values import Seconds


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
