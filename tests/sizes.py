"""Two sizes of a test: a small one for every run of the tests, and the full one for `make drill`."""

from __future__ import annotations

from typing import Any, Final

import hypothesis
import pytest

BRIEF: Final = "brief"
"""The profile of Hypothesis for every run: the same examples each time, and no limit of time."""
FULL: Final = "full"
"""That of `make drill`: other examples each time."""
SHARE: Final = 0.4
"""What part of the full number of examples a property gets in every run."""


def sizes(small: Any, full: Any, *, timeout_s: float) -> list[Any]:
    """Parameters of a drill.

    Args:
        small: that of the run that takes seconds.
        full: that of the one that takes minutes.
        timeout_s: that of the latter.
    """
    marks = [pytest.mark.drill, pytest.mark.timeout(timeout_s)]
    return [pytest.param(small, id="small"), pytest.param(full, id="full", marks=marks)]


def in_drill(*values: Any) -> Any:
    """A set of parameters that `make drill` alone takes."""
    return pytest.param(*values, marks=pytest.mark.drill)


def examples(full: int) -> int:
    """How many examples a property gets; the full number under the profile `full`."""
    return full if hypothesis.settings.get_current_profile_name() == FULL else round(full * SHARE)


def load_profiles() -> None:
    """Make the profiles of Hypothesis and take the brief one; `--hypothesis-profile` takes another."""
    calm = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.register_profile(BRIEF, calm, max_examples=round(100 * SHARE), derandomize=True)
    hypothesis.settings.register_profile(FULL, calm)
    hypothesis.settings.load_profile(BRIEF)
