"""Two sizes of a drill: a small one for every run of the tests, and the full one for `make drill`."""

from __future__ import annotations

from typing import Any

import pytest


def sizes(small: Any, full: Any, *, timeout_s: float) -> list[Any]:
    """Parameters of a drill.

    Args:
        small: that of the run that takes seconds.
        full: that of the one that takes minutes.
        timeout_s: that of the latter.
    """
    marks = [pytest.mark.drill, pytest.mark.timeout(timeout_s)]
    return [pytest.param(small, id="small"), pytest.param(full, id="full", marks=marks)]
