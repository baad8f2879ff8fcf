"""A finding of `switchyard doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One finding; `advice` says what to do about it."""

    what: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
